"""Run a check over the batches of an evaluation, in eval mode and float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._check import require
from advcl_nb.data import to_float
from advcl_nb.models import Encoder, evaluating

BATCH = 250


def over_batches(
    model: nn.Module, images: Tensor, labels: Tensor, name: str, check: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return ``check(float images, labels)`` of each batch, concatenated; the model comes back as it was."""
    check_evaluable(model, images, labels)
    pairs = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    with evaluating(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        bar = tqdm(pairs, desc=name, unit="batch", leave=False, delay=2)
        return torch.cat([check(to_float(x), y) for x, y in bar])


def check_evaluable(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless `model` can be a classifier, and the labels and images fit it and each other."""
    todo = "Fine-tune one first: adv.FinetuneState.start(config, encoder, classes)."
    require(not isinstance(model, Encoder), "model", "a model that gives logits", type(model), todo)
    require(len(images) == len(labels) > 0, "labels", f"{len(images)} labels, one an image", labels)
    require(bool((labels >= 0).all()), "labels", "class numbers from 0", labels, "Leave unlabelled images out.")
    inside = images.dtype == torch.uint8 or bool(images.max() <= 1 + 1e-3)
    require(inside, "images", "uint8, or floats in [0, 1]", images, "Convert with adv.to_float(uint8 images).")
