"""Drag a radius and see what of an image lies below it, and what above."""

from __future__ import annotations

import numpy as np
import torch
from ipywidgets import Dropdown
from PIL import Image, ImageColor
from torch import Tensor

from advcl_nb.data import Images
from advcl_nb.explore._base import SAMPLE, Explorer, as_set, row_of_tiles, slider
from advcl_nb.frequency import high_pass, power_spectrum, radial_mask
from advcl_nb.plots._grid import as_batch
from advcl_nb.plots._style import PALETTE

ONE, ALL = "this image", "mean of the images"


def explore_frequency(images: Images | Tensor | np.ndarray, *, radius: float | None = None) -> Explorer:
    """Explore how a radius splits images ``(n, c, h, w)``, uint8 or floats in [0, 1], into slow and fast frequencies.

    Controls: "image", its number; "radius", in cycles per picture, where `adv.high_pass` cuts (at first a quarter of
    the side, as the release's 8 of 32); "spectrum", of this image or the mean over the first 1,000. The picture:
    original, low part, high part around mid-grey and clamped to [0, 1] (as AdvCL's figure 2 shows it), and the
    spectrum, the slowest waves in its middle, what the high part lacks in orange. The sentence: the share of energy on
    each side. Raises ValueError for what are no images.
    """
    x = as_set(images)
    h, w = x.shape[2:]
    parts = x[:SAMPLE].split(50)  # some at a time: photographs are large
    mean_power = sum(power_spectrum(as_batch(part)).sum(0) for part in parts) / len(x[:SAMPLE])
    largest = float(np.floor(2 * np.hypot(h // 2, w // 2)) / 2 + 0.5)
    radius = min(h, w) / 4 if radius is None else float(radius)

    def draw(image: int, radius: float, spectrum: str) -> tuple[Image.Image, str]:
        one = as_batch(x[image : image + 1])
        high = high_pass(one, radius)
        power = power_spectrum(one)[0] if spectrum == ONE else mean_power
        low = radial_mask(h, w, radius)
        share = float(power[low].sum() / power.sum().clamp(min=1e-12))
        tiles = {
            "original": one[0], "low part": (one - high)[0], "high part, signed": 0.5 + high[0] / 2,
            "high part, clamped": high[0], "spectrum": _spectrum(power, low),
        }  # fmt: skip
        words = f"Radius {radius:g} cycles per picture, {spectrum}: the low part holds {share:.1%} of the energy, "
        return row_of_tiles(tiles), words + f"the high part {1 - share:.1%}."

    controls = {
        "image": slider("image (number)", 0, 0, len(x) - 1, 1),
        "radius": slider("radius (cycles per picture)", min(max(radius, 0.0), largest), 0.0, largest, 0.5),
        "spectrum": Dropdown(options=(ONE, ALL), description="spectrum of"),
    }
    return Explorer(controls, draw)


def _spectrum(power: Tensor, low: Tensor) -> Tensor:
    """Draw the logarithm of the power, slowest waves in the middle, and what the high part lacks in orange."""
    level = power.clamp(min=1e-8).log10()
    level = (level - level.min()) / (level.max() - level.min()).clamp(min=1e-6)
    orange = torch.tensor(ImageColor.getrgb(PALETTE[1])) / 255
    paint = torch.where(low[None], 0.35 * level + 0.65 * orange[:, None, None], level)
    return torch.fft.fftshift(paint, (1, 2))
