"""Say what is wrong with an argument: what was expected, what came, what to do."""

from __future__ import annotations

import torch


def require(ok: bool, name: str, expected: str, got: object, todo: str = "") -> None:
    """Raise a three-part ``ValueError`` about the argument `name` unless `ok`."""
    if not ok:
        got = describe(got) if isinstance(got, torch.Tensor) else repr(got)
        raise ValueError(f"{name}: expected {expected}, got {got}. {todo}".rstrip())


def require_count(value: object, name: str, least: int = 1) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a whole number from `least`."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(ok, name, f"a whole number from {least}", value)


def require_one_of(value: object, name: str, choices: tuple) -> None:
    """Raise a three-part ``ValueError`` unless `value` is among `choices`."""
    require(value in choices, name, f"one of {', '.join(map(str, choices))}", value)


def require_generator(value: object) -> None:
    """Raise a three-part ``ValueError`` unless `value` is a ``torch.Generator``."""
    todo = 'Write adv.Streams(seed)("eval"), or torch.Generator().manual_seed(seed).'
    require(isinstance(value, torch.Generator), "generator", "a torch.Generator", value, todo)


def describe(tensor: torch.Tensor) -> str:
    """Type, shape and range of a tensor in a few words."""
    text = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
    if tensor.numel() and not tensor.is_complex():
        text += f" in [{tensor.min().item():.4g}, {tensor.max().item():.4g}]"
    return text


def require_images(images: torch.Tensor, name: str = "images") -> None:
    """Check for a floating-point ``(n, c, h, w)`` batch; values are not read, so nothing waits for a device."""
    require(
        isinstance(images, torch.Tensor) and images.ndim == 4,
        name,
        "a tensor of shape (n, c, h, w)",
        images,
        "For one image write image[None].",
    )
    require(images.is_floating_point(), name, "floats in [0, 1]", images, "Convert with adv.to_float(images).")


def require_rows(features: torch.Tensor, name: str, least: int = 1) -> None:
    """Raise a three-part ``ValueError`` unless `features` are `least` or more rows of finite floats."""
    fits = features.ndim == 2 and features.is_floating_point() and len(features) >= least and features.shape[1] > 0
    require(fits, name, f"{least} or more rows (n, d) of floats", features)
    require(bool(features.isfinite().all()), name, "finite numbers", features)
