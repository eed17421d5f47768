"""The presets: each is a commented diff from the release's values, which are the defaults of the configs."""

from __future__ import annotations

import os
from dataclasses import replace

from advcl_nb._check import require_one_of
from advcl_nb.attacks import Linf
from advcl_nb.config import Config, DataConfig, PretrainConfig, release_finetune
from advcl_nb.models import ModelConfig
from advcl_nb.views import ViewSettings

PRESETS = ("smoke", "teach", "cifar", "budget", "paper")


def preset(name: str | None = None) -> Config:
    """Return the preset `name`, else the one in $ADVCL_PRESET, else "teach"."""
    name = name or os.environ.get("ADVCL_PRESET") or "teach"
    require_one_of(name, "preset", PRESETS)
    return {"smoke": _smoke, "teach": _teach, "cifar": _cifar, "budget": _budget, "paper": Config}[name]()


def _smoke() -> Config:
    """Every code path in seconds: tests and CI."""
    teach = _teach()
    quick = {"epochs": 2, "milestones": (1,), "attack": Linf(8 / 255, 4 / 255, 2)}
    return replace(
        teach,
        data=replace(teach.data, train=256, test=100),
        model=replace(teach.model, width=8, projector=(32, 32), cluster_counts=(2, 5, 10)),
        pretrain=replace(teach.pretrain, epochs=2, batch_size=128, attack=Linf(8 / 255, 4 / 255, 2)),
        finetune={name: replace(config, **quick) for name, config in teach.finetune.items()},
    )


def _teach() -> Config:
    """The papers' effects in minutes, on data that the library draws itself."""
    release = release_finetune()
    adamw = {"optimizer": "adamw", "weight_decay": 1e-4, "batch_size": 128}
    head = adamw | {"learning_rate": 0.03, "epochs": 40, "milestones": (25, 35), "standardize": True, "padding": None}
    whole = adamw | {"learning_rate": 2e-3, "epochs": 10, "milestones": (6, 8), "standardize": True, "padding": 1}
    whole |= {"schedule": "steps"}
    return Config(
        data=DataConfig("shapes", size=16, train=2048, test=1000),
        model=ModelConfig(width=16, blocks=(1, 1, 1), projector=(64, 64), cluster_counts=(10, 20, 50)),
        pretrain=PretrainConfig(
            **adamw,
            learning_rate=2e-3,
            epochs=15,
            warmup_epochs=1,
            warmup_from=2e-4,
            schedule_by="step",  # fifteen epochs are too few to move the rate once an epoch
            contrast_scale=1.0,  # AdamW does not see a constant factor; pseudo_weight is against the plain loss
            pseudo_weight=0.6,
            views=ViewSettings(crop_scale=(0.5, 1.0), padding=2, radius=4),  # of 16 pixels, not 32
        ),
        finetune={
            "SLF": replace(release["SLF"], **head),
            "ALF": replace(release["ALF"], **head | {"epochs": 10, "milestones": (6, 8)}),
            **{name: replace(release[name], **whole) for name in ("AFF", "CE", "SupCon", "Core", "AdvCore")},
        },
    )


def _cifar() -> Config:
    """Real images on a laptop: a small ResNet and a few epochs."""
    release = release_finetune()
    adamw = {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-4, "batch_size": 256}
    head = adamw | {"epochs": 5, "milestones": (3, 4), "standardize": True}
    whole = head | {"learning_rate": 1e-3, "schedule": "steps"}
    one_epoch = {"epochs": 1, "milestones": ()}  # ten attack steps an image make an epoch dear
    return Config(
        data=DataConfig("cifar10", test=2000),
        model=ModelConfig(width=32, blocks=(2, 2, 2), stem=(4, 2), projector=(256, 128), cluster_counts=(10, 50, 100)),
        pretrain=PretrainConfig(
            **adamw,
            epochs=12,
            warmup_epochs=1,
            warmup_from=3e-4,
            schedule_by="step",
            contrast_scale=1.0,
            pseudo_weight=2.5,
            attack=Linf(8 / 255, 5 / 255, 2),
            precision="bfloat16",
            channels_last=True,
        ),
        finetune={
            "SLF": replace(release["SLF"], **head),
            "ALF": replace(release["ALF"], **head | one_epoch),
            "AFF": replace(release["AFF"], **whole | one_epoch),
            **{name: replace(release[name], **whole) for name in ("CE", "SupCon", "Core")},
            "AdvCore": replace(release["AdvCore"], **whole | one_epoch),
        },
    )


def _budget() -> Config:
    """The paper's model in under thirty minutes on one data-centre GPU."""
    paper = Config()
    return replace(
        paper,
        pretrain=replace(paper.pretrain, epochs=30, warmup_epochs=2, precision="bfloat16", channels_last=True),
        finetune={
            **paper.finetune,
            **{name: replace(paper.finetune[name], epochs=15) for name in ("CE", "SupCon", "Core")},
            "AdvCore": replace(paper.finetune["AdvCore"], epochs=5),
        },
    )
