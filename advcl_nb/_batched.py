"""Run a check over the batches of an evaluation, in eval mode and float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._check import describe, require
from advcl_nb.data import Images, to_float
from advcl_nb.models import AdvCLModel, Encoder, evaluating

BATCH = 250
SLACK = 1e-5  # of rounding, beyond [0, 1]


def over_batches(
    model: nn.Module, images: Tensor, labels: Tensor, name: str, check: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return ``check(float images, labels)`` of each batch, concatenated; the model comes back as it was."""
    check_evaluable(model, images, labels)
    pairs = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    with evaluating(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        bar = tqdm(pairs, desc=name, unit="batch", leave=False, delay=2)
        return torch.cat([check(to_float(x), y) for x, y in bar])


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of each float image's own cross-entropy in its pixels, of the shape of `x`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x), y, reduction="sum")
        todo = "Take no_grad and detach out of its forward; a model without a gradient cannot be attacked along it."
        require(loss.requires_grad, "model", "logits that depend on the images", "logits cut off from them", todo)
        return torch.autograd.grad(loss, x)[0]


def check_evaluable(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless `model` gives logits, and the images and labels fit it and each other."""
    todo = "Of a state write state.classifier."
    require(isinstance(model, nn.Module), "model", "a torch.nn.Module", type(model), todo)
    todo = "Fine-tune one first: adv.FinetuneState.start(config, encoder, classes)."
    require(not isinstance(model, (Encoder, AdvCLModel)), "model", "a model that gives logits", type(model), todo)
    check_images(images)
    require(isinstance(labels, Tensor), "labels", "a tensor", type(labels), "Write torch.as_tensor(labels).")
    todo = "" if labels.dtype == torch.int64 else "Write labels.long()."
    fits = labels.dtype == torch.int64 and labels.shape == images.shape[:1]
    require(fits, "labels", f"{len(images)} int64 class numbers (n,), one an image", labels, todo)
    same = labels.device == images.device
    require(same, "labels", f"a tensor on {images.device}, as the images", f"one on {labels.device}", "Move one.")
    require(bool((labels >= 0).all()), "labels", "class numbers from 0", labels, "Leave unlabelled images out.")
    first = to_float(images[:1])
    try:
        with evaluating(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            logits = model(first)
    except torch.OutOfMemoryError:  # says itself what is wrong
        raise
    except RuntimeError as error:
        todo = "For images (n, h, w, c) write images.permute(0, 3, 1, 2), for other floats images.float()."
        wanted = "(n, c, h, w) of the model's channels, size, dtype and device"
        got = f"a first one of {describe(first)}, on which the model stopped: {str(error)[:300]}"
        raise ValueError(f"images: expected {wanted}, got {got}. {todo}") from error
    got, todo = logits if isinstance(logits, Tensor) else type(logits), "Wrap it in a Module that returns the logits."
    fits = isinstance(logits, Tensor) and logits.ndim == 2
    require(fits, "model", "one that gives a tensor of logits (n, k)", got, todo)
    todo = "Does the model have one output for each class?"
    require(bool((labels < logits.shape[1]).all()), "labels", f"numbers of {logits.shape[1]} classes", labels, todo)


def check_encoder(encoder: Encoder) -> None:
    """Raise ValueError unless `encoder` is one."""
    todo = "A classifier has one: write classifier.encoder."
    require(isinstance(encoder, Encoder), "encoder", "an Encoder", type(encoder), todo)


def check_images(images: Tensor, name: str = "images", *, low: float = 0.0, high: float = 1.0) -> None:
    """Raise ValueError unless `images` are one or more ``(n, c, h, w)``, uint8 or floats from `low` to `high`."""
    todo = "Write images.x and images.y." if isinstance(images, Images) else "Write torch.as_tensor(array)."
    require(isinstance(images, Tensor), name, "a tensor", type(images), todo)
    fits = images.ndim == 4 and images.numel() > 0 and (images.dtype == torch.uint8 or images.is_floating_point())
    todo = "For one image write image[None]." if images.ndim == 3 else ""
    require(fits, name, "one uint8 or float image or more, (n, c, h, w)", images, todo)
    inside = images.dtype == torch.uint8 or bool(((images >= low - SLACK) & (images <= high + SLACK)).all())
    require(inside, name, "uint8, or floats in [0, 1]", images, "Convert with adv.to_float(uint8 images).")
