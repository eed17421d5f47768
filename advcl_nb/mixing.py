"""Core-tuning's hard-pair mixing: find each image's hardest pair in feature space and mix it (Zhang et al. 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from advcl_nb._check import require, require_count, require_generator, require_is, require_matrix, require_one_of

RULES = ("paper", "release", "random")
NEGATIVE_SHARE = 0.8  # the least share of the other image in a semi-hard negative


class MixingDraw(NamedTuple):
    """The random numbers behind one mixed batch: who is the random negative, and both rows of mixing coefficients."""

    permutation: Int[Tensor, " n"]
    negative: Float[Tensor, " n"]
    positive: Float[Tensor, " n"]


class MixedBatch(NamedTuple):
    """Originals, semi-hard negatives and hard positives, in this order: 3n rows.

    labels: soft, for the classifier. groups: rows of one number are positives of each other in our reading of the
    paper; originals and hard positives have their class, a negative a number of its own (the release compares
    `labels` instead). hard_positive, hard_negative and partner say by index which rows were mixed; has_positive and
    has_negative, whether the batch had such a row.
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
    require(isinstance(alpha, (int, float)) and 0 < alpha < math.inf, "alpha", "a positive number", alpha)
    require_generator(generator)
    device = generator.device
    permutation = torch.randperm(n, generator=generator, device=device)
    shape = torch.full((2, 2, n), alpha + 1.0, dtype=torch.float64, device=device)
    # The logarithm of a Gamma(alpha) draw, as ln Gamma(alpha + 1) + ln(U) / alpha: no small alpha underflows
    logarithm = torch._standard_gamma(shape, generator=generator).log()
    logarithm += torch.rand(shape.shape, generator=generator, dtype=torch.float64, device=device).log() / max(
        alpha, 1e-100
    )
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
    is_positive, is_negative = same & (rows[:, None] != rows), ~same
    has_positive, has_negative = is_positive.any(1), is_negative.any(1)
    permutation = draw.permutation.to(rows.device)
    unit = F.normalize(features.detach(), dim=1)
    similarity = unit @ unit.T
    mine = _mine_released if rule == "release" else _mine_random if rule == "random" else _mine_hardest
    hard_positive, hard_negative, partner = mine(similarity, is_positive, is_negative, permutation)
    lam_positive = draw.positive.to(features)[:, None]
    lam_negative = draw.negative.to(features)[:, None].clamp(min=NEGATIVE_SHARE)

    def mixed(x: Tensor) -> Tensor:
        semi_hard = (1 - lam_negative) * x + lam_negative * x[partner]
        return torch.cat([x, semi_hard, lam_positive * x[hard_positive] + (1 - lam_positive) * x[hard_negative]])

    return MixedBatch(
        features=mixed(features),
        labels=mixed(F.one_hot(labels, classes).to(features)),
        groups=torch.cat([labels, torch.where(has_negative, classes + rows, labels), labels]),
        hard_positive=hard_positive,
        hard_negative=hard_negative,
        partner=partner,
        has_positive=has_positive,
        has_negative=has_negative,
    )


def _mine_hardest(
    similarity: Tensor, is_positive: Tensor, is_negative: Tensor, permutation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the least similar positive, the most similar negative and the next negative of the permutation."""
    hard_positive = similarity.masked_fill(~is_positive, torch.inf).argmin(1)
    hard_negative = similarity.masked_fill(~is_negative, -torch.inf).argmax(1)
    return _stand_in(hard_positive, hard_negative, _next(permutation, is_negative), is_positive, is_negative)


def _mine_random(
    similarity: Tensor, is_positive: Tensor, is_negative: Tensor, permutation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the next positive and the next negative of the permutation, whatever their similarity."""
    negative = _next(permutation, is_negative)
    return _stand_in(_next(permutation, is_positive), negative, negative, is_positive, is_negative)


def _stand_in(
    hard_positive: Tensor, hard_negative: Tensor, partner: Tensor, is_positive: Tensor, is_negative: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace what a row does not have: alone in its class it stands for itself; in one class nothing is mixed in."""
    rows = torch.arange(len(partner), device=partner.device)
    has_negative = is_negative.any(1)
    hard_positive = torch.where(is_positive.any(1), hard_positive, rows)
    return (
        hard_positive,
        torch.where(has_negative, hard_negative, hard_positive),
        torch.where(has_negative, partner, rows),
    )


def _mine_released(
    similarity: Tensor, is_positive: Tensor, is_negative: Tensor, permutation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the release's choices: extremes over similarities in which all unsuitable rows count as 0."""
    rows = torch.arange(len(permutation), device=permutation.device)
    hard_positive = _first_extreme(-similarity * is_positive)
    hard_positive = torch.where(hard_positive == 0, rows, hard_positive)  # it reads index 0 as "no positive"
    return hard_positive, _first_extreme(similarity * is_negative), permutation


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
    require_matrix(features, "features")
    n = len(features)
    ok = isinstance(labels, Tensor) and n >= 1 and labels.shape == (n,) and labels.dtype == torch.int64
    require(ok, "labels", f"int64, one class number for each of {n} rows", labels)
    require_is(draw, "draw", MixingDraw, f"Use draw_mixing({n}, generator=...).")
    lengths = [len(part) for part in draw]
    require(lengths == [n] * 3, "draw", f"a draw of {n} rows", lengths, f"Use draw_mixing({n}, generator=...).")
    require(bool(features.isfinite().all()), "features", "finite numbers", features, "Lower the learning rate.")
    low, high = int(labels.min()), int(labels.max())
    classes = high + 1 if classes is None else classes
    require(low >= 0 and high < classes, "labels", f"class numbers from 0 to {classes - 1}", labels)
    return classes
