"""Common corruptions of our own: noise, blur, weather and the like, at five strengths."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from advcl_nb._check import require, require_count, require_generator, require_images, require_one_of

STRENGTHS = {  # one for each severity from 1 to 5, chosen on images of 16 and of 32 pixels
    "gaussian_noise": (0.03, 0.05, 0.07, 0.10, 0.14),  # standard deviation
    "shot_noise": (300, 150, 80, 40, 20),  # photons that make white
    "impulse_noise": (0.01, 0.02, 0.04, 0.07, 0.11),  # share of the values
    "gaussian_blur": (0.45, 0.6, 0.8, 1.0, 1.3),  # standard deviation in pixels
    "motion_blur": (2.0, 2.8, 3.6, 4.8, 6.0),  # length of the path in pixels
    "fog": (0.15, 0.25, 0.35, 0.45, 0.55),  # share of white where the fog is thickest
    "brightness": (0.05, 0.10, 0.15, 0.20, 0.27),  # added
    "contrast": (0.80, 0.65, 0.50, 0.38, 0.27),  # share of the contrast that is left
    "pixelate": (0.8, 0.65, 0.5, 0.4, 0.3),  # share of the rows and columns that are left
}
CORRUPTIONS = tuple(STRENGTHS)


def corrupt(
    images: Float[Tensor, "n c h w"], name: str, severity: int, *, generator: Generator
) -> Float[Tensor, "n c h w"]:
    """Return the images, in [0, 1], under the corruption `name` (of `CORRUPTIONS`) at a severity from 1 to 5.

    These are corruptions of the kinds of Hendrycks and Dietterich 2019 ("Benchmarking neural network robustness to
    common corruptions and perturbations"), but drawn by this library at strengths of its own: accuracies on them do
    **not** compare with published CIFAR-10-C figures, for which there is `adv.load_corruptions`. The noises, fog and
    motion blur (its direction) draw anew for each image; gaussian_blur, brightness, contrast and pixelate draw nothing.
    Shape, dtype and device stay. Raises ValueError for a wrong name or severity and for images outside [0, 1].
    """
    require_images(images)
    inside = images.numel() > 0 and bool((images >= 0).all() & (images <= 1).all())
    require(inside, "images", "floats in [0, 1], at least one image", images, "Convert with adv.to_float(uint8).")
    require_one_of(name, "name", CORRUPTIONS)
    require_count(severity, "severity")
    require_one_of(severity, "severity", (1, 2, 3, 4, 5))
    require_generator(generator)
    x = images.to(torch.promote_types(images.dtype, torch.float32))  # there is no FFT in half precision
    return _APPLY[name](x, STRENGTHS[name][severity - 1], generator).clamp(0, 1).to(images.dtype)


def _gaussian_noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=generator, device=generator.device).to(x)


def _shot_noise(x: Tensor, photons: float, generator: Generator) -> Tensor:
    return torch.poisson((photons * x).to(generator.device), generator=generator).to(x) / photons


def _impulse_noise(x: Tensor, share: float, generator: Generator) -> Tensor:
    chance = _rand(x.shape, x, generator)
    noisy = torch.where(chance < share / 2, 0, x)  # black, and what is black stays so at a higher share
    return torch.where(chance > 1 - share / 2, 1, noisy)


def _gaussian_blur(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    reach = math.ceil(4 * deviation)
    weights = torch.exp(-_offsets(reach, x).square() / (2 * deviation**2))
    kernel = weights[:, None] * weights
    return _convolve(x, kernel.expand(len(x), -1, -1))


def _motion_blur(x: Tensor, length: float, generator: Generator) -> Tensor:
    """Smear along a straight line of its own direction for each image; the line is a pixel wide, with soft ends."""
    angle = torch.pi * _rand((len(x), 1, 1), x, generator)
    offsets = _offsets(math.ceil(length / 2 + 1), x)
    along = angle.cos() * offsets + angle.sin() * offsets[:, None]
    across = angle.cos() * offsets[:, None] - angle.sin() * offsets
    line = (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0)
    return _convolve(x, line)


def _fog(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Mix with white, between half of `share` and `share` of it, by a smooth field with amplitudes as 1/f^1.5."""
    n, _, h, w = x.shape
    noise = torch.randn((n, 1, h, w), generator=generator, device=generator.device).to(x)
    k1, k2 = torch.fft.fftfreq(h, 1 / h, device=x.device), torch.fft.rfftfreq(w, 1 / w, device=x.device)
    frequency = (k1[:, None].square() + k2.square()).sqrt().clamp(min=1)
    field = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency**1.5, s=(h, w))
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    thickness = share * (0.5 + 0.5 * (field - low) / (high - low).clamp(min=1e-12))
    return x + thickness * (1 - x)


def _brightness(x: Tensor, added: float, generator: Generator) -> Tensor:
    return x + added


def _contrast(x: Tensor, left: float, generator: Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + left * (x - mean)


def _pixelate(x: Tensor, left: float, generator: Generator) -> Tensor:
    h, w = x.shape[2:]
    return _block_means(h, left, x) @ x @ _block_means(w, left, x).T


def _block_means(size: int, left: float, like: Tensor) -> Tensor:
    """Return the matrix that puts the mean of its block in place of each of `size` values."""
    blocks = max(1, round(size * left))
    block = torch.arange(size, device=like.device) * blocks // size
    same = (block[:, None] == block).to(like)
    return same / same.sum(1, keepdim=True)


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel ``(n, k, k)``, scaled to sum 1; edge pixels go on beyond the border."""
    n, c, h, w = x.shape
    reach = kernels.shape[-1] // 2
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)[None]
    return F.conv2d(padded, kernels.repeat_interleave(c, 0)[:, None], groups=n * c).view(n, c, h, w)


def _offsets(reach: int, like: Tensor) -> Tensor:
    return torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)


def _rand(shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


_APPLY: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
}
