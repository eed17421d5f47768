"""Maximise a loss inside a norm ball: projected gradient ascent (Madry et al. 2018)."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from advcl_nb._check import (
    require,
    require_count,
    require_generator,
    require_images,
    require_is,
    require_number,
    require_one_of,
)

LossFn = Callable[[Tensor], Tensor]
STARTS = ("uniform", "gaussian", "none")


@dataclass(frozen=True)
class _Threat:
    """What an attacker may do: the ball's radius `epsilon`, the step `alpha`, how many `steps`, and the `start`.

    start: "uniform" in the ball, "gaussian" (0.001 N(0, 1), as TRADES), or "none" (the image itself).
    """

    epsilon: float
    alpha: float
    steps: int
    start: str = "uniform"

    def __post_init__(self) -> None:
        require_count(self.steps, "steps", 0)

        require_one_of(self.start, "start", STARTS)

    @abstractmethod
    def noise(self, images: Tensor, generator: Generator) -> Tensor:
        """Draw uniformly from the ball."""

    @abstractmethod
    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest direction of unit norm; zero where the gradient is zero or not finite."""

    @abstractmethod
    def project(self, images: Tensor, base: Tensor) -> Tensor:
        """Return the images moved into the ball around `base` and into [0, 1]."""


@dataclass(frozen=True)
class Linf(_Threat):
    """Every pixel may change by at most epsilon, in units of [0, 1]: 8 grey levels are 8 / 255.

    Raises ValueError for an epsilon or alpha outside [0, 1].
    """

    def __post_init__(self) -> None:
        for name in ("epsilon", "alpha"):
            value = getattr(self, name)
            todo = f"For {value:g} grey levels write {value:g} / 255." if isinstance(value, Real) and value > 1 else ""
            require(isinstance(value, Real) and 0 <= value <= 1, name, "a value in [0, 1]", value, todo)
        super().__post_init__()

    def __str__(self) -> str:
        return f"PGD-{self.steps}, {grey_levels(self.epsilon)}"

    def noise(self, images: Tensor, generator: Generator) -> Tensor:
        return (2 * _rand(images, generator) - 1) * self.epsilon

    def direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign().nan_to_num(nan=0.0)

    def project(self, images: Tensor, base: Tensor) -> Tensor:
        low, high = (base - self.epsilon).clamp(min=0), (base + self.epsilon).clamp(max=1)
        return images.maximum(low).minimum(high)


@dataclass(frozen=True)
class L2(_Threat):
    """An image may change by at most epsilon in Euclidean norm, over all its pixels in units of [0, 1]."""

    def __post_init__(self) -> None:
        for name in ("epsilon", "alpha"):
            require_number(getattr(self, name), name, "a finite norm >= 0", 0, sys.float_info.max)
        super().__post_init__()

    def __str__(self) -> str:
        return f"PGD-{self.steps}, L2 {self.epsilon:g}"

    def noise(self, images: Tensor, generator: Generator) -> Tensor:
        normal = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
        share = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device).to(images)
        return self.epsilon * share ** (1 / images[0].numel()) * self.direction(normal)

    def direction(self, gradient: Tensor) -> Tensor:
        finite = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        scaled = finite / _peaks(finite)  # first to at most 1, for a norm can overflow
        return scaled / _positive(_norms(scaled))

    def project(self, images: Tensor, base: Tensor) -> Tensor:
        shift = images - base
        inside = shift * (self.epsilon / _positive(_norms(shift))).clamp(max=1)
        moved = base + inside
        longer = (moved - base).abs() > inside.abs()  # by rounding, which counts where epsilon is small
        moved = torch.where(longer, moved.nextafter(base), moved)
        return moved.clamp(0, 1)  # base lies in [0, 1], so clipping only shortens the shift


def pgd(
    loss_fn: LossFn, images: Float[Tensor, "n c h w"], threat: Linf | L2, *, generator: Generator
) -> Float[Tensor, "n c h w"]:
    """Return images inside [0, 1] and the threat's ball that (locally) maximise `loss_fn`, a scalar of a batch.

    For finite images in [0, 1] the result is always inside (L-inf to 1 ulp, L2 to 1e-6 relative), also where the
    loss is flat or not finite. Parameters get no gradient, and the model's mode and the global random generator
    are not touched: what mode to attack in is the caller's choice. Start, ascend along the sign (L-inf) or the
    normalised gradient (L2), project (Madry et al. 2018, section 2.1); the start is clipped to [0, 1].
    """
    require_images(images)
    current = _start(images, threat, generator)
    for _ in range(threat.steps):
        current = _ascend(loss_fn, current, images, threat)[0]
    return current


def pgd_path(
    loss_fn: LossFn, images: Float[Tensor, "n c h w"], threat: Linf | L2, *, generator: Generator
) -> Iterator[tuple[Tensor, float]]:
    """Yield ``(images, their loss)`` along the attack that `pgd` makes: the start, then one pair for each step."""
    require_images(images)
    current = _start(images, threat, generator)
    for _ in range(threat.steps):
        following, loss = _ascend(loss_fn, current, images, threat)
        yield current, loss.item()
        current = following
    with torch.no_grad():
        loss = loss_fn(current)
    yield current, loss.item()


def _start(images: Tensor, threat: Linf | L2, generator: Generator) -> Tensor:
    require_is(threat, "threat", (Linf, L2), "Write adv.Linf(8 / 255, 2 / 255, 20).")
    require_generator(generator)
    images = images.detach()
    if threat.start == "none":
        return images.clone()
    if threat.start == "uniform":
        noise = threat.noise(images, generator)
    else:
        noise = 0.001 * torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return threat.project(images + noise, images)


def _ascend(loss_fn: LossFn, current: Tensor, base: Tensor, threat: Linf | L2) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        current = current.detach().requires_grad_()
        loss = loss_fn(current)
        todo = "Return a sum or a mean, without detach or no_grad on the way from the images."
        fits = isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad
        require(fits, "loss_fn", "a scalar that depends on the images", loss, todo)
        (gradient,) = torch.autograd.grad(loss, current)
    return threat.project(current.detach() + threat.alpha * threat.direction(gradient), base.detach()), loss.detach()


def _rand(images: Tensor, generator: Generator) -> Tensor:
    return torch.rand(images.shape, generator=generator, device=generator.device).to(images)


def _norms(images: Tensor) -> Tensor:
    peaks = _peaks(images)  # so that squares neither under- nor overflow
    return peaks * (images / peaks).square().sum((1, 2, 3), keepdim=True).sqrt()


def _peaks(images: Tensor) -> Tensor:
    return _positive(images.abs().amax((1, 2, 3), keepdim=True))


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)


def grey_levels(epsilon: float) -> str:
    """Write a value of [0, 1] in grey levels where it is a round number of them: 8/255."""
    levels = Fraction(epsilon * 255).limit_denominator(100)
    whole = abs(float(levels) - epsilon * 255) < 1e-6
    return f"{float(levels):g}/255" if whole else f"{epsilon:.4g}"
