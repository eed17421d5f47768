"""The checks that the settings of pretraining and of fine-tuning share."""

from __future__ import annotations

import sys
from dataclasses import fields

from advcl_nb._check import require, require_count, require_is, require_number, require_one_of
from advcl_nb.attacks import L2, Linf

TINY, HUGE = sys.float_info.min, sys.float_info.max


def require_seed(seed: object) -> None:
    """Raise ValueError unless `seed` is a whole number; it may be negative."""
    require_count(seed, "seed", -(2**63))


def require_training(config: object, positive: tuple[str, ...], not_negative: tuple[str, ...]) -> None:
    """Check what every training has, and that the fields named hold such numbers."""
    for field in fields(config):
        value = getattr(config, field.name)
        require(isinstance(value, bool) or not isinstance(field.default, bool), field.name, "True or False", value)
    require_count(config.epochs, "epochs")
    require_count(config.batch_size, "batch_size", 2)  # batch norm cannot take one image
    require_seed(config.seed)
    require_is(config.attack, "attack", (Linf, L2), "Write adv.Linf(8 / 255, 2 / 255, 10).")
    require_one_of(config.optimizer, "optimizer", ("sgd", "nesterov", "adamw"))
    if config.optimizer == "nesterov":
        require_number(config.momentum, "momentum", "a positive number for nesterov", TINY, HUGE)
    for name in ("learning_rate", "temperature", *positive):
        require_number(getattr(config, name), name, "a positive number", TINY, HUGE)
    for name in ("momentum", "weight_decay", *not_negative):
        require_number(getattr(config, name), name, "a number >= 0", 0, HUGE)
