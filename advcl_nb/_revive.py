"""Configs made again from the plain values in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from advcl_nb._check import require, require_one_of
from advcl_nb.attacks import L2, Linf
from advcl_nb.config import DataConfig, FinetuneConfig, PretrainConfig
from advcl_nb.models import ModelConfig
from advcl_nb.views import ViewSettings

ADDED = {
    FinetuneConfig: {"schedule", "core_variant", "eta", "temperature", "mixup_alpha", "contrast_dim", "pool"}
    | {"mixing", "hard_pairs", "focal", "smooth_classifier"},
    PretrainConfig: {"compile"},
}


def from_plain(kind: type, plain: Mapping) -> object:
    """Rebuild a config of class `kind` from `to_plain`'s dict; an unknown or missing field raises ValueError.

    A field that older files lack (`ADDED`) takes its default, for defaults never change.
    """
    names = {f.name for f in fields(kind)}
    got = set(plain) if isinstance(plain, Mapping) else plain
    known = isinstance(got, set) and names - ADDED.get(kind, set()) <= got <= names
    require(known, kind.__name__, f"the fields {sorted(names)}", got, "Is the file foreign?")
    return kind(**{name: _revive(name, part) for name, part in plain.items()})


def _revive(name: str, part: object) -> object:
    if name == "attack":
        require_one_of(part.get("norm"), "norm", ("Linf", "L2"))
        return from_plain(Linf if part["norm"] == "Linf" else L2, {k: v for k, v in part.items() if k != "norm"})
    if name == "finetune":
        return {protocol: from_plain(FinetuneConfig, config) for protocol, config in part.items()}
    kinds = {"data": DataConfig, "model": ModelConfig, "pretrain": PretrainConfig, "views": ViewSettings}
    if name in kinds:
        return from_plain(kinds[name], part)
    return tuple(part) if isinstance(part, list) else part
