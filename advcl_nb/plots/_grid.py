"""A grid of images as one mosaic in one axes: an axes per image takes seven times as long to draw."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images, to_float
from advcl_nb.plots._style import CHARACTER, INK, SMALL, WIDTH, Picture, figure

LINE = 0.16  # inches that a line of small text is high


class Grid(NamedTuple):
    """A drawn mosaic, and the pixel at which each row and each column of tiles begins."""

    figure: Picture
    axes: Axes
    tops: list[int]
    lefts: list[int]


def as_batch(images: Images | Tensor, name: str = "images", *, signed: bool = False) -> Tensor:
    """Check uint8 or float images ``(n, c, h, w)`` and return them as float32 on the CPU, in [0, 1] unless signed."""
    x = images.x if isinstance(images, Images) else images
    require(isinstance(x, Tensor) and x.ndim == 4, name, "images (n, c, h, w)", x, "For one image write image[None].")
    require(x.numel() > 0 and x.shape[1] in (1, 3), name, "one image or more, of one channel or three", x)
    require(x.dtype == torch.uint8 or x.is_floating_point(), name, "uint8 or float images", x)
    require(x.is_floating_point() or not signed, name, "signed images in floats", x, "Subtract images as floats.")
    x = to_float(x.detach().cpu()).float()
    require(bool(x.isfinite().all()), name, "finite numbers", x)
    inside = signed or (x.min() >= -1e-5 and x.max() <= 1 + 1e-5)
    todo = "Divide 0..255 by 255; show a high-pass or a perturbation with adv.show_images(..., signed=True)."
    require(bool(inside), name, "values in [0, 1]", x, todo)
    return x


def one_image(image: Tensor) -> Tensor:
    """Check one image ``(c, h, w)`` and return it as a batch of one."""
    require(isinstance(image, Tensor) and image.ndim == 3, "image", "one image (c, h, w)", image, "Write images[0].")
    return as_batch(image[None], "image")


def around_grey(signed: Tensor, scale: float | None = None) -> tuple[Tensor, str]:
    """Show 0 as mid-grey and the rest `scale` times as strong; None lets the largest value reach black or white.

    Returns the images to show and the sentence that says so.
    """
    require(scale is None or scale > 0, "scale", "a positive factor, or None", scale)
    reach = 0.5 / scale if scale else signed.abs().max().item() or 0.5
    words = f"mid-grey is 0, white +{reach:.3g}, black -{reach:.3g} ({255 * reach:.3g} grey levels)"
    return (0.5 + signed / (2 * reach)).clamp(0, 1), words


def tile_inches(width: int, height: int, columns: int) -> float:
    """Return a tile's width on paper: an inch for small images, two for photographs, less where many stand in a row."""
    return min(1.0 if max(width, height) <= 64 else 2.0, WIDTH / columns)


def draw_grid(
    tiles: Tensor,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    titles: Sequence[str] = (),
    title: str = "",
    caption: str = "",
) -> Grid:
    """Draw tiles ``(rows, columns, c, h, w)`` in [0, 1], with labels of rows and columns and a title over each tile.

    `titles` go row by row; each is an entry of ``axes.texts``. NaN leaves a tile white.
    """
    _, k, _, h, w = tiles.shape
    inches = tile_inches(w, h, k)
    titles, columns = [_wrap(text, inches) for text in titles], [_wrap(text, inches) for text in columns]
    canvas, tops, lefts = _mosaic(tiles, room=round(_inches_high(titles) * w / inches))
    margin = CHARACTER * max((len(line) for text in rows for line in text.split("\n")), default=0)
    extra = _inches_high(columns) + (0.3 if title else 0) + _inches_high([caption])
    wide, high = canvas.shape[1] * inches / w + margin, canvas.shape[0] * inches / w + extra
    picture, (axes,) = figure(wide, high)
    axes.imshow(canvas.numpy(), interpolation="nearest" if max(h, w) <= 64 else "antialiased")
    _label(axes, [top + h / 2 for top in tops], [left + w / 2 for left in lefts], rows, columns)
    corners = [(left, top) for top in tops for left in lefts]
    for text, (left, top) in zip(titles, corners, strict=bool(titles)):
        place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "va": "baseline"}
        axes.annotate(text, (left + w / 2, top - 0.5), fontsize=SMALL, color=INK, linespacing=1.15, **place)
    axes.set_title(_wrap(title, max(wide, 4.0) - 0.8), loc="left")
    axes.set_xlabel(_wrap(caption, max(wide, 4.0)), loc="left", fontsize=SMALL)
    return Grid(picture, axes, tops, lefts)


def _mosaic(tiles: Tensor, room: int) -> tuple[Tensor, list[int], list[int]]:
    """Lay the tiles out on white, with `room` pixels over each for its title; return where each begins."""
    r, k, _, h, w = tiles.shape
    gap = max(1, w // 12)
    tops = [room + i * (room + h + gap) for i in range(r)]
    lefts = [j * (w + gap) for j in range(k)]
    canvas = torch.ones(tops[-1] + h, lefts[-1] + w, 3)
    for top, row in zip(tops, tiles, strict=True):
        for left, tile in zip(lefts, row, strict=True):
            canvas[top : top + h, left : left + w] = tile.nan_to_num(1.0).clamp(0, 1).permute(1, 2, 0)
    return canvas, tops, lefts


def _wrap(text: str, inches: float) -> str:
    """Break the lines of a text that are longer than so many inches."""
    return "\n".join(textwrap.fill(line, max(6, int(inches / CHARACTER))) for line in text.split("\n"))


def _inches_high(texts: Sequence[str]) -> float:
    return LINE * max((text.count("\n") + 1 for text in texts if text), default=0)


def _label(axes: Axes, ys: list[float], xs: list[float], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Write the labels as ticks without marks, so that the layout leaves them room."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, bottom=False, left=False, labeltop=True, labelbottom=False)
    axes.set_yticks(ys if rows else [], rows or None)
    axes.set_xticks(xs if columns else [], columns or None)
