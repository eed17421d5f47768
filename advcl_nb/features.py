"""Features of a frozen encoder, and how they lie: scatter of the classes, places in a plane."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from advcl_nb._check import require, require_one_of
from advcl_nb.data import to_float
from advcl_nb.models import Encoder, evaluating

BATCH = 500


def extract_features(encoder: Encoder, images: Tensor, *, branch: str | None = None) -> Tensor:
    """Return the features h ``(n, d)`` of uint8 or float images ``(n, c, h, w)``, in eval mode and float32.

    `branch` is one of ``BRANCHES``; None takes the encoder's own. The encoder comes back as it was.
    """
    with evaluating(encoder), torch.no_grad():
        bar = tqdm(images.split(BATCH), desc="features", unit="batch", leave=False, delay=2)
        return torch.cat([encoder(to_float(batch), branch) for batch in bar])


class ClassScatter(NamedTuple):
    """How tight classes are and how far apart, on unit features.

    within: mean squared distance of a feature to its class's mean, in [0, 1]. between: mean squared distance of two
    class means, in [0, 4].
    """

    within: float
    between: float

    @property
    def ratio(self) -> float:
        """Between over within: the larger, the better the classes are set apart."""
        return self.between / self.within if self.within else float("inf") if self.between else 0.0

    def __repr__(self) -> str:
        return f"within {self.within:.3f}, between {self.between:.3f}, ratio {self.ratio:.2f}"


def class_scatter(features: Tensor, labels: Tensor) -> ClassScatter:
    """Return the scatter within and between the classes of features ``(n, d)``, each scaled to length 1 first.

    `within` is also 1 minus the mean cosine of a feature with its class, itself included: the alignment part of a
    supervised contrastive loss, up to the temperature. Raises ValueError for fewer than two classes.
    """
    require(features.ndim == 2 and len(features) == len(labels), "features", f"{len(labels)} rows (n, d)", features)
    require(bool(features.isfinite().all()), "features", "finite numbers", features)
    classes, index = labels.unique(return_inverse=True)
    require(len(classes) >= 2, "labels", "two classes or more", labels)
    unit = F.normalize(features, dim=1)
    sums = torch.zeros(len(classes), unit.shape[1], dtype=unit.dtype, device=unit.device).index_add_(0, index, unit)
    means = sums / index.bincount()[:, None]
    within = (unit - means[index]).square().sum(1).mean()
    return ClassScatter(float(within), float(torch.pdist(means).square().mean()))


def embed_2d(features: Tensor, *, method: str, seed: int, also: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Return places ``(n, 2)`` of features ``(n, d)`` in a plane, on the CPU; with `also`, the pair of both sets'.

    method: "pca" (scikit-learn; the two directions of largest variance), "umap" (umap-learn; keeps neighbourhoods) or
    "tsne" (scikit-learn; the same, but cannot place `also` in a map that is there: ValueError).
    """
    require_one_of(method, "method", ("pca", "umap", "tsne"))
    fits = features.ndim == 2 and len(features) >= 5 and features.shape[1] >= 2
    require(fits and bool(features.isfinite().all()), "features", "five rows (n, d) of two numbers or more", features)
    fits = also is None or also.shape[1:] == features.shape[1:]
    require(fits, "also", f"rows of width {features.shape[1]}, as features has", also)
    table = lambda x: x.detach().cpu().float().numpy()  # noqa: E731
    if method == "umap":
        from umap import UMAP

        mapper = UMAP(random_state=seed, n_neighbors=min(15, len(features) - 1), n_jobs=1)
    elif method == "tsne":
        from sklearn.manifold import TSNE

        require(also is None, "also", "None for t-SNE", also, 'It has no map for new rows: take method="umap".')
        mapper = TSNE(random_state=seed, init="pca", perplexity=min(30, (len(features) - 1) / 3))
    else:
        from sklearn.decomposition import PCA

        mapper = PCA(2, random_state=seed)
    points = torch.as_tensor(mapper.fit_transform(table(features)))
    return points if also is None else (points, torch.as_tensor(mapper.transform(table(also))))
