"""Images split by spatial frequency, and their spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advcl_nb._check import require, require_is
from advcl_nb.data import Images
from advcl_nb.frequency import high_pass, radial_spectrum
from advcl_nb.plots._grid import around_grey, as_batch, draw_grid, one_image
from advcl_nb.plots._style import INK, SMALL, Picture, colors_of, figure, legend, plain_ticks


def show_frequency(image: Tensor, radii: Sequence[float]) -> Picture:
    """Show the low and the high part of one image ``(c, h, w)`` for each radius, with the share of energy in each.

    Energy is the sum of squared pixels, the mean grey included; the two shares add up to 100%. High parts are shown
    around mid-grey, all at one scale.
    """
    require_is(radii, "radii", Sequence, "Write [4.0].")
    require(len(radii) >= 1, "radii", "one radius or more", radii)
    x = one_image(image)
    high = torch.cat([high_pass(x, radius) for radius in radii])
    low = x - high
    signed, words = around_grey(high)
    kept = [(part.square().sum((1, 2, 3)) / x.square().sum().clamp(min=1e-12)).tolist() for part in (low, high)]
    blank = torch.full_like(x, torch.nan)
    tiles = torch.stack([torch.cat([x, low]), torch.cat([blank, signed])])
    titles = [text for shares in kept for text in ("", *(f"{100 * share:.3g}%" for share in shares))]
    return draw_grid(
        tiles,
        rows=["low part", "high part"],
        columns=["original", *(f"radius {radius:g}" for radius in radii)],
        titles=titles,
        title="One image, split at each radius",
        caption=f"Percent: share of the image's energy. High parts are signed: {words}.",
    ).figure


def show_spectrum(
    images_by_name: Mapping[str, Images | Tensor], radius: float | None = None, *, signed: bool = False
) -> Picture:
    """Show the mean radial spectrum of several sets of images ``(n, c, h, w)``, uint8 or float.

    Each point is the energy of one ring of frequencies (`adv.radial_spectrum`) divided by the number of pixels and
    averaged over the set, so a curve adds up to the mean squared pixel, whatever the size. `radius` marks where
    `adv.high_pass` cuts: it removes what is left of the line. `signed` takes perturbations instead: floats around 0,
    such as attacked minus clean images.
    """
    require_is(images_by_name, "images_by_name", Mapping, 'Write {"images": images}.')
    require(len(images_by_name) >= 1, "images_by_name", "one set of images or more, by name", images_by_name)
    require(radius is None or radius >= 0, "radius", "a number of cycles >= 0, or None", radius)
    picture, (axes,) = figure(7.5, 3.6)
    largest = 1
    colors = colors_of(images_by_name)
    for name, color in colors.items():
        x = as_batch(images_by_name[name], f"images_by_name[{name!r}]", signed=signed)
        spectrum = radial_spectrum(x).mean(0) / x[0, 0].numel()
        axes.plot(range(len(spectrum)), spectrum, color=color, marker="o" if len(spectrum) < 40 else "", markersize=3)
        largest = max(largest, len(spectrum) - 1)
    axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1)  # zero, the mean grey, has a place too
    axes.set_xlim(-0.1, 1.1 * largest)
    plain_ticks(axes, [0, *(2**k for k in range(largest.bit_length()))])
    axes.set_xlabel("spatial frequency (cycles per picture)")
    axes.set_ylabel("energy per pixel (squared value)")
    axes.set_title(f"Where the {'perturbations' if signed else 'images'}' energy lies", loc="left")
    if radius is not None:
        axes.axvline(radius, color=INK, linestyle="--", linewidth=1)
        words = f" radius {radius:g}:\n high view →"
        axes.text(radius, 0.98, words, transform=axes.get_xaxis_transform(), va="top", fontsize=SMALL)
    legend(picture, colors)
    return picture
