"""Pseudo-labels from k-means (ClusterFit, Yan et al. 2020) and how well they agree with the true classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advcl_nb._check import require, require_count, require_for_each, require_is


class ClusterQuality(NamedTuple):
    """Agreement of one clustering with the classes.

    purity: share of images whose class is the most frequent one of their cluster. nmi, ari: normalised mutual
    information and adjusted Rand index (scikit-learn). effective: exp of the entropy of the cluster sizes, the
    number of equally large clusters that would be as spread out. smallest, largest: cluster sizes.
    """

    clusters: int
    purity: float
    nmi: float
    ari: float
    effective: float
    smallest: int
    largest: int


def pseudo_labels(
    features: Float[Tensor, "n d"], counts: Sequence[int], *, seed: int, center: bool = True
) -> Int[Tensor, "n k"]:
    """Cluster features by scikit-learn's k-means, once for each K in `counts`; column j belongs to ``counts[j]``.

    With `center` (the default) the mean is subtracted and every row scaled to unit length first, so that clusters
    are by direction; contrastive features are trained by their direction. Features are ``(n, d)``, any device;
    the result is int64 on the same device. Raises ValueError without a K, or where one is below 1 or exceeds n.
    """
    from sklearn.cluster import KMeans

    fits = isinstance(features, Tensor) and features.ndim == 2 and bool(features.isfinite().all())
    require(fits, "features", "finite numbers (n, d)", features)
    require_count(seed, "seed", -(2**63))
    require_is(counts, "counts", (tuple, list), "Write (10,).")
    inside = len(counts) > 0 and min(counts) >= 1 and max(counts) <= len(features)
    require(inside, "counts", f"1 to {len(features)} clusters, at most one an image", tuple(counts))
    rows = features.detach().double()
    if center:
        rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    columns = [KMeans(k, n_init=3, random_state=seed % 2**32).fit(rows.float().cpu().numpy()).labels_ for k in counts]
    return torch.stack([torch.as_tensor(column, dtype=torch.int64) for column in columns], 1).to(features.device)


def cluster_quality(assignments: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> ClusterQuality:
    """Compare one column of pseudo-labels with the true classes of the same n images."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    for name, column in (("assignments", assignments), ("labels", labels)):
        require_for_each(column, name, assignments, "whole numbers")
        require(len(column) > 0 and int(column.min()) >= 0, name, "numbers from 0", column, "Leave out the unlabelled.")
    table = torch.zeros(int(assignments.max()) + 1, int(labels.max()) + 1, dtype=torch.int64)
    table.index_put_((assignments.cpu(), labels.cpu()), torch.tensor(1), accumulate=True)
    sizes = table.sum(1)
    shares = sizes[sizes > 0] / sizes.sum()
    pair = labels.cpu().numpy(), assignments.cpu().numpy()
    return ClusterQuality(
        clusters=int((sizes > 0).sum()),
        purity=(table.amax(1).sum() / len(labels)).item(),
        nmi=float(normalized_mutual_info_score(*pair)),
        ari=float(adjusted_rand_score(*pair)),
        effective=(-(shares * shares.log()).sum()).exp().item(),
        smallest=int(sizes[sizes > 0].min()),
        largest=int(sizes.max()),
    )
