"""Colour jitter's operations, each ending within [0, 1]; they may change `images`, because new memory is what costs.

images ``(n, 3, h, w)``, and for brightness and contrast also ``(n, 1, h, w)``; factor or turns ``(n, 1, 1, 1)``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from advcl_nb._check import require

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue in a grey value (ITU-R 601, as torchvision rounds them)


def luminance(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the grey values of images with one channel or three."""
    require(images.shape[1] in (1, 3), "images", "one channel or three", images)
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return images.mul_(factor).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = luminance(images).mean((1, 2, 3), keepdim=True)
    return images.mul_(factor).add_(mean.mul_(1 - factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    grey = luminance(images)
    return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue by way of HSV (Smith 1978), in turns of the colour circle."""
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    red, green, blue = images.split(1, 1)
    scale = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    sector = ((red - green) / scale).add_(4)
    sector.lerp_(((blue - red) / scale).add_(2), (green == value).to(images))
    sector.lerp_((green - blue) / scale, (red == value).to(images))
    turned = []
    for start in (5, 3, 1):  # of red, green and blue
        k = (sector + start).add_(6 * turns)
        k.sub_((k / 6).floor_(), alpha=6)
        turned.append(value - k.minimum(4 - k).clamp_(0, 1).mul_(chroma))
    return torch.cat(turned, 1)
