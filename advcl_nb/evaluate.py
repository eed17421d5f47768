"""Accuracy on clean and on attacked images, as a score that names its attack and its uncertainty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from advcl_nb._batched import over_batches
from advcl_nb._check import require
from advcl_nb.attacks import L2, Linf, pgd
from advcl_nb.score import Score


def standard_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> Score:
    """Return the accuracy (SA) of `model`, which maps images in [0, 1] to logits, on uint8 or float images.

    In eval mode and float32; the model comes back as it was.
    """
    right = over_batches(model, images, labels, "SA", lambda x, y: model(x).argmax(1) == y)
    return Score("SA", int(right.sum()), len(right))


def robust_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Linf | L2, *, generator: Generator, restarts: int = 1
) -> Score:
    """Return the accuracy (RA) under PGD on the cross-entropy; an image counts where every restart leaves it right.

    `threat` is for example ``Linf(8 / 255, 2 / 255, 20)``, the field's PGD-20. In eval mode and float32; the model
    comes back as it was, its parameters without a gradient.
    """
    require(restarts >= 1, "restarts", "one or more", restarts)

    def survives(x: Tensor, y: Tensor) -> Tensor:
        right = torch.ones_like(y, dtype=torch.bool)
        for _ in range(restarts):
            loss = lambda x: F.cross_entropy(model(x), y, reduction="sum")  # noqa: E731
            right &= model(pgd(loss, x, threat, generator=generator)).argmax(1) == y
        return right

    right = over_batches(model, images, labels, str(threat), survives)
    return Score("RA", int(right.sum()), len(right), str(threat) + (f", {restarts} restarts" if restarts > 1 else ""))
