"""Batched augmentations and AdvCL's contrastive views.

Random draws and their application are apart: `draw_views` makes a `ViewDraw` of plain tensors, `make_views` applies it.
Every image has its own draw, and each operation equals its namesake in ``torchvision.transforms.functional``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from advcl_nb import _check
from advcl_nb._check import require, require_drawn, require_images, require_number
from advcl_nb._colour import brightness, contrast, hue, luminance, saturation
from advcl_nb.frequency import high_pass


@dataclass(frozen=True)
class ViewSettings:
    """How strong the views are; the defaults are the AdvCL release's (pretraining_advCL.py).

    crop_scale: share of the picture's area that a crop keeps; crop_ratio: its width over height.
    brightness, contrast, saturation: factors are drawn from [1 - s, 1 + s]; hue: shift in turns from [-s, s].
    flip, jitter, grey: probabilities. padding: pixels around the weak view's crop. radius: of the high-pass view.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    padding: int = 4
    radius: float = 8.0

    def __post_init__(self) -> None:
        _check.require_range(self.crop_scale, "crop_scale", "0 < low <= high <= 1, shares of the area", 1)
        _check.require_range(self.crop_ratio, "crop_ratio", "0 < low <= high")
        for name in ("flip", "jitter", "grey", "brightness", "contrast", "saturation"):
            require_number(getattr(self, name), name, "a value in [0, 1]", 0, 1)
        require_number(self.hue, "hue", "turns in [0, 0.5]", 0, 0.5)
        _check.require_count(self.padding, "padding", 0)
        require_number(self.radius, "radius", "a number of cycles >= 0", 0)


class Views(NamedTuple):
    """The four views of a batch, each ``(n, c, h, w)``: two strong ones, the weak one, and its high-pass."""

    view1: Tensor
    view2: Tensor
    base: Tensor
    high: Tensor


class ViewDraw(NamedTuple):
    """All that is random in a batch of views. The first axis of the strong views' tensors is the view (0 or 1).

    boxes ``(2, n, 4)``: top, left, height, width of the crop in pixels. flips ``(2, n)``. factors ``(2, n, 4)`` and
    order ``(2, n, 4)``: brightness, contrast, saturation and hue, and the order in which they are applied (1 and 0
    where an image has no jitter). grey ``(2, n)``. base_offsets ``(n, 2)``, base_flips ``(n,)``: the weak view.
    """

    boxes: Tensor
    flips: Tensor
    factors: Tensor
    order: Tensor
    grey: Tensor
    base_offsets: Tensor
    base_flips: Tensor
    padding: int
    radius: float


def draw_views(n: int, h: int, w: int, settings: ViewSettings, *, generator: Generator) -> ViewDraw:
    """Draw crop boxes, flips, colour factors and offsets for n images of h x w pixels.

    Equal in distribution to the release's torchvision pipeline: RandomResizedCrop, flip, ColorJitter with
    probability `jitter`, grey; and for the weak view RandomCrop with padding and flip.
    """
    for name, value in (("n", n), ("h", h), ("w", w)):
        _check.require_count(value, name)
    _check.require_is(settings, "settings", ViewSettings)
    _check.require_generator(generator)
    coin = lambda shape, p: torch.rand(shape, generator=generator, device=generator.device) < p  # noqa: E731
    boxes = torch.stack([_draw_boxes(n, h, w, settings, generator) for _ in range(2)])
    factors = _draw_factors((2, n), settings, generator)
    still = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
    return ViewDraw(
        boxes=boxes,
        flips=coin((2, n), settings.flip),
        factors=torch.where(coin((2, n, 1), settings.jitter), factors, still),
        order=torch.rand(2, n, 4, generator=generator, device=generator.device).argsort(-1),
        grey=coin((2, n), settings.grey),
        base_offsets=torch.randint(2 * settings.padding + 1, (n, 2), generator=generator, device=generator.device),
        base_flips=coin((n,), settings.flip),
        padding=settings.padding,
        radius=settings.radius,
    )


def make_views(images: Float[Tensor, "n c h w"], draw: ViewDraw) -> Views:
    """Apply `draw` to images in [0, 1] and return the four `Views`; the high-pass is that of the base view."""
    require_images(images)
    _check.require_is(draw, "draw", ViewDraw, "Make it with adv.draw_views.")
    require(len(images) == len(draw.base_flips), "images", f"{len(draw.base_flips)} images, as drawn", images)
    draw = ViewDraw(*(part.to(images.device) if isinstance(part, Tensor) else part for part in draw))
    view1, view2 = (strong_view(images, draw, k) for k in range(2))
    base = flip(padded_crop(images, draw.base_offsets, draw.padding), draw.base_flips)
    return Views(view1, view2, base, high_pass(base, draw.radius))


def strong_view(images: Float[Tensor, "n c h w"], draw: ViewDraw, which: int) -> Float[Tensor, "n c h w"]:
    """Make strong view 0 or 1 alone: crop, flip, colour jitter, grey."""
    cropped = flip(resized_crop(images, draw.boxes[which]), draw.flips[which])
    return to_grey(color_jitter(cropped, draw.factors[which], draw.order[which]), draw.grey[which])


def resized_crop(images: Float[Tensor, "n c h w"], boxes: Int[Tensor, "n 4"]) -> Float[Tensor, "n c h w"]:
    """Cut each image's box (top, left, height, width in pixels) and resize it bilinearly to the image's own size."""
    require_drawn(images, boxes, "boxes", "whole numbers", 4)
    n, _, h, w = images.shape
    rows, columns = (_samples(boxes[:, axis], boxes[:, axis + 2], size) for axis, size in ((0, h), (1, w)))
    grid = torch.stack([columns[:, None].expand(n, h, w), rows[:, :, None].expand(n, h, w)], -1)
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=True)


def padded_crop(
    images: Float[Tensor, "n c h w"], offsets: Int[Tensor, "n 2"], padding: int
) -> Float[Tensor, "n c h w"]:
    """Shift each image: pad with zeros on all sides and cut at `offsets` (top, left), from 0 to 2 * padding."""
    require_drawn(images, offsets, "offsets", "whole numbers", 2)
    _check.require_count(padding, "padding", 0)
    n, _, h, w = images.shape
    cuts = F.pad(images, [padding] * 4).unfold(2, h, 1).unfold(3, w, 1)  # a view of every cut that there is
    return cuts[torch.arange(n, device=images.device), :, offsets[:, 0], offsets[:, 1]]


def flip(images: Float[Tensor, "n c h w"], flips: Bool[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Mirror the chosen images left to right."""
    require_drawn(images, flips, "flips", "booleans")
    return _choose(flips, images.flip(-1), images)


def color_jitter(
    images: Float[Tensor, "n c h w"], factors: Float[Tensor, "n 4"], order: Int[Tensor, "n 4"]
) -> Float[Tensor, "n c h w"]:
    """Change brightness, contrast, saturation (factors) and hue (turns) of each image, in each image's own order.

    Column k of `factors` is operation k; row i of `order` lists the operations as image i gets them. Values are
    clipped to [0, 1] after each. Grey images (c = 1) have no saturation and no hue to change.
    """
    require_drawn(images, factors, "factors", "floats", 4)
    require_drawn(images, order, "order", "whole numbers", 4)
    images, operations = images.clone(), (brightness, contrast, saturation, hue)
    for position in range(4):
        for k, operation in enumerate(operations if images.shape[1] == 3 else operations[:2]):
            chosen = (order[:, position] == k).nonzero().flatten()
            factor = factors[chosen, k].to(images.dtype)[:, None, None, None]
            images[chosen] = operation(images.index_select(0, chosen), factor)
    return images


def to_grey(images: Float[Tensor, "n c h w"], grey: Bool[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Replace the chosen images by their grey values, in all channels."""
    require_drawn(images, grey, "grey", "booleans")
    return _choose(grey, luminance(images), images)


def _draw_boxes(n: int, h: int, w: int, settings: ViewSettings, generator: Generator) -> Int[Tensor, "n 4"]:
    """Draw as torchvision's RandomResizedCrop: ten tries of area and ratio per image, else the whole picture."""
    rand = lambda *shape: torch.rand(shape, generator=generator, device=generator.device)  # noqa: E731
    low, high = settings.crop_scale
    area = h * w * (low + (high - low) * rand(10, n))
    low, high = (math.log(bound) for bound in settings.crop_ratio)
    ratio = torch.exp(low + (high - low) * rand(10, n))
    widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    first = fits.int().argmax(0, keepdim=True)
    width, height = (
        torch.where(fits.any(0), sizes.gather(0, first)[0], whole)
        for sizes, whole in zip((widths, heights), _fallback(h, w, settings), strict=True)
    )
    central = ~fits.any(0)
    top = torch.where(central, (h - height) // 2, (rand(n) * (h - height + 1)).long())
    left = torch.where(central, (w - width) // 2, (rand(n) * (w - width + 1)).long())
    return torch.stack([top, left, height, width], 1)


def _fallback(h: int, w: int, settings: ViewSettings) -> tuple[int, int]:
    """Width and height of the largest central box whose ratio is allowed."""
    low, high = settings.crop_ratio
    return min(w, round(h * high)), min(h, round(w / low))


def _draw_factors(shape: tuple[int, int], settings: ViewSettings, generator: Generator) -> Float[Tensor, "2 n 4"]:
    spread = torch.tensor([settings.brightness, settings.contrast, settings.saturation, settings.hue])
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
    unit = 2 * torch.rand(*shape, 4, generator=generator, device=generator.device) - 1
    return centre + spread.to(generator.device) * unit


def _samples(start: Int[Tensor, " n"], length: Int[Tensor, " n"], size: int) -> Float[Tensor, "n size"]:
    """Where each output pixel's centre falls in the box, in grid_sample's [-1, 1]; clamped inside the box."""
    start, length = start[:, None].double(), length[:, None].double()
    centres = (torch.arange(size, device=start.device) + 0.5) * length / size - 0.5
    return (start + centres.clamp(min=0).minimum(length - 1)) * 2 / max(size - 1, 1) - 1


def _choose(which: Bool[Tensor, " n"], new: Tensor, old: Tensor) -> Tensor:
    """Return new images where `which` says so; a lerp by 1 or 0 is exact, and faster here than torch.where."""
    return old.lerp(new, which[:, None, None, None].to(old))
