"""Pick a clustering and a cluster, and see who is in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from ipywidgets import Dropdown, Widget
from PIL import Image
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.clustering import ClusterQuality, cluster_quality
from advcl_nb.data import Images
from advcl_nb.explore._base import Explorer, as_numbers, as_set, as_tensor, beside, class_names, gallery, pixels, slider
from advcl_nb.plots._grid import as_batch
from advcl_nb.plots._style import INK, PALETTE, Picture, by_name, class_colors, figure, percent_axis, plain_ticks

SHOWN = 32  # images of a cluster
MEASURES = {"purity": PALETTE[0], "nmi": PALETTE[1]}


def explore_clusters(
    assignments: Mapping[str, Tensor] | Tensor,
    images: Images | Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    *,
    classes: Sequence[str] | None = None,
) -> Explorer:
    """Explore clusterings of images ``(n, c, h, w)`` whose true classes are `labels` ``(n,)``.

    `assignments` ``(n, k)`` hold cluster numbers, a column for each clustering, as `adv.pseudo_labels` makes them; a
    mapping from names to several such compares sources of features. Controls: "source"; "column", which clustering, by
    its number of clusters K; "cluster". The picture: up to 32 images of the cluster, its classes as bars, and purity
    and NMI against K with the chosen K marked. Raises ValueError where numbers, images and labels do not match.
    """
    x = as_set(images)
    labels = as_numbers("labels", labels, len(x))
    classes = images.classes if classes is None and isinstance(images, Images) else classes
    sources = {name: _columns(table, name, len(x)) for name, table in by_name(assignments).items()}
    require(len(sources) > 0, "assignments", "one source of clusters or more", assignments)
    widths = {len(columns) for columns in sources.values()}
    require(len(widths) == 1, "assignments", "as many columns from each source", sorted(widths))
    names = class_names(int(labels.max()) + 1) if classes is None else list(classes)
    require(int(labels.max()) < len(names), "labels", f"class numbers from 0 to {len(names) - 1}", labels)
    qualities = {name: [cluster_quality(column, labels) for column in columns] for name, columns in sources.items()}

    def draw(source: str, column: int, cluster: int) -> tuple[Image.Image, str]:
        found = (sources[source][column] == cluster).nonzero().flatten()
        quality = qualities[source][column]
        counts = labels[found].bincount(minlength=len(names))
        shown = gallery(as_batch(x[found[:SHOWN]]) if len(found) else x[:0], columns=8)
        words = f"{source}: " * bool(source) + f"K = {quality.clusters}, cluster {cluster}: {len(found)} images"
        if len(found):
            words += f", most of them {names[int(counts.argmax())]} {counts.max() / counts.sum():.0%}"
        words += f". All clusters: purity {quality.purity:.1%}, NMI {quality.nmi:.2f}."
        return beside(beside(shown, pixels(_bars(counts, names))), curves(source, column)), words

    @functools.cache
    def curves(source: str, column: int) -> Image.Image:
        return pixels(_curves(qualities[source], column))

    return Explorer(_controls(sources, next(iter(qualities.values()))), draw)


def _controls(sources: Mapping[str, Sequence[Tensor]], qualities: Sequence[ClusterQuality]) -> dict[str, Widget]:
    """The choices; the slider ends at the chosen clustering's last cluster."""
    options = [(f"K = {quality.clusters}", k) for k, quality in enumerate(qualities)]
    controls = {
        "source": Dropdown(options=list(sources), description="features of"),
        "column": Dropdown(options=options, description="clustering"),
        "cluster": slider("cluster (number)", 0, 0, 1, 1),
    }

    def fit_slider(change: object = None) -> None:
        chosen = sources[controls["source"].value][controls["column"].value]
        controls["cluster"].max = int(chosen.max())

    controls["source"].layout.display = None if len(sources) > 1 else "none"  # nothing to choose
    for name in ("source", "column"):
        controls[name].observe(fit_slider, "value")
    fit_slider()
    return controls


def _columns(table: Tensor, name: str, n: int) -> list[Tensor]:
    table = as_tensor(table)
    argument = f"assignments[{name!r}]" if name else "assignments"
    fits = (
        isinstance(table, Tensor)
        and table.ndim == 2
        and len(table) == n
        and table.shape[1] > 0
        and not table.is_floating_point()
    )
    require(
        fits,
        argument,
        f"cluster numbers ({n}, k), a row for each image",
        table,
        "Make them with adv.pseudo_labels; for one clustering write a[:, None].",
    )
    return list(table.cpu().long().T)


def _bars(counts: Tensor, names: Sequence[str]) -> Picture:
    """Draw how many images of each class a cluster has."""
    picture, (axes,) = figure(3.2, 2.7)
    axes.barh(range(len(names)), counts.tolist(), color=class_colors(len(names)))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("images in the cluster")
    return picture


def _curves(qualities: Sequence[ClusterQuality], column: int) -> Picture:
    """Draw purity and NMI against K, with the chosen K marked."""
    picture, (axes,) = figure(3.2, 2.7)
    counts = [quality.clusters for quality in qualities]
    for place, (measure, color) in enumerate(MEASURES.items()):
        values = [getattr(quality, measure) for quality in qualities]
        axes.plot(counts, values, "o-", color=color, markersize=4)
        axes.text(0.03, 0.95 - 0.1 * place, measure.replace("nmi", "NMI"), color=color, transform=axes.transAxes)
    axes.axvline(counts[column], color=INK, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    plain_ticks(axes, sorted(set(counts)))
    percent_axis(axes, "agreement with the classes")
    axes.set_xlabel("number of clusters K")
    return picture
