"""Draw the built-in images: ten silhouettes, each with a faint grating that gives its class away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advcl_nb._check import require, require_number, require_range

LUMINANCE = (0.299, 0.587, 0.114)
MARGIN = 0.05  # colours keep this far from 0 and 1, so that clipping bends neither the grating nor the noise


@dataclass(frozen=True)
class ShapeSettings:
    """How the built-in images look; the defaults are the data set `shapes`.

    The silhouette is the robust cue: its luminance lies `contrast` above or below the middle grey, the ground's as far
    on the other side. The grating is the non-robust cue: one wave per class, of `cue_amplitude` (in units of [0, 1], so
    the default is four grey levels), of high frequency, of low frequency or absent.
    """

    contrast: float = 0.35
    cue: str = "high"
    cue_amplitude: float = 4 / 255
    noise: float = 0.02
    fill: tuple[float, float] = (0.75, 1.0)  # the part of the picture's side that a silhouette spans
    shift: float = 0.12  # largest move, as a part of the side
    turn: float = 22.0  # largest turn, in degrees

    def __post_init__(self) -> None:
        limit = 0.5 - MARGIN
        require_number(self.contrast, "contrast", f"a value in [0, {limit}]", 0, limit)
        require(self.cue in ("high", "low", "none"), "cue", "'high', 'low' or 'none'", self.cue)
        levels = "For 4 grey levels write 4 / 255."
        require_number(self.cue_amplitude, "cue_amplitude", "a value in [0, 1]", 0, 1, todo=levels)
        require_number(self.noise, "noise", "a standard deviation of at least 0", 0)
        require_range(self.fill, "fill", "0 < low <= high")
        require_number(self.shift, "shift", "a part of the side of at least 0", 0)
        require_number(self.turn, "turn", "degrees of at least 0", 0)


DEFAULT_SETTINGS = ShapeSettings()


def _box(x: Tensor, y: Tensor, *sides: float) -> Tensor:
    """Signed distance to a rectangle, given as left, right, top and bottom; negative inside."""
    left, right, top, bottom = sides
    across = (x - (left + right) / 2).abs() - (right - left) / 2
    return torch.maximum(across, (y - (top + bottom) / 2).abs() - (bottom - top) / 2)


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, -0.9, 0.9, -0.9, 0.9)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    slope = 1.8  # the sides rise 1.8 for each step to the middle: corners at (0, -0.95), (1, 0.85) and (-1, 0.85)
    return torch.maximum((slope * x.abs() - (y + 0.95)) / math.hypot(slope, 1), y - 0.85)


def _plus(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, -1.0, 1.0, -0.33, 0.33), _box(x, y, -0.33, 0.33, -1.0, 1.0))


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.75).abs() - 0.25


def _frame(x: Tensor, y: Tensor) -> Tensor:
    return (torch.maximum(x.abs(), y.abs()) - 0.72).abs() - 0.2


def _bars(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y.abs(), -0.95, 0.95, 0.28, 0.88)


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 1, 0.75 - torch.hypot(x - 0.5, y))


def _corner(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, -0.9, -0.25, -0.95, 0.95), _box(x, y, -0.9, 0.9, 0.35, 0.95))


def _dots(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x.abs() - 0.55, y.abs() - 0.55) - 0.37


# Signed distance functions on [-1, 1] x [-1, 1], y pointing down.
SILHOUETTES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": _disc, "square": _square, "triangle": _triangle, "plus": _plus, "ring": _ring,
    "frame": _frame, "bars": _bars, "crescent": _crescent, "L": _corner, "dots": _dots,
}  # fmt: skip


def cue_waves(cue: str, size: int) -> Tensor:
    """The wave vector of each class's grating, `(10, 2)` as (fx, fy) in cycles per pixel.

    "high": ten directions 9 degrees apart, of 0.35 and 0.47 cycles per pixel by turns. All lie in one quadrant, because
    a mirrored picture would otherwise show the grating of another class. "low": 2.2 cycles per picture, ten directions
    18 degrees apart, the mirrored ones in between.
    """
    k = torch.arange(10)
    length, step = (0.35 + 0.12 * (k % 2), 9) if cue == "high" else (torch.full((10,), 2.2 / size), 18)
    angle = torch.deg2rad(4.5 + step * k)
    return torch.stack([length * angle.cos(), length * angle.sin()], dim=1)


def _uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _coverage(labels: Tensor, settings: ShapeSettings, size: int, generator: torch.Generator) -> Tensor:
    """How much of each pixel the silhouette covers, `(n, h, w)` in [0, 1], each moved, turned and scaled at random."""
    n, pixel = len(labels), 2 / size
    scale = _uniform(*settings.fill, n, 1, 1, generator=generator)
    turn = torch.deg2rad(_uniform(-settings.turn, settings.turn, n, 1, 1, generator=generator))
    move_x, move_y = _uniform(-2 * settings.shift, 2 * settings.shift, 2, n, 1, 1, generator=generator)
    grid = (torch.arange(size) + 0.5) * pixel - 1
    x, y = grid[None, None, :] - move_x, grid[None, :, None] - move_y
    x, y = (turn.cos() * x + turn.sin() * y) / scale, (turn.cos() * y - turn.sin() * x) / scale
    distance = torch.empty(n, size, size)
    for k, silhouette in enumerate(SILHOUETTES.values()):
        rows = labels == k
        distance[rows] = silhouette(x[rows], y[rows])
    return (0.5 - distance * scale / pixel).clamp(0, 1)  # the edge is one pixel wide


def _colors(luminance: Tensor, generator: torch.Generator) -> Tensor:
    """Random colours of the given luminance, `(n, 3)` within the margins: grey plus a random step that keeps it."""
    step = torch.rand(len(luminance), 3, generator=generator) - 0.5
    step = step - (step @ torch.tensor(LUMINANCE))[:, None]
    room = torch.where(step > 0, 1 - MARGIN - luminance[:, None], luminance[:, None] - MARGIN)
    longest = (room / step.abs().clamp_min(1e-6)).amin(dim=1)
    return luminance[:, None] + step * (longest * torch.rand(len(step), generator=generator))[:, None]


def _grating(labels: Tensor, settings: ShapeSettings, size: int, generator: torch.Generator) -> Tensor:
    """The faint cue, `(n, 1, h, w)`; the phase is drawn also for "none", so that all else stays the same."""
    phase = _uniform(0.0, 2 * math.pi, len(labels), 1, 1, generator=generator)
    if settings.cue == "none":
        return torch.zeros(len(labels), 1, size, size)
    fx, fy = cue_waves(settings.cue, size)[labels].T[:, :, None, None]
    at = torch.arange(size)
    wave = torch.cos(2 * math.pi * (fx * at[None, None, :] + fy * at[None, :, None]) + phase)
    return settings.cue_amplitude * wave[:, None]


def draw_shapes(count: int, size: int, settings: ShapeSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` images: uint8 `(n, 3, h, w)` and their labels, int64 `(n,)`, equally many of each class."""
    labels = (torch.arange(count) % len(SILHOUETTES))[torch.randperm(count, generator=generator)]
    cover = _coverage(labels, settings, size, generator)[:, None]
    side = settings.contrast * (1 - 2 * torch.randint(2, (count,), generator=generator))
    front, ground = _colors(0.5 + side, generator)[:, :, None, None], _colors(0.5 - side, generator)[:, :, None, None]
    x = ground + (front - ground) * cover + _grating(labels, settings, size, generator)
    x = x + settings.noise * torch.randn(count, 3, size, size, generator=generator)
    return (x * 255).round().clamp(0, 255).to(torch.uint8), labels
