"""Configs as plain values: dicts and numbers for files, dotted names for tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from advcl_nb.attacks import L2, Linf


def to_plain(value: object) -> object:
    """Turn a config into dicts, lists and numbers, as JSON holds them; `config.from_plain` turns it back."""
    if is_dataclass(value):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return plain | ({"norm": type(value).__name__} if isinstance(value, (Linf, L2)) else {})
    if isinstance(value, Mapping):
        return {name: to_plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Return dotted field names and leaf values of a config; attacks count as leaves."""
    if isinstance(value, Mapping):
        items = value.items()
    elif is_dataclass(value) and not isinstance(value, (Linf, L2)):
        items = ((f.name, getattr(value, f.name)) for f in fields(value))
    else:
        return {prefix.removesuffix("."): value}
    return {name: leaf for key, part in items for name, leaf in flat(part, f"{prefix}{key}.").items()}
