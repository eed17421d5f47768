"""Features in a plane, and hard pairs as images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.mixing import MixedBatch
from advcl_nb.plots._grid import as_batch, draw_grid
from advcl_nb.plots._style import WIDTH, Picture, class_colors, figure, legend


def show_embedding(points: Mapping[str, Tensor] | Tensor, labels: Tensor, classes: Sequence[str]) -> Picture:
    """Show places ``(n, 2)``, as `adv.embed_2d` gives them: a panel for each name, a colour for each class.

    `labels` ``(n,)`` are shared by all panels. Panels have their own axes: the places of two maps do not compare.
    """
    named = dict(points) if isinstance(points, Mapping) else {"": points}
    require(len(named) > 0, "points", "one map or more", points)
    inside = bool(((labels >= 0) & (labels < len(classes))).all())
    require(inside, "labels", f"class numbers from 0 to {len(classes) - 1}", labels)
    for name, places in named.items():
        fits = places.shape == (len(labels), 2) and bool(places.isfinite().all())
        require(fits, f"points[{name!r}]", f"finite places ({len(labels)}, 2)", places)
    columns = 2 if len(named) == 4 else min(len(named), 3)
    rows = math.ceil(len(named) / columns)
    picture, panels = figure(min(3.0 * columns + 1.5, WIDTH), 2.9 * rows, rows, columns)
    colors = class_colors(len(classes))
    chosen = [colors[label] for label in labels.tolist()]
    for axes in panels[len(named) :]:
        axes.remove()
    for (name, places), axes in zip(named.items(), panels, strict=False):
        axes.scatter(*places.T.tolist(), s=6, c=chosen, alpha=0.7, linewidths=0, rasterized=True)
        axes.set_title(name, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
    legend(picture, dict(zip(classes, colors, strict=True)))
    return picture


def show_hard_pairs(images: Images | Tensor, mixed: MixedBatch, rows: Sequence[int]) -> Picture:
    """Show for some `rows` of a mixed batch the image, its hardest positive, hardest negative and random negative.

    `images` ``(n, c, h, w)`` are the batch that gave the features, in their order. White: the batch had none.
    """
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
