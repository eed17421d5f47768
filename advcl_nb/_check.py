"""Say what is wrong with an argument: what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

AS_TENSOR = "Write torch.as_tensor(array)."
KINDS = {  # of numbers in a tensor
    "floats": Tensor.is_floating_point,
    "booleans": lambda x: x.dtype == torch.bool,
    "whole numbers": lambda x: not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool),
}


def require(ok: bool, name: str, expected: str, got: object, todo: str = "") -> None:
    """Raise a three-part ``ValueError`` about the argument `name` unless `ok`."""
    if not ok:
        raise ValueError(f"{name}: expected {expected}, got {_words(got)}. {todo}".rstrip())


def require_is(value: object, name: str, kind: type | tuple, todo: str = "") -> None:
    """Raise a three-part ``ValueError`` unless `value` is an instance of `kind`."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    words = " or ".join(kind.__name__ for kind in kinds)
    got = value if isinstance(value, (Tensor, str, int, float)) or value is None else type(value)
    require(isinstance(value, kinds), name, f"{'an' if words[0] in 'AEIOUaeiou' else 'a'} {words}", got, todo)


def require_count(value: object, name: str, least: int = 1) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a whole number from `least`."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and value >= least
    require(ok, name, f"a whole number from {least}", value)


def require_number(
    value: object, name: str, expected: str, least: float = -math.inf, most: float = math.inf, *, todo: str = ""
) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a number from `least` to `most`; NaN never is."""
    ok = isinstance(value, Real) and not isinstance(value, bool) and least <= value <= most
    require(ok, name, expected, value, todo)


def require_range(value: object, name: str, expected: str, most: float = math.inf) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a pair of numbers with 0 < low <= high <= `most`."""
    pair = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(end, Real) for end in value)
    require(pair and 0 < value[0] <= value[1] <= most, name, f"(low, high) with {expected}", value)


def require_one_of(value: object, name: str, choices: tuple) -> None:
    """Raise a three-part ``ValueError`` unless `value` is among `choices`."""
    require(value in choices, name, f"one of {', '.join(map(str, choices))}", value)


def require_generator(value: object) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a ``torch.Generator``."""
    todo = 'Write adv.Streams(seed)("eval"), or torch.Generator().manual_seed(seed).'
    require(isinstance(value, torch.Generator), "generator", "a torch.Generator", value, todo)


def require_device(value: object) -> None:
    """Raise a three-part ``ValueError`` unless `value` names a device that this machine has."""
    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # no driver, no build for it, no such word
        reason = str(error).splitlines()[0][:100]
        message = f'device: expected "cpu" or an accelerator that this machine has, got {value!r} ({reason}).'
        raise ValueError(message) from error


def describe(tensor: Tensor) -> str:
    """Type, shape and range of a tensor in a few words."""
    text = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
    if tensor.numel() and not tensor.is_complex():
        text += f" in [{tensor.min().item():.4g}, {tensor.max().item():.4g}]"
    return text


def _words(got: object) -> str:
    """Describe a tensor or an array; cut what is long."""
    if isinstance(got, Tensor):
        return describe(got)
    if hasattr(got, "shape") and hasattr(got, "dtype") and not isinstance(got, type):
        return f"{type(got).__name__} {got.dtype} of shape {tuple(got.shape)}"
    text = repr(got)
    return text if len(text) <= 300 else f"{type(got).__name__} {text[:200]}..."


def require_images(images: Tensor, name: str = "images") -> None:
    """Check for a floating-point ``(n, c, h, w)`` batch; values are not read, so nothing waits for a device."""
    todo = "For one image write image[None]." if isinstance(images, Tensor) else AS_TENSOR
    fits = isinstance(images, Tensor) and images.ndim == 4
    require(fits, name, "a tensor of shape (n, c, h, w)", images, todo)
    require(images.is_floating_point(), name, "floats in [0, 1]", images, "Convert with adv.to_float(images).")
    require(0 not in images.shape[1:], name, "one channel, row and column or more", images)


def require_for_each(value: Tensor, name: str, of: Tensor, kind: str, *rest: int) -> None:
    """Raise ValueError unless `value` is a tensor ``(len(of), *rest)`` of a kind of `KINDS`; values are not read."""
    shape = (len(of), *rest)
    fits = isinstance(value, Tensor) and value.shape == shape and KINDS[kind](value)
    todo = "" if isinstance(value, Tensor) else AS_TENSOR
    require(fits, name, f"{kind} of shape {shape}, one for each of the batch", value, todo)


def require_drawn(images: Tensor, value: Tensor, name: str, kind: str, *rest: int) -> None:
    """Check `images`, and that `value` holds what was drawn for each of them, as `require_for_each` has it."""
    require_images(images)
    require_for_each(value, name, images, kind, *rest)


def require_matrix(value: Tensor, name: str, like: Tensor | None = None) -> None:
    """Raise ValueError unless `value` is a tensor ``(n, d)`` of floats, of the shape of `like`; values are not read."""
    fits = isinstance(value, Tensor) and value.ndim == 2 and value.is_floating_point()
    fits = fits and (like is None or value.shape == like.shape)
    shape = "(n, d)" if like is None else str(tuple(like.shape))
    require(fits, name, f"floats of shape {shape}", value, "" if isinstance(value, Tensor) else AS_TENSOR)


def require_rows(features: Tensor, name: str, least: int = 1) -> None:
    """Raise a three-part ``ValueError`` unless `features` are `least` or more rows of finite floats."""
    fits = isinstance(features, Tensor) and features.ndim == 2 and features.is_floating_point()
    fits = fits and len(features) >= least and features.shape[1] > 0
    todo = "" if isinstance(features, Tensor) else AS_TENSOR
    require(fits, name, f"{least} or more rows (n, d) of floats", features, todo)
    require(bool(features.isfinite().all()), name, "finite numbers", features)
