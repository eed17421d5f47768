"""Images in a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.plots._grid import around_grey, as_batch, draw_grid
from advcl_nb.plots._style import Picture


def show_images(
    images: Images | Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    signed: bool = False,
    scale: float | None = None,
    title: str = "",
) -> Picture:
    """Show uint8 or float images ``(n, c, h, w)`` in a grid, row by row, each under its title.

    Signed images (high-pass views, perturbations) are shown around mid-grey, `scale` times as strong; by default the
    largest value becomes black or white. The caption says which value that is. `columns` is at most ten by default.
    Raises ValueError for values outside [0, 1] that are not `signed`, and for titles that do not match the images.
    """
    x = as_batch(images, signed=signed)
    n = len(x)
    require(titles is None or len(titles) == n, "titles", f"{n} titles, one an image", titles)
    require(columns is None or columns >= 1, "columns", "a count >= 1, or None", columns)
    require(scale is None or signed, "scale", "None for images in [0, 1]", scale, "Add signed=True.")
    x, caption = around_grey(x, scale) if signed else (x, "")
    columns = columns or math.ceil(n / math.ceil(n / 10))
    rows = math.ceil(n / columns)
    tiles = torch.cat([x, x.new_full((rows * columns - n, *x.shape[1:]), torch.nan)])
    names = [str(name) for name in titles] + [""] * (rows * columns - n) if titles is not None else ()
    return draw_grid(tiles.unflatten(0, (rows, columns)), titles=names, title=title, caption=caption).figure
