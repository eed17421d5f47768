"""The loss around an image: its gradient in the pixels, and its values on a plane that holds an attack."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from advcl_nb._batched import over_batches
from advcl_nb._check import require, require_count


class LossSurface(NamedTuple):
    """The cross-entropy on a plane through one image: rows go along a random direction, columns along an attack's.

    along: ``(points,)`` positions on both axes; 1 is the attack's own length, in L-inf norm on the random axis.
    loss ``(points, points)`` in nats, predictions ``(points, points)`` int64; label: the image's class number.
    """

    along: Tensor
    loss: Tensor
    predictions: Tensor
    label: int

    def __repr__(self) -> str:
        right = (self.predictions == self.label).double().mean()
        low, high = self.loss.min(), self.loss.max()
        size = " x ".join(map(str, self.loss.shape))
        return f"LossSurface({size} points, loss {low:.3g} to {high:.3g}, right on {right:.0%} of them)"


def input_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient ``(n, c, h, w)`` of each image's own cross-entropy in its pixels, in nats per unit of [0, 1].

    `model` maps uint8 or float images ``(n, c, h, w)`` in [0, 1] to logits. In eval mode and float32; parameters get no
    gradient and the model comes back as it was. On robust models it follows the object's outline, on others it looks
    like noise (Tsipras et al. 2019). Raises ValueError for images or labels that do not fit.
    """

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            loss = F.cross_entropy(_logits(model, x, y), y, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    _check_images(images, "images")
    return over_batches(model, images, labels, "gradients", gradient)


def loss_surface(
    model: nn.Module,
    image: Tensor,
    label: int | Tensor,
    adversarial: Tensor,
    *,
    generator: Generator,
    points: int = 25,
    reach: float = 1.5,
) -> LossSurface:
    """Return the cross-entropy on the plane of ``adversarial - image`` and a random sign direction as large in L-inf.

    `image` and `adversarial` are floats ``(c, h, w)`` in [0, 1]. Positions go from about -reach to reach on both axes,
    in steps of a whole fraction of 1, so that (0, 0) is exactly the image and (0, 1) exactly the adversarial one.
    Pixels are clamped to [0, 1], so the plane is bent where it leaves that range. `points` is odd. In eval mode and
    float32; the model comes back as it was. After Goodfellow et al. 2015 and Liu et al. 2017 ("Delving into
    transferable adversarial examples"). Raises ValueError for images that do not fit, or are the same.
    """
    _check_plane(image, adversarial)
    label = int(label)
    require_count(points, "points", 3)
    require(points % 2 == 1, "points", "an odd number, so that the image lies on the grid", points)
    require(
        0 < reach <= points // 2,
        "reach",
        f"a length above 0 that {points} points hold, so at most {points // 2}",
        reach,
    )
    steps = max(1, round(points // 2 / reach))  # from 0 to 1
    along = torch.arange(-(points // 2), points // 2 + 1).to(image) / steps
    signs = 2 * torch.randint(2, image.shape, generator=generator, device=generator.device).to(image) - 1
    columns = torch.lerp(image, adversarial, along[:, None, None, None])  # exact at 0 and at 1
    rows = along[:, None, None, None] * signs * (adversarial - image).abs().max()
    plane = (columns[None] + rows[:, None]).clamp(0, 1).flatten(0, 1)
    labels = torch.full((len(plane),), label, device=plane.device)
    logits = over_batches(model, plane, labels, "loss surface", lambda x, y: _logits(model, x, y))
    loss = F.cross_entropy(logits, labels, reduction="none")
    return LossSurface(along, loss.view(points, points), logits.argmax(1).view(points, points), label)


def _logits(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = model(x)
    require(bool((y < logits.shape[1]).all()), "labels", f"class numbers from 0 to {logits.shape[1] - 1}", y)
    return logits


def _check_images(images: Tensor, name: str) -> None:
    """Raise ValueError unless `images` are one or more, uint8 or finite floats in [0, 1]."""
    fits = images.ndim == 4 and images.numel() > 0 and (images.dtype == torch.uint8 or images.is_floating_point())
    require(fits, name, "uint8 or float images (n, c, h, w)", images, "For one image write image[None].")
    inside = images.dtype == torch.uint8 or bool(((images >= 0) & (images <= 1)).all())
    require(inside, name, "values in [0, 1]", images, "Convert with adv.to_float(uint8 images).")


def _check_plane(image: Tensor, adversarial: Tensor) -> None:
    """Raise ValueError unless two float images in [0, 1] of one shape and type span a direction."""
    for x, name in ((image, "image"), (adversarial, "adversarial")):
        fits = x.ndim == 3 and x.is_floating_point()
        require(fits, name, "one float image (c, h, w)", x, "Write adv.to_float(images)[0].")
        _check_images(x[None], name)
    same = adversarial.shape == image.shape and adversarial.dtype == image.dtype
    require(same, "adversarial", f"{image.dtype} of shape {tuple(image.shape)}, as image", adversarial)
    todo = "Without a change there is no direction: take an attack that makes one."
    require(bool((adversarial != image).any()), "adversarial", "an image other than `image`", adversarial, todo)
