"""Features of a frozen encoder, and how they lie: neighbours, scatter, similarity, places in a plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cudnn
from tqdm.auto import tqdm

from advcl_nb._batched import check_encoder, check_images
from advcl_nb._check import require, require_count, require_number, require_one_of, require_rows
from advcl_nb.data import to_float
from advcl_nb.models import Encoder, check_branch, evaluating

BATCH = 500
BRIGHTEST = 2.0  # filtered images overshoot [0, 1]; unscaled ones reach 255
PAIRS = 2**24  # similarities in memory at a time: 64 MiB of float32


def extract_features(encoder: Encoder, images: Tensor, *, branch: str | None = None) -> Tensor:
    """Return the features h ``(n, d)`` of uint8 or float images ``(n, c, h, w)``, in eval mode and float32.

    `branch` is one of ``BRANCHES``; None takes the encoder's own. The encoder comes back as it was. Floats may
    leave [0, 1] a little, as filtered images do; ValueError for values beyond 2, which are not scaled.
    """
    _check_fit(encoder, images)
    with evaluating(encoder), torch.no_grad(), _float32_convolutions():
        bar = tqdm(images.split(BATCH), desc="features", unit="batch", leave=False, delay=2)
        return torch.cat([encoder(to_float(batch), branch) for batch in bar])


@contextmanager
def _float32_convolutions() -> Iterator[None]:
    """Let a GPU convolve in float32, not in TF32, which moves features enough for k-means to number clusters anew."""
    new = hasattr(cudnn, "conv")  # torch 2.9 and later
    owner, name, value = (cudnn.conv, "fp32_precision", "ieee") if new else (cudnn, "allow_tf32", False)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def layer_features(encoder: Encoder, images: Tensor, *, branch: str | None = None) -> dict[str, Tensor]:
    """Return what the stem and each residual block give, flattened to ``(n, d)``, and last the "features" h.

    Keys: "stem", "block 1", "block 2", ..., "features"; images ``(n, c, h, w)``, uint8 or float; eval mode and float32.
    A first layer is wide (channels x height x width numbers an image), so take hundreds of images, not all of them.
    `branch` is one of ``BRANCHES``; None takes the encoder's own. The encoder comes back as it was.
    """
    _check_fit(encoder, images)
    branch = encoder.branch if branch is None else check_branch(branch)
    found: dict[str, list[Tensor]] = {}
    with evaluating(encoder), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for batch in tqdm(images.split(BATCH), desc="layers", unit="batch", leave=False, delay=2):
            for name, activation in _layers(encoder, to_float(batch), branch):
                found.setdefault(name, []).append(activation.flatten(1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _check_fit(encoder: Encoder, images: Tensor) -> None:
    """Raise ValueError unless the encoder can take these images."""
    check_encoder(encoder)
    check_images(images, low=-BRIGHTEST, high=BRIGHTEST)
    fits = images.shape[1] == encoder.config.channels and images.dtype in (torch.uint8, encoder.stem.weight.dtype)
    todo = "For images (n, h, w, c) write images.permute(0, 3, 1, 2), for other floats images.float()."
    require(fits, "images", f"{encoder.config.channels} channels, uint8 or float32", images, todo)


def _layers(encoder: Encoder, x: Tensor, branch: str) -> Iterator[tuple[str, Tensor]]:
    """The steps of the encoder's forward, by name: without hooks, which a failure could leave behind."""
    x = F.relu(encoder.stem_norm(encoder.stem(x), branch))
    yield "stem", x
    for number, block in enumerate(encoder.blocks, start=1):
        x = block(x, branch)
        yield f"block {number}", x
    yield "features", x.mean((2, 3))


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
    require_rows(features, "features")
    fits = isinstance(labels, Tensor) and labels.shape == features.shape[:1] and bool((labels >= 0).all())
    require(fits, "labels", f"{len(features)} class numbers from 0", labels, "Leave unlabelled images out.")
    classes, index = labels.unique(return_inverse=True)
    require(len(classes) >= 2, "labels", "two classes or more", labels)
    unit = F.normalize(features, dim=1)
    sums = torch.zeros(len(classes), unit.shape[1], dtype=unit.dtype, device=unit.device).index_add_(0, index, unit)
    means = sums / index.bincount()[:, None]
    within = (unit - means[index]).square().sum(1).mean()
    return ClassScatter(float(within), float(torch.pdist(means).square().mean()))


def knn_accuracy(train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor, *, k: int) -> float:
    """Return the share of `features` ``(n, d)`` whose k nearest `train_features` ``(m, d)`` have their class.

    Nearest by cosine similarity; plain majority vote, a tie goes to the smallest class number. That is scikit-learn's
    KNeighborsClassifier on rows of length 1. Computed in the inputs' dtype, some rows at a time. Raises ValueError for
    widths, dtypes or lengths that do not match, numbers that are not finite, and k outside 1 to m.
    """
    require_rows(train_features, "train_features")
    require_rows(features, "features")
    like = f"{train_features.dtype} rows of width {train_features.shape[1]}, as train_features has"
    same = features.dtype == train_features.dtype and features.shape[1:] == train_features.shape[1:]
    require(same, "features", like, features)
    for rows, names, argument in ((train_features, train_labels, "train_labels"), (features, labels, "labels")):
        fits = isinstance(names, Tensor) and names.shape == rows.shape[:1] and bool((names >= 0).all())
        require(fits, argument, f"{len(rows)} class numbers from 0, one a row", names)
    require_count(k, "k")
    require(k <= len(train_features), "k", f"at most the {len(train_features)} rows of train_features", k)
    known, classes = F.normalize(train_features, dim=1), train_labels.unique()
    index, right = torch.searchsorted(classes, train_labels), 0
    chunk = max(1, PAIRS // len(known))
    for rows, wanted in zip(F.normalize(features, dim=1).split(chunk), labels.split(chunk), strict=True):
        nearest = index[(rows @ known.T).topk(k).indices]
        votes = nearest.new_zeros(len(rows), len(classes)).scatter_add_(1, nearest, torch.ones_like(nearest))
        right += int((classes[votes.argmax(1)] == wanted).sum())  # argmax: the first of equals
    return right / len(features)


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Return the linear CKA of two sets of features ``(n, d1)`` and ``(n, d2)`` of the same n images, in [0, 1].

    1 where one is the other rotated, scaled and shifted. ``||B'A||^2 / (||A'A|| ||B'B||)`` with centred columns
    (Kornblith et al. 2019); through the (n, n) Gram matrices where that is less work, the same number.
    Biased upwards where n is not well above d1 and d2: compare at one n. Computed in the inputs' dtype. Raises
    ValueError for fewer than two rows, other dtypes or lengths, numbers not finite, and features that are all the same.
    """
    for features, name in ((a, "a"), (b, "b")):
        require_rows(features, name, least=2)
        todo = "CKA has no value without variation: the encoder, or this layer, has collapsed."
        require(bool((features != features[0]).any()), name, "rows that differ", features, todo)
    todo = "Sums overflow in half precision: write .float()."
    require(torch.finfo(a.dtype).bits >= 32, "a", "float32 or float64", a, todo)
    same = len(b) == len(a) and b.dtype == a.dtype
    require(same, "b", f"{len(a)} rows of {a.dtype}, as a has", b, "Both are of the same images, in one order.")
    x, y = _centred(a), _centred(b)
    if len(x) < max(x.shape[1], y.shape[1]):
        x, y = x @ x.T, y @ y.T
        return min(float((x * y).sum() / (x.norm() * y.norm())), 1.0)
    return min(float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())), 1.0)


def alignment(a: Tensor, b: Tensor) -> float:
    """Return the mean squared distance of positive pairs, row i of `a` and of `b`, both ``(n, d)``, on unit length.

    In [0, 4]; 0 where the two views of every image have one direction (Wang and Isola 2020, with alpha 2).
    Raises ValueError for other shapes and for numbers that are not finite.
    """
    require_rows(a, "a")
    require_rows(b, "b")
    require(a.shape == b.shape, "b", f"shape {tuple(a.shape)}, as a has", b, "Row i of both is one positive pair.")
    return float((F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean())


def uniformity(features: Tensor, *, t: float = 2.0) -> float:
    """Return the log of the mean of ``exp(-t |x - y|^2)`` over pairs of distinct rows of ``(n, d)``, on unit length.

    In [-4t, 0]; 0 where all have one direction, and lower the more evenly they cover the sphere (Wang and Isola 2020).
    Some rows at a time. Raises ValueError for fewer than two rows, numbers not finite, and t <= 0.
    """
    require_rows(features, "features", least=2)
    require_number(t, "t", "a finite number above 0", 1e-300, 1e300)
    unit, n = F.normalize(features, dim=1), len(features)
    chunk, parts = max(1, PAIRS // n), []
    for start in range(0, n - 1, chunk):
        distances = torch.cdist(unit[start : start + chunk], unit[start + 1 :])
        later = torch.ones_like(distances, dtype=torch.bool).triu()  # each pair once
        parts.append((-t * distances[later].square()).logsumexp(0))
    return float(torch.stack(parts).logsumexp(0) - math.log(n * (n - 1) / 2))


def embed_2d(features: Tensor, *, method: str, seed: int, also: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Return places ``(n, 2)`` of features ``(n, d)`` in a plane, on the CPU; with `also`, the pair of both sets'.

    method: "pca" (scikit-learn; the two directions of largest variance), "umap" (umap-learn; keeps
    neighbourhoods; min_dist 0.9 shows the inside of a cluster) or "tsne" (scikit-learn; keeps them too, but cannot
    place `also` in a map that is there: ValueError).
    """
    require_one_of(method, "method", ("pca", "umap", "tsne"))
    require_count(seed, "seed", 0)
    require_rows(features, "features")
    fits = len(features) >= 5 and features.shape[1] >= 2
    require(fits, "features", "five rows (n, d) of two numbers or more", features)
    require_rows(features if also is None else also, "also")
    fits = also is None or also.shape[1:] == features.shape[1:]
    require(fits, "also", f"finite rows of width {features.shape[1]}, as features has", also)
    table = lambda x: x.detach().cpu().float().numpy()  # noqa: E731
    if method == "umap":
        from umap import UMAP

        mapper = UMAP(random_state=seed, n_neighbors=min(30, len(features) - 1), min_dist=0.9, n_jobs=1)
    elif method == "tsne":
        from sklearn.manifold import TSNE

        require(also is None, "also", "None for t-SNE", also, 'It has no map for new rows: take method="umap".')
        mapper = TSNE(random_state=seed, init="pca", perplexity=min(30, (len(features) - 1) / 3))
    else:
        from sklearn.decomposition import PCA

        mapper = PCA(2, random_state=seed)
    points = torch.as_tensor(mapper.fit_transform(table(features)))
    return points if also is None else (points, torch.as_tensor(mapper.transform(table(also))))


def _centred(features: Tensor) -> Tensor:
    """Centre the columns, to a largest value of 1, so that fourth powers neither over- nor underflow."""
    shifted = features - features[0]  # first: the mean of a large constant column is not exact
    shifted = shifted - shifted.mean(0)
    return shifted / shifted.abs().max()
