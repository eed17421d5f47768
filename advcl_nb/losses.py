"""Contrastive, focal, pseudo-label and TRADES losses: scalars from tensors, with no state and no hidden factor."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from advcl_nb._check import describe, require, require_for_each, require_matrix, require_number, require_one_of

NORMALIZATIONS = ("positives", "release")
ViewStack = Float[Tensor, "v n d"] | Sequence[Float[Tensor, "n d"]]


def multi_view_nt_xent(embeddings: ViewStack, temperature: float) -> Float[Tensor, ""]:
    """Return the multi-view InfoNCE loss of v views of n images, given as unit vectors.

    `embeddings` is ``(v, n, d)`` or a sequence of v tensors ``(n, d)``. Every vector is an anchor; its positives are
    the other v - 1 views of its image; its denominator holds every other vector. Mean over positives, then over
    anchors. For two views this is SimCLR's NT-Xent (Chen et al. 2020, eq. 1). AdvCL's release (losses.py) has a
    further constant factor of temperature / 0.07; here that is `PretrainConfig.contrast_scale`.
    """
    views = _stack(embeddings, temperature)
    v, n, _ = views.shape
    require(v >= 2, "embeddings", "two views or more", views)
    rows = views.flatten(0, 1)
    similarity = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    blocks = similarity.view(v, n, v, n).diagonal(dim1=1, dim2=3)  # (v, v, n): two views of the same image
    different = ~torch.eye(v, dtype=torch.bool, device=views.device)
    return similarity.logsumexp(1).mean() - blocks[different].mean()


def supervised_contrastive(
    embeddings: Float[Tensor, "n d"] | ViewStack, labels: Int[Tensor, " n"], temperature: float
) -> Float[Tensor, ""]:
    """Return the supervised contrastive loss L_out (Khosla et al. 2020, eq. 2) of unit vectors.

    `embeddings` is ``(n, d)``, or v views ``(v, n, d)`` that share `labels` ``(n,)``. An anchor without a positive is
    left out of the mean; where no anchor has one the loss is 0, never NaN.
    """
    if isinstance(embeddings, Tensor) and embeddings.ndim == 2:
        embeddings = embeddings[None]
    views = _stack(embeddings, temperature)
    fits = isinstance(labels, Tensor) and labels.shape == views.shape[1:2]
    require(fits, "labels", f"one label for each of {views.shape[1]} images", labels)
    return _over_positives(views.flatten(0, 1), labels.repeat(len(views)), temperature, "positives", gamma=0.0)


def focal_contrastive(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"] | Float[Tensor, "n k"],
    temperature: float,
    *,
    normalize: str = "positives",
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Return Core-tuning's focal contrastive loss of unit vectors (Zhang et al. 2021; the release's FocalSupConLoss).

    Each pair of an anchor and a positive costs -(1 - p) ln p, where p is the positive's share of the anchor's softmax
    over all other rows; gradient flows through the weight too. `labels` are integers ``(n,)``, or soft ``(n, k)``
    where equal rows are positives. normalize: "positives" takes the mean over an anchor's positives, "release" divides
    their sum by n as the published code does; both then average over the anchors that have one. `gamma` is the
    weight's exponent; 0 is the plain supervised contrastive loss. Without any positive the loss is 0.
    """
    _check_temperature(temperature)
    require_matrix(embeddings, "embeddings")
    require_one_of(normalize, "normalize", NORMALIZATIONS)
    require(gamma == 0 or gamma >= 1, "gamma", "0, or a number >= 1", gamma)
    fits = isinstance(labels, Tensor) and len(labels) == len(embeddings) and labels.ndim in (1, 2)
    require(fits, "labels", f"(n,) or (n, k) with one for each of {len(embeddings)} embeddings", labels)
    classes = labels if labels.ndim == 1 else labels.unique(dim=0, return_inverse=True)[1]
    return _over_positives(embeddings, classes, temperature, normalize, gamma)


def _over_positives(rows: Tensor, classes: Tensor, temperature: float, normalize: str, gamma: float) -> Tensor:
    """Return the mean over anchors of what their positives cost, each weighted with (1 - p)^gamma."""
    require(bool(rows.isfinite().all()), "embeddings", "finite numbers", rows, "Lower the learning rate.")
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positive = (classes[:, None] == classes) & ~itself
    log_p = (rows @ rows.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    log_p = log_p.masked_fill(~positive, 0)
    cost = -((1 - log_p.exp()) ** gamma) * log_p if gamma else -log_p
    counts = positive.sum(1)
    per_anchor = cost.sum(1) / (counts.clamp(min=1) if normalize == "positives" else len(rows))
    return per_anchor.sum() / (counts > 0).sum().clamp(min=1)


def pseudo_label_loss(logits: Sequence[Float[Tensor, "n _"]], labels: Int[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of each head against its column of pseudo-labels, averaged over images and heads.

    `logits` holds one ``(n, K)`` tensor per column of `labels` (AdvCL, the second term of its objective).
    """
    fits = isinstance(labels, Tensor) and labels.ndim == 2 and len(logits) == labels.shape[1]
    todo = "Cluster with the model's cluster_counts."
    require(fits, "labels", f"{len(logits)} columns, one for each head", labels, todo)
    return torch.stack([_cross_entropy(*pair) for pair in zip(logits, labels.unbind(1), strict=True)]).mean()


def trades_loss(
    clean_logits: Float[Tensor, "n c"], adv_logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], beta: float
) -> Float[Tensor, ""]:
    """Return cross-entropy on clean images plus beta times KL(clean || adversarial) (Zhang et al. 2019, eq. 5)."""
    divergence = kl_divergence(clean_logits, adv_logits)
    require_number(beta, "beta", "a weight >= 0", 0)
    return _cross_entropy(clean_logits, labels) + beta * divergence


def kl_divergence(clean_logits: Float[Tensor, "n c"], adv_logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """Return the mean over images of KL(softmax(clean) || softmax(adversarial)), which TRADES' attack maximises."""
    require_matrix(clean_logits, "clean_logits")
    require_matrix(adv_logits, "adv_logits", clean_logits)
    return F.kl_div(adv_logits.log_softmax(1), clean_logits.log_softmax(1), reduction="batchmean", log_target=True)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy; PyTorch itself looks at the labels' range, so that nothing waits for a device."""
    require_matrix(logits, "logits")
    require_for_each(labels, "labels", logits, "whole numbers")
    try:
        return F.cross_entropy(logits, labels)
    except IndexError as error:
        expected = f"class numbers from 0 to {logits.shape[1] - 1}"
        raise ValueError(f"labels: expected {expected}, got {describe(labels)}.") from error


def _stack(embeddings: ViewStack, temperature: float) -> Float[Tensor, "v n d"]:
    _check_temperature(temperature)
    if not isinstance(embeddings, Tensor):
        embeddings = list(embeddings)
        for number, view in enumerate(embeddings):
            require_matrix(view, f"embeddings[{number}]", embeddings[0] if number else None)
        require(len(embeddings) > 0, "embeddings", "two views or more", embeddings)
        embeddings = torch.stack(embeddings)
    fits = embeddings.ndim == 3 and embeddings.is_floating_point() and embeddings.numel() > 0
    require(fits, "embeddings", "views of shape (v, n, d)", embeddings)
    return embeddings


def _check_temperature(temperature: float) -> None:
    fits = isinstance(temperature, Real) or (isinstance(temperature, Tensor) and temperature.ndim == 0)
    require(fits and temperature > 0, "temperature", "a positive number", temperature)
