"""Core-tuning's hard-pair mixing: find each image's hardest pair in feature space and mix it (Zhang et al. 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from advcl_nb._check import require, require_count, require_one_of

RULES = ("paper", "release", "random")
NEGATIVE_SHARE = 0.8  # the least share of the other image in a semi-hard negative


class MixingDraw(NamedTuple):
    """The random numbers behind one mixed batch: who is the random negative, and both rows of mixing coefficients."""

    permutation: Int[Tensor, " n"]
    negative: Float[Tensor, " n"]
    positive: Float[Tensor, " n"]


class MixedBatch(NamedTuple):
    """Originals, semi-hard negatives and hard positives, in this order: 3n rows.

    labels: soft, for the classifier. groups: rows of one number are positives of each other in the contrastive loss;
    originals and hard positives have their class, a negative a number of its own. hard_positive, hard_negative and
    partner say by index which rows were mixed; has_positive and has_negative, whether the batch had such a row.
    """

    features: Float[Tensor, "r d"]
    labels: Float[Tensor, "r k"]
    groups: Int[Tensor, " r"]
    hard_positive: Int[Tensor, " n"]
    hard_negative: Int[Tensor, " n"]
    partner: Int[Tensor, " n"]
    has_positive: Bool[Tensor, " n"]
    has_negative: Bool[Tensor, " n"]


def draw_mixing(n: int, alpha: float = 1.0, *, generator: Generator) -> MixingDraw:
    """Draw a permutation of n rows and 2n coefficients from Beta(alpha, alpha), which is uniform for alpha = 1.

    Order of the draws: permutation, coefficients of the negatives, of the positives. Raises ValueError for n < 1 or an
    alpha that is not a positive number.
    """
    require_count(n, "n")
    require(0 < alpha < math.inf, "alpha", "a positive number", alpha)
    device = generator.device
    permutation = torch.randperm(n, generator=generator, device=device)
    shape = torch.full((2, 2, n), alpha + 1.0, dtype=torch.float64, device=device)
    # ln Gamma(alpha) is drawn as ln Gamma(alpha + 1) + ln(U) / alpha, which no small alpha underflows
    logarithm = torch._standard_gamma(shape, generator=generator).log()
    logarithm += torch.rand(shape.shape, generator=generator, dtype=torch.float64, device=device).log() / alpha
    negative, positive = (logarithm[0] - logarithm[1]).sigmoid().float()
    return MixingDraw(permutation, negative, positive)


def mix_hard_pairs(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    draw: MixingDraw,
    *,
    rule: str = "paper",
    classes: int | None = None,
) -> MixedBatch:
    """Mix the features h ``(n, d)`` of a batch with class labels ``(n,)`` into 3n rows (reference: eqs. of 1.3).

    Hard positive: lam times the hardest positive plus 1 - lam times the hardest negative. Semi-hard negative: 1 - lam
    times the row plus lam times a random negative, with lam clipped to at least 0.8. Labels mix alike, over `classes`
    columns (None: the largest label + 1).

    rule "paper", our reading of the paper: the hardest positive is the least similar row of the class by cosine, the
    hardest negative the most similar row of another class, the random negative the next row of another class in the
    drawn permutation. Without a positive a row stands for itself; in a batch of one class nothing is mixed in.
    "random" takes the next rows of the same and of another class in the permutation instead of the hardest.
    "release" selects as Core-tuning.py does, oddities included: similarities of unsuitable rows are set to 0, not left
    out, so on non-negative features its argmin never finds a positive; index 0 means "none"; and the random negative
    may be of the same class. Raises ValueError for NaN or infinite features and labels out of range.
    """
    classes = _check(features, labels, draw, rule, classes)
    rows = torch.arange(len(labels), device=labels.device)
    same = labels[:, None] == labels
    positive, negative = same & (rows[:, None] != rows), ~same
    mine = _mine_released if rule == "release" else _mine
    hard_positive, hard_negative, partner = mine(features, positive, negative, draw, rule)
    lam_positive = draw.positive.to(features)[:, None]
    lam_negative = draw.negative.to(features)[:, None].clamp(min=NEGATIVE_SHARE)

    def mixed(x: Tensor) -> Tensor:
        semi_hard = (1 - lam_negative) * x + lam_negative * x[partner]
        return torch.cat([x, semi_hard, lam_positive * x[hard_positive] + (1 - lam_positive) * x[hard_negative]])

    has_positive, has_negative = positive.any(1), negative.any(1)
    groups = torch.cat([labels, torch.where(has_negative, classes + rows, labels), labels])
    found = hard_positive, hard_negative, partner, has_positive, has_negative
    return MixedBatch(mixed(features), mixed(F.one_hot(labels, classes).to(features)), groups, *found)


def _similarity(features: Tensor) -> Tensor:
    unit = F.normalize(features.detach(), dim=1)
    return unit @ unit.T


def _mine(features: Tensor, positive: Tensor, negative: Tensor, draw: MixingDraw, rule: str) -> tuple[Tensor, ...]:
    """Return hardest positive, hardest negative and random negative; without one, what the docstring above says."""
    rows = torch.arange(len(features), device=features.device)
    permutation = draw.permutation.to(rows.device)
    partner = torch.where(negative.any(1), _next(permutation, negative), rows)
    if rule == "random":
        hard_positive, hard_negative = _next(permutation, positive), partner
    else:
        similarity = _similarity(features)
        hard_positive = similarity.masked_fill(~positive, torch.inf).argmin(1)
        hard_negative = similarity.masked_fill(~negative, -torch.inf).argmax(1)
    hard_positive = torch.where(positive.any(1), hard_positive, rows)
    return hard_positive, torch.where(negative.any(1), hard_negative, hard_positive), partner


def _mine_released(
    features: Tensor, positive: Tensor, negative: Tensor, draw: MixingDraw, rule: str
) -> tuple[Tensor, ...]:
    """Return the release's choices: extremes over similarities in which all unsuitable rows count as 0."""
    similarity, rows = _similarity(features), torch.arange(len(features), device=features.device)
    hard_positive = _first_extreme(-similarity * positive)
    hard_positive = torch.where(hard_positive == 0, rows, hard_positive)  # it reads index 0 as "no positive"
    return hard_positive, _first_extreme(similarity * negative), draw.permutation.to(rows.device)


def _first_extreme(values: Tensor) -> Tensor:
    """Return the first of each row's largest values; argmax leaves the choice among equals open."""
    return _first(values == values.amax(1, keepdim=True))


def _next(permutation: Tensor, wanted: Tensor) -> Tensor:
    """Return for each row i the first wanted row in the permutation, from place i on and around (any if none is)."""
    rows = torch.arange(len(permutation), device=permutation.device)
    order = permutation[(rows[:, None] + rows) % len(rows)]  # its row i: the permutation from place i on
    place = _first(wanted.gather(1, order)).clamp(max=len(rows) - 1)
    return order.gather(1, place[:, None])[:, 0]


def _first(mask: Tensor) -> Tensor:
    """Return the column of each row's first True; the number of columns where there is none."""
    columns = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, columns, mask.shape[1]).amin(1)


def _check(features: Tensor, labels: Tensor, draw: MixingDraw, rule: str, classes: int | None) -> int:
    require_one_of(rule, "rule", RULES)
    n = len(features)
    require(n >= 1 and labels.shape == (n,), "labels", f"one class number for each of {n} rows", labels)
    require(
        len(draw.permutation) == n, "draw", f"a draw of {n} rows", len(draw.permutation), "Use draw_mixing(n, ...)."
    )
    require(bool(features.isfinite().all()), "features", "finite numbers", features, "Lower the learning rate.")
    low, high = int(labels.min()), int(labels.max())
    classes = high + 1 if classes is None else classes
    require(low >= 0 and high < classes, "labels", f"class numbers from 0 to {classes - 1}", labels)
    return classes
