"""Features in a plane, the likeness of layers, and hard pairs as images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from advcl_nb._check import require, require_is
from advcl_nb.data import Images
from advcl_nb.mixing import MixedBatch
from advcl_nb.plots._grid import as_batch, draw_grid
from advcl_nb.plots._style import (
    CHARACTER,
    INK,
    PALETTE,
    SMALL,
    WIDTH,
    Picture,
    class_colors,
    colors_of,
    figure,
    legend,
)


def show_embedding(
    points: Mapping[str, Tensor] | Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    moved: Mapping[str, Tensor] | Tensor | None = None,
    arrows: int = 60,
) -> Picture:
    """Show places ``(n, 2)``, as `adv.embed_2d` gives them: a panel for each name, a colour for each class.

    `labels` ``(n,)`` are shared by all panels. Panels have their own axes: the places of two maps do not compare.
    `moved` holds, under the same names, the places of each image's adversarial copy: crosses in the class's colour, and
    up to `arrows` arrows, evenly picked by row, from image to copy. Raises ValueError for places that do not fit.
    """
    named, copies = (dict(given) if isinstance(given, Mapping) else {"": given} for given in (points, moved))
    require(len(named) > 0, "points", "one map or more", points)
    inside = isinstance(labels, Tensor) and bool(((labels >= 0) & (labels < len(classes))).all())
    require(inside, "labels", f"class numbers from 0 to {len(classes) - 1}", labels)
    require(moved is None or copies.keys() == named.keys(), "moved", "places under the names of points", moved)
    require(arrows >= 0, "arrows", "a count >= 0", arrows)
    for given, argument in ((named, "points"), (copies if moved is not None else {}, "moved")):
        for name, places in given.items():
            fits = isinstance(places, Tensor) and places.shape == (len(labels), 2) and bool(places.isfinite().all())
            require(fits, f"{argument}[{name!r}]", f"finite places ({len(labels)}, 2)", places)
    columns = 2 if len(named) == 4 else min(len(named), 3)
    rows = math.ceil(len(named) / columns)
    wide, high = (4.2, 3.9) if columns < 3 else (3.0, 2.9)
    picture, panels = figure(min(wide * columns + 1.5, WIDTH), high * rows, rows, columns)
    colors = class_colors(len(classes))
    chosen = [colors[label] for label in labels.tolist()]
    picks = torch.linspace(0, len(labels) - 1, min(arrows, len(labels))).round().long()
    for axes in panels[len(named) :]:
        axes.remove()
    for (name, places), axes in zip(named.items(), panels, strict=False):
        axes.scatter(*places.T.tolist(), s=6, c=chosen, alpha=0.7, linewidths=0, rasterized=True)
        if moved is not None:
            _draw_moves(axes, places.cpu(), copies[name].cpu(), chosen, picks)
        axes.set_title(name, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
    if moved is not None:
        words = f"\narrows: {len(picks)} of {len(labels)}, from an image to its copy" if len(picks) else ""
        words = f"dots: images; crosses: their adversarial copies{words}"
        picture.supxlabel(words, x=0.01, ha="left", fontsize=SMALL, color=INK)
    if len(classes) <= 2 * len(PALETTE):  # colours repeat after ten: a longer legend tells nothing
        legend(picture, dict(zip(classes, colors, strict=True)))
    return picture


def _draw_moves(axes: Axes, places: Tensor, copies: Tensor, colors: Sequence[str], picks: Tensor) -> None:
    """Draw all copies as crosses, and arrows to the picked ones."""
    axes.scatter(*copies.T.tolist(), s=10, c=colors, marker="x", alpha=0.5, linewidths=0.7, rasterized=True)
    if len(picks):
        start, shift = places[picks], (copies - places)[picks]
        size = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "dots", "width": 0.9}
        head = {"headwidth": 6, "headlength": 7, "headaxislength": 6, "minlength": 0}
        axes.quiver(*start.T.tolist(), *shift.T.tolist(), color=INK, alpha=0.7, **size, **head)


def show_layer_similarity(similarity: Mapping[str, Mapping[str, float]] | Mapping[str, float]) -> Picture:
    """Show for each model how alike its layers see clean and adversarial images: a line over the layers.

    `similarity` maps a model's name to its layers' linear CKA (`adv.linear_cka` of the two sets' `adv.layer_features`),
    in the order of the layers; the layers of one model alone will do. 1 does not mean that nothing changed: CKA hardly
    sees directions of little variance. Raises ValueError for a model without layers and for values outside [0, 1].
    """
    require_is(similarity, "similarity", Mapping, 'Write {"stem": adv.linear_cka(a, b)}.')
    single = len(similarity) > 0 and not any(isinstance(layers, Mapping) for layers in similarity.values())
    similarity = {"": similarity} if single else similarity
    require(len(similarity) > 0, "similarity", "one model or more", similarity)
    for name, layers in similarity.items():
        fits = len(layers) > 0 and all(-1e-6 <= value <= 1 + 1e-6 for value in layers.values())
        require(fits, f"similarity[{name!r}]", "a linear CKA in [0, 1] for each layer", layers)
    names = list(dict.fromkeys(layer for layers in similarity.values() for layer in layers))
    width = max(0.75 * len(names) + 2.0 + CHARACTER * max(map(len, similarity)), 5.5)
    picture, (axes,) = figure(min(width, WIDTH), 3.0)
    colors = colors_of(similarity)
    for name, layers in similarity.items():
        positions = [names.index(layer) for layer in layers]
        axes.plot(positions, list(layers.values()), color=colors[name], marker="o", linestyle="-", markersize=4)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.02)  # a marker at 1 is whole
    axes.set_ylabel("linear CKA,\nclean against adversarial")
    axes.set_xlabel("layer")
    axes.set_title("How much of each layer survives the attack", loc="left")
    legend(picture, colors)
    return picture


def show_hard_pairs(images: Images | Tensor, mixed: MixedBatch, rows: Sequence[int]) -> Picture:
    """Show for some `rows` of a mixed batch the image, its hardest positive, hardest negative and random negative.

    `images` ``(n, c, h, w)`` are the batch that gave the features, in their order. White: the batch had none.
    """
    require_is(mixed, "mixed", MixedBatch, "Make it with adv.mix_hard_pairs.")
    require_is(rows, "rows", Sequence, "Write [0].")
    x, n = as_batch(images), len(mixed.hard_positive)
    require(len(x) == n, "images", f"the {n} images of the batch", x)
    require(len(rows) > 0 and min(rows) >= 0 and max(rows) < n, "rows", f"row numbers from 0 to {n - 1}", rows)
    index = torch.as_tensor(list(rows))
    white = torch.full_like(x[index], torch.nan)
    found = lambda partner, has: torch.where(has.cpu()[index, None, None, None], x[partner.cpu()[index]], white)  # noqa: E731
    tiles = torch.stack([
        x[index], found(mixed.hard_positive, mixed.has_positive),
        found(mixed.hard_negative, mixed.has_negative), found(mixed.partner, mixed.has_negative),
    ])  # fmt: skip
    names = ["image", "hardest positive", "hardest negative", "random negative"]
    return draw_grid(tiles, rows=names).figure
