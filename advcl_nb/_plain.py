"""Configs as plain values: dicts and numbers for files, dotted names for tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from advcl_nb._check import require
from advcl_nb.attacks import L2, Linf


def to_plain(value: object) -> object:
    """Turn a config into dicts, lists and numbers, as JSON holds them; `_revive.from_plain` turns it back."""
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


class Differences(str):
    """A table as text, which prints itself at the end of a cell."""

    def __repr__(self) -> str:
        return str(self)


def diff(a: object, b: object) -> Differences:
    """Return a table of the settings that differ between two configs, or parts of them: field, in `a`, in `b`."""
    for name, value in (("a", a), ("b", b)):
        require(is_dataclass(value) or isinstance(value, Mapping), name, "a config, or a part of one", value)
    left, right = flat(a), flat(b)
    names = [name for name in left | right if left.get(name) != right.get(name)]
    rows = [(name, _short(left.get(name, "-")), _short(right.get(name, "-"))) for name in names]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(2)]
    return Differences("\n".join(f"{n:{widths[0]}}  {x:{widths[1]}}  ->  {y}" for n, x, y in rows) or "no difference")


def _short(value: object) -> str:
    if isinstance(value, (Linf, L2)):
        return f"{value}, alpha {value.alpha * 255:.4g}/255, start {value.start}"
    return f"{value:g}" if isinstance(value, float) else str(value)
