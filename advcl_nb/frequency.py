"""Split images by spatial frequency and measure their spectra.

A frequency is a pair of integers (k1, k2): so many cycles over the height and over the width of the picture.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from advcl_nb._check import require_count, require_images, require_number


def radial_mask(h: int, w: int, radius: float) -> Bool[Tensor, "h w"]:
    """Return True where k1² + k2² < radius², in the order of ``torch.fft.fft2`` (the constant part at [0, 0]).

    These are the frequencies that `high_pass` removes; the inequality is strict (AdvCL release, fr_util.py).
    """
    require_count(h, "h")
    require_count(w, "w")
    require_number(radius, "radius", "a number of cycles >= 0", 0)
    return _squared_frequency(h, w, torch.device("cpu")) < radius**2


def high_pass(images: Float[Tensor, "n c h w"], radius: float) -> Float[Tensor, "n c h w"]:
    """Remove every frequency with k1² + k2² < radius² from each channel (AdvCL section 3, release's fr_util.py).

    The result is real and signed, about ±0.7 for images in [0, 1], and is **not clipped**. It has zero mean for
    radius > 0. Any height and width; the dtype stays; gradients flow.
    """
    require_images(images)
    require_number(radius, "radius", "a number of cycles >= 0", 0)
    h, w = images.shape[-2:]
    keep = _squared_frequency(h, w, images.device)[:, : w // 2 + 1] >= radius**2
    return torch.fft.irfft2(torch.fft.rfft2(_at_least_float32(images)).mul_(keep), s=(h, w)).to(images.dtype)


def low_pass(images: Float[Tensor, "n c h w"], radius: float) -> Float[Tensor, "n c h w"]:
    """Keep only the frequencies with k1² + k2² < radius²: the rest of `high_pass`, so the two add up to the image."""
    high = high_pass(images, radius)  # first, for it checks the arguments
    return images - high


def radial_spectrum(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n r"]:
    """Return each image's energy per ring of frequencies; entry r holds those with r <= sqrt(k1² + k2²) < r + 1.

    Energy is squared pixel values, averaged over channels: a row adds up to ``images.square().sum((2, 3)).mean(1)``
    (Parseval), and the entries from r on to the energy of ``high_pass(images, r)``.
    """
    require_images(images)
    h, w = images.shape[-2:]
    ring = _squared_frequency(h, w, images.device).sqrt().floor().long().flatten()
    power = power_spectrum(images).flatten(1)
    return power.new_zeros(len(images), int(ring.max()) + 1).index_add(1, ring, power)


def power_spectrum(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """Return each image's energy per frequency, averaged over channels, in the order of ``torch.fft.fft2``."""
    return torch.fft.fft2(_at_least_float32(images), norm="ortho").abs().square().mean(1)


def fourier_basis(h: int, w: int, k1: int, k2: int) -> Float[Tensor, "h w"]:
    """Return the real wave of frequency (k1, k2) with unit L2 norm (Yin et al. 2019, "A Fourier perspective")."""
    for name, value, least in (("h", h, 1), ("w", w, 1), ("k1", k1, -h), ("k2", k2, -w)):
        require_count(value, name, least)
    rows, columns = torch.arange(h, dtype=torch.float64) / h, torch.arange(w, dtype=torch.float64) / w
    wave = torch.cos(2 * torch.pi * (k1 * rows[:, None] + k2 * columns))
    return (wave / wave.norm()).float()


def _at_least_float32(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return images.to(torch.promote_types(images.dtype, torch.float32))  # there is no FFT in half precision


def _squared_frequency(h: int, w: int, device: torch.device) -> Float[Tensor, "h w"]:
    k1 = torch.fft.fftfreq(h, 1 / h, device=device).round()
    k2 = torch.fft.fftfreq(w, 1 / w, device=device).round()
    return k1[:, None] ** 2 + k2**2
