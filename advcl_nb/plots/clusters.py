"""What k-means found: a gallery of clusters, and how well they agree with the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.clustering import ClusterQuality
from advcl_nb.data import Images
from advcl_nb.plots._grid import as_batch, draw_grid
from advcl_nb.plots._style import (
    PALETTE,
    WIDTH,
    Picture,
    class_colors,
    colors_of,
    figure,
    legend,
    percent_axis,
    plain_ticks,
)

MEASURES = {
    "purity": ("Purity", "images of their cluster's main class"),
    "nmi": ("NMI", "information shared (1: all of it)"),
    "ari": ("ARI", "pairs that agree (0: by chance)"),
}


def show_clusters(
    images: Images | Tensor,
    assignments: Tensor,
    labels: Tensor | None = None,
    *,
    clusters: int | Sequence[int] = 10,
    each: int = 10,
) -> Picture:
    """Show a row of images for each cluster, its size and, where labels are known, its main class and purity.

    `assignments` is one column ``(n,)`` of `adv.pseudo_labels`. An `Images` brings its labels and class names; with a
    tensor give `labels` ``(n,)`` or do without. `clusters`: how many, the largest first, or which. `each`: how many
    images of a cluster, the first ones. With up to ten classes a bar under each image has its class's colour.
    """
    x = as_batch(images)
    if labels is None and isinstance(images, Images) and bool((images.y >= 0).all()):
        labels = images.y
    todo = "Pass one column, such as assignments[:, 0]."
    fit = isinstance(assignments, Tensor) and assignments.shape == (len(x),)
    require(fit, "assignments", f"a tensor of {len(x)} cluster numbers", assignments, todo)
    fit = isinstance(labels, Tensor) and labels.shape == (len(x),) and bool((labels >= 0).all())
    require(labels is None or fit, "labels", f"a tensor of {len(x)} labels >= 0, one an image", labels)
    assignments, labels = assignments.cpu(), None if labels is None else labels.cpu()
    require(each >= 1, "each", "one image or more", each)
    names, shown = _class_names(images, labels), _chosen(assignments, clusters)
    coloured = dict(zip(names, class_colors(len(names)), strict=True)) if len(names) <= len(PALETTE) else {}
    if coloured:
        x = _with_bars(x, labels, list(coloured.values()))
    blank = torch.full((each, *x.shape[1:]), torch.nan)
    tiles = torch.stack([torch.cat([x[assignments == k][:each], blank])[:each] for k in shown])
    rows = [_describe(k, assignments, labels, names) for k in shown]
    total = len(assignments.unique())
    grid = draw_grid(tiles, rows=rows, title=f"{len(shown)} of {total} clusters, up to {each} images of each")
    if coloured:
        legend(grid.figure, coloured)
    return grid.figure


def _chosen(assignments: Tensor, clusters: int | Sequence[int]) -> list[int]:
    present, sizes = assignments.unique(return_counts=True)
    if isinstance(clusters, int):
        require(clusters >= 1, "clusters", "one cluster or more", clusters)
        return present[sizes.argsort(descending=True, stable=True)[:clusters]].tolist()
    missing = sorted(set(clusters) - set(present.tolist()))
    require(len(clusters) > 0 and not missing, "clusters", "clusters that have images", missing or clusters)
    return list(clusters)


def _class_names(images: Images | Tensor, labels: Tensor | None) -> list[str]:
    if labels is None:
        return []
    return list(images.classes) if isinstance(images, Images) else [str(k) for k in range(int(labels.max()) + 1)]


def _describe(cluster: int, assignments: Tensor, labels: Tensor | None, names: Sequence[str]) -> str:
    inside = assignments == cluster
    text = f"cluster {cluster}\n{int(inside.sum()):,} images"
    if labels is None:
        return text
    counts = labels[inside].bincount()
    return text + f"\n{counts.max() / counts.sum():.0%} {names[int(counts.argmax())]}"


def _with_bars(x: Tensor, labels: Tensor, colors: Sequence[str]) -> Tensor:
    """Add a bar in the colour of its class under each image, between lines of white."""
    bars = torch.tensor([to_rgb(color) for color in colors])[labels][:, :, None, None]
    bars = bars.expand(-1, -1, max(1, x.shape[2] // 10), x.shape[3])
    white = torch.ones_like(bars[:, :, :1])
    return torch.cat([x.expand(-1, 3, -1, -1), white, bars, white], 2)


def show_cluster_quality(qualities: Mapping[str, Sequence[ClusterQuality]] | Sequence[ClusterQuality]) -> Picture:
    """Show purity, NMI and ARI against the number of clusters K, a line for each source of features.

    `qualities` maps a source's name to its `adv.cluster_quality` for several K; one plain list does too.
    """
    named = isinstance(qualities, Mapping)
    sources = dict(qualities) if named else {"clusters": qualities}
    for name, entries in sources.items():
        whole = len(entries) > 0 and all(isinstance(entry, ClusterQuality) for entry in entries)
        require(whole, f"qualities[{name!r}]", "a list of ClusterQuality", entries, "Use adv.cluster_quality.")
    require(len(sources) > 0, "qualities", "one source or more", qualities)
    picture, panels = figure(WIDTH, 3.0, 1, 3)
    colors = colors_of(sources)
    for axes, measure in zip(panels, MEASURES, strict=True):
        _draw_measure(axes, measure, sources, colors)
    if named:
        legend(picture, colors)
    return picture


def _draw_measure(
    axes: Axes, measure: str, sources: Mapping[str, Sequence[ClusterQuality]], colors: Mapping[str, str]
) -> None:
    for name, entries in sources.items():
        points = sorted((entry.clusters, getattr(entry, measure)) for entry in entries)
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colors[name], clip_on=False)
    axes.set_xscale("log")
    plain_ticks(axes, sorted({entry.clusters for entries in sources.values() for entry in entries}))
    axes.set_xlabel("number of clusters K")
    title, meaning = MEASURES[measure]
    axes.set_title(title, loc="left")
    axes.set_ylim(0, 1)
    axes.set_ylabel(meaning)
    if measure == "purity":
        percent_axis(axes, meaning)
