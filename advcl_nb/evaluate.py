"""Accuracy on clean and on attacked images, as a score that names its attack and its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._check import require, require_one_of
from advcl_nb.attacks import L2, Linf, pgd
from advcl_nb.data import to_float
from advcl_nb.models import Encoder, evaluating

BATCH = 250
Z = 1.959963984540054  # the normal distribution's 97.5% point


@dataclass(frozen=True)
class Score:
    """An accuracy: `correct` of `n`, its 95% Wilson interval (low, high), the metric and the attack.

    metric is SA (clean), RA (under the named attack) or AA (AutoAttack).
    """

    metric: str
    correct: int
    n: int
    attack: str | None = None

    def __post_init__(self) -> None:
        require_one_of(self.metric, "metric", ("SA", "RA", "AA"))
        require(0 <= self.correct <= self.n and self.n > 0, "correct", f"a count of {self.n} images", self.correct)

    @property
    def value(self) -> float:
        """The accuracy as a fraction."""
        return self.correct / self.n

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return self._wilson(-1)

    @property
    def high(self) -> float:
        """Upper end of the 95% interval."""
        return self._wilson(1)

    def _wilson(self, side: int) -> float:
        p, n = self.value, self.n
        centre, spread = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        end = (centre + side * spread) / (1 + Z**2 / n)
        return min(max(end, p), 1.0) if side > 0 else max(min(end, p), 0.0)  # rounding never moves an end past p

    def __repr__(self) -> str:
        name = f"{self.metric}[{self.attack}]" if self.attack else self.metric
        interval = f"{100 * self.low:.1f}-{100 * self.high:.1f}"
        return f"{name} {100 * self.value:.1f}% ({self.correct}/{self.n}, 95% {interval})"


def standard_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> Score:
    """Return the accuracy (SA) of `model`, which maps images in [0, 1] to logits, on uint8 or float images.

    In eval mode and float32; the model comes back as it was.
    """
    right = _over_batches(model, images, labels, "SA", lambda x, y: model(x).argmax(1) == y)
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

    right = _over_batches(model, images, labels, str(threat), survives)
    return Score("RA", int(right.sum()), len(right), str(threat) + (f", {restarts} restarts" if restarts > 1 else ""))


def _over_batches(
    model: nn.Module, images: Tensor, labels: Tensor, name: str, check: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    todo = "Fine-tune one first: adv.FinetuneState.start(config, encoder, classes)."
    require(not isinstance(model, Encoder), "model", "a model that gives logits", type(model), todo)
    require(len(images) == len(labels) > 0, "labels", f"{len(images)} labels, one an image", labels)
    require(bool((labels >= 0).all()), "labels", "class numbers from 0", labels, "Leave unlabelled images out.")
    inside = images.dtype == torch.uint8 or bool(images.max() <= 1 + 1e-3)
    require(inside, "images", "uint8, or floats in [0, 1]", images, "Convert with adv.to_float(uint8 images).")
    pairs = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    with evaluating(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        bar = tqdm(pairs, desc=name, unit="batch", leave=False, delay=2)
        return torch.cat([check(to_float(x), y) for x, y in bar])
