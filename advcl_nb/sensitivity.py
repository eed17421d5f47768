"""What spatial frequencies a classifier depends on: errors under one wave at a time, accuracy on half a spectrum."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import product
from numbers import Real
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import BATCH, check_evaluable, over_batches
from advcl_nb._check import require, require_generator, require_number
from advcl_nb.data import to_float
from advcl_nb.frequency import fourier_basis, low_pass
from advcl_nb.models import evaluating
from advcl_nb.score import Score


class FrequencyAccuracy(NamedTuple):
    """The accuracies (CA) on the low and on the high part of the images, a score for each radius."""

    radii: list[float]
    low: list[Score]
    high: list[Score]


def fourier_sensitivity(
    model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float, generator: Generator
) -> Tensor:
    """Return the error rate ``(h, w)`` of `model` under a wave of each spatial frequency; zero is at (h//2, w//2).

    After Yin et al. 2019, "A Fourier perspective on model robustness in computer vision": each image becomes
    x + r epsilon U, clipped to [0, 1], where U is the real wave of the frequency with unit L2 norm and r a sign drawn
    for each image and channel; epsilon is thus the L2 norm per channel, before clipping (the paper: 4 for CIFAR-10;
    2 is as strong a pixel on 16x16). All errors count, those on clean images too: compare with
    ``1 - standard_accuracy(...).value``.

    (k1, k2) and (-k1, -k2) are the same wave, so one is evaluated and stands in both places; this takes about
    n h w / 2 forward passes. `images` ``(n, c, h, w)`` are uint8 or float; in eval mode and float32; the model comes
    back as it was. Raises ValueError as `adv.standard_accuracy` does, and for a negative or infinite epsilon.
    """
    require_number(epsilon, "epsilon", "a finite L2 norm >= 0", 0, sys.float_info.max)
    require_generator(generator)
    check_evaluable(model, images, labels)
    n, c, h, w = images.shape
    errors = torch.empty(h, w)
    pairs = [(k, twin) for k in product(range(h), range(w)) if k <= (twin := (-k[0] % h, -k[1] % w))]
    with evaluating(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for k, twin in tqdm(pairs, desc="waves", unit="wave", leave=False, delay=2):
            signs = 2 * torch.randint(2, (n, c, 1, 1), generator=generator, device=generator.device) - 1
            wave = epsilon * fourier_basis(h, w, *k).to(images.device)
            errors[k] = errors[twin] = _errors(model, images, labels, signs.to(images.device), wave) / n
    return torch.fft.fftshift(errors).to(images.device)


def frequency_accuracy(model: nn.Module, images: Tensor, labels: Tensor, radii: Sequence[float]) -> FrequencyAccuracy:
    """Return the accuracy of `model` on `low_pass` and on `high_pass` images, for each radius in cycles per picture.

    Both are made pictures that the model can take: the high part, which is around 0, gets each channel's mean of the
    image added, and both are clipped to [0, 1]. `images` are uint8 or float; in eval mode and float32; the model comes
    back as it was. Raises ValueError as `adv.standard_accuracy` does, without radii and for a negative one.
    """
    fits = hasattr(radii, "__len__") and not isinstance(radii, (str, Tensor)) and len(radii) > 0
    fits = fits and all(isinstance(radius, Real) and radius >= 0 for radius in radii)
    require(fits, "radii", "one radius >= 0 or more", radii, "For one write [4.0].")
    low, high = [], []
    for radius in tqdm(radii, desc="radii", unit="radius", leave=False, delay=2):
        words = f"-pass, radius {radius:g}"
        low.append(_accuracy(model, images, labels, "low" + words, lambda x, r=radius: low_pass(x, r)))
        high.append(_accuracy(model, images, labels, "high" + words, lambda x, r=radius: _high_picture(x, r)))
    return FrequencyAccuracy(list(radii), low, high)


def _errors(model: nn.Module, images: Tensor, labels: Tensor, signs: Tensor, wave: Tensor) -> int:
    parts = zip(images.split(BATCH), labels.split(BATCH), signs.split(BATCH), strict=True)
    return sum(int((model((to_float(x) + r * wave).clamp(0, 1)).argmax(1) != y).sum()) for x, y, r in parts)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, name: str, part: Callable[[Tensor], Tensor]) -> Score:
    right = over_batches(model, images, labels, name, lambda x, y: model(part(x).clamp(0, 1)).argmax(1) == y)
    return Score("CA", int(right.sum()), len(right), name)


def _high_picture(x: Tensor, radius: float) -> Tensor:
    low = low_pass(x, radius)
    return x - low + low.mean((2, 3), keepdim=True)  # the mean that was taken away: none at radius 0
