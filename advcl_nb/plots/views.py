"""The contrastive views of images, and what each augmentation does alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Generator, Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.plots._grid import Grid, around_grey, as_batch, draw_grid, one_image
from advcl_nb.plots._style import VIEW_COLORS, Picture
from advcl_nb.views import (
    ViewDraw,
    Views,
    ViewSettings,
    color_jitter,
    draw_views,
    flip,
    padded_crop,
    resized_crop,
    to_grey,
)


def show_views(images: Images | Tensor, views: Views, draw: ViewDraw | None = None) -> Picture:
    """Show each image in a row: the original, view1, view2, base, and the high view, signed and clamped.

    With the `draw` that made the views, the original carries the boxes that view1 and view2 are cut from. Signed means
    around mid-grey, as the encoder gets it; clamped to [0, 1] is how AdvCL's figure 2 shows it. Raises ValueError
    where images, views and draw differ in number or size.
    """
    x = as_batch(images)
    todo = "Make them with adv.make_views(images, draw)."
    for view in views:
        require(view.shape == x.shape, "views", f"views of shape {tuple(x.shape)}", view, todo)
    drawn = len(x) if draw is None else draw.boxes.shape[1]
    require(
        drawn == len(x), "draw", f"the draw of these {len(x)} images", f"one of {drawn}", "Pass the views' own draw."
    )
    strong = [as_batch(view, "views") for view in views[:3]]
    high = as_batch(views.high, "views.high", signed=True)
    signed, words = around_grey(high)
    names = ["original", "view1", "view2", "base", "high, signed", "high, clamped"]
    tiles = torch.stack([x, *strong, signed, high.clamp(0, 1)], 1)
    title = "Each image and its views" + (", with the boxes of view1 and view2" if draw else "")
    grid = draw_grid(tiles, columns=names, title=title, caption=f"high, signed: {words}")
    if draw:
        _draw_boxes(grid, draw)
    return grid.figure


def _draw_boxes(grid: Grid, draw: ViewDraw) -> None:
    """Outline the crops on the originals, each in the colour of its view's column label."""
    for which, color in enumerate(VIEW_COLORS):
        grid.axes.get_xticklabels()[1 + which].set(color=color, fontweight="bold")
        for origin, (top, left, height, width) in zip(grid.tops, draw.boxes[which].tolist(), strict=True):
            corner = grid.lefts[0] + left - 0.5, origin + top - 0.5
            effects = [withStroke(linewidth=3, foreground="white")]
            box = Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=1.8, path_effects=effects)
            grid.axes.add_patch(box)


def show_augmentations(image: Tensor, settings: ViewSettings, *, generator: Generator) -> Picture:
    """Show what each augmentation does to one image ``(c, h, w)`` when it acts alone: a column each, three draws.

    The amount of each draw stands over it. Flip and grey are shown as when they happen, whatever their probability.
    Saturation, hue and grey are left out for an image of one channel.
    """
    x = one_image(image).expand(3, -1, -1, -1)
    draw = draw_views(3, *x.shape[2:], replace(settings, jitter=1.0), generator=generator)
    made = {"original": (x, ["", "", ""])} | _alone(x, draw)
    if x.shape[1] == 1:
        made = {name: pair for name, pair in made.items() if name not in ("saturation", "hue", "grey")}
    tiles = torch.stack([images for images, _ in made.values()], 1)
    tiles[1:, 0] = torch.nan  # the original once
    titles = [amounts[row] for row in range(3) for _, amounts in made.values()]
    title = "Each augmentation alone, three draws"
    return draw_grid(tiles, columns=list(made), titles=titles, title=title).figure


def _alone(x: Tensor, draw: ViewDraw) -> dict[str, tuple[Tensor, list[str]]]:
    """Apply each operation with its own part of the draw; return the images and the amounts in words."""
    always = torch.ones(len(x), dtype=torch.bool)
    h, w = x.shape[2:]
    shares = [f"{height * width / (h * w):.0%} of area" for _, _, height, width in draw.boxes[0].tolist()]
    shifts = (draw.padding - draw.base_offsets).tolist()  # of the picture, the opposite of the cut's
    moves = [f"{'↑↓'[down > 0]}{abs(down)} {'←→'[right > 0]}{abs(right)} px" for down, right in shifts]
    colors = ("brightness", "contrast", "saturation", "hue")
    return {
        "crop": (resized_crop(x, draw.boxes[0]), shares),
        "flip": (flip(x, always), ["mirrored"] * 3),
        **{name: _jittered(x, draw, k) for k, name in enumerate(colors)},
        "grey": (to_grey(x, always).expand_as(x), ["no colour"] * 3),
        "padded crop": (padded_crop(x, draw.base_offsets, draw.padding), moves),
    }


def _jittered(x: Tensor, draw: ViewDraw, k: int) -> tuple[Tensor, list[str]]:
    """Apply colour operation k alone, with the others at rest."""
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(len(x), 1)
    factors[:, k] = draw.factors[0, :, k]
    words = [f"{360 * value:+.0f}°" if k == 3 else f"x {value:.2f}" for value in factors[:, k].tolist()]
    return color_jitter(x, factors, draw.order[0]), words
