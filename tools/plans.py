"""What `make reproduce` makes, per preset: encoders, their fine-tunings, and how each is scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import advcl_nb as adv

POINTS, ON = 10, 500  # of a curve: how many, and on how many test images
CHECKED, REPORTED = 500, 250  # test images for AutoAttack and the report of a check
SEEDS = (0, 1, 2)
REPORT = "AutoAttack and report"
HIDDEN = ("seed", "epochs", "milestones", "batch_size")


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning and its scores: what differs from the preset's protocol, and the share of labels it has.

    whole: also scored by AutoAttack and while it trains, and a head on a kept encoder is kept; keep: and one on an
    encoder that fine-tuning changed, with that encoder. all_test: scored on every test image, however many the preset
    takes. checked: scored by AutoAttack and the robustness report instead, with transfer from SimCLR (to SimCLR from
    AdvCL).
    """

    protocol: str
    changes: dict = field(default_factory=dict)
    share: float = 1.0
    transfer_to: str | None = None
    whole: bool = False
    keep: bool = False
    all_test: bool = False
    checked: bool = False

    @property
    def note(self) -> str:
        """What the card's note says beside the encoder's name; a seed stands in the card's config."""
        told = [f"{name}={value}" for name, value in self.changes.items() if name not in HIDDEN]
        told = ([f"{self.share:.0%} of the labels"] if self.share < 1 else []) + told
        return "".join(f", {part}" for part in told + ([REPORT] if self.checked else []))


@dataclass(frozen=True)
class Run:
    """One encoder: what differs from the preset's pretraining, and how it is fine-tuned and scored.

    labels: pseudo-labels by the run's own SimCLR ("own"), by that of the unchanged preset ("preset"), or the authors'
    ("release"). kept: whether the encoder goes to data/checkpoints; else it stays in runs/, and its cards say how to
    make it again.
    """

    name: str
    changes: dict = field(default_factory=dict)
    tunings: tuple[Tuning, ...] = (Tuning("SLF"),)
    labels: str = "own"
    kept: bool = True


def protocols(*names: str, seeds: tuple[int, ...] = (0,), **options) -> tuple[Tuning, ...]:
    """A tuning for each protocol and seed; `options` are a Tuning's, or changes to the protocol's settings."""
    own = {name: options.pop(name) for name in ("share", "transfer_to", "whole", "keep", "all_test") if name in options}
    return tuple(Tuning(name, ({"seed": seed} if seed else {}) | options, **own) for name in names for seed in seeds)


FEW = {  # 10% of the labels, the same for each seed: smaller batches, and more epochs
    "smoke": {"share": 0.1, "batch_size": 16},
    "teach": {"share": 0.1, "batch_size": 64, "epochs": 30, "milestones": (18, 24)},
    "cifar": {"share": 0.1, "batch_size": 64, "epochs": 10, "milestones": (6, 8)},
}
CHECK = Tuning("SLF", checked=True)
IMAGENET = "AdvCL with the authors' pseudo-labels (ImageNet)"
NO_LABELS = Run("AdvCL without pseudo-labels", {"pseudo_weight": 0.0})
NO_HIGH = Run("AdvCL without the high-frequency view", {"high_view": False})


def runs_of(preset: str) -> Iterator[Run]:
    """The runs behind the notebooks, those that readers most want first; SimCLR also makes AdvCL's pseudo-labels."""
    if preset == "budget":  # another scale of what `cifar` makes, by its name too; its encoders are 22 MB each
        yield from (replace(run, name=f"{run.name} (ResNet-18)", kept=False) for run in photographs(preset))
    else:
        yield from photographs(preset) if preset == "cifar" else made_up(preset)


def photographs(preset: str) -> Iterator[Run]:
    """CIFAR-10: the claims of both papers; then more seeds for those that decide, CIFAR-100, and two sweeps."""
    few = FEW.get(preset, {"share": 0.1})
    every = {"whole": True, "all_test": True}
    trio = protocols("CE", "Core", whole=True) + protocols("CE", "Core", seeds=SEEDS[1:])
    trio += protocols("SupCon", seeds=SEEDS)
    trio += protocols("CE", "SupCon", "Core", seeds=SEEDS, **few)
    whole, moved = protocols("SLF", "ALF", "AFF", **every), protocols("SLF", transfer_to="cifar100", **every)
    both, pair = protocols("AdvCore", **every), protocols("CE", "Core", **every)
    yield Run("SimCLR", {"method": "simclr"}, (*whole, *both, *trio, *moved, CHECK))
    headline = protocols("SLF", "ALF", **every) + protocols("AFF", keep=True, **every)
    yield Run("AdvCL", {}, (*headline, *both, *pair, *moved, CHECK))
    yield Run("ACL", {"method": "acl"}, (*whole, *protocols("CE", "Core"), *moved, CHECK))
    yield Run(IMAGENET, {}, (*whole, CHECK), labels="release")
    for run in (NO_LABELS, NO_HIGH):
        yield replace(run, tunings=whole)
    plain = protocols("SLF", all_test=True)
    yield Run("AdvCL in float32", {"precision": "float32"}, plain, labels="preset", kept=False)
    for seed in SEEDS[1:]:
        for run in (Run("SimCLR", {"method": "simclr"}), Run("AdvCL"), NO_LABELS, NO_HIGH):
            yield replace(run, changes=run.changes | {"seed": seed}, tunings=plain, kept=False)
    hundred = protocols("SLF", **every) + protocols("SLF", transfer_to="cifar10", **every)
    for name, method in (("SimCLR", "simclr"), ("AdvCL", "advcl"), ("ACL", "acl")):
        yield Run(name, {"method": method, "name": "cifar100"}, hundred)
    if preset == "cifar":  # half of its width
        yield from sweeps()


def sweeps(epochs: int = 3, counts: tuple[int, ...] = (2, 10, 50, 100, 500)) -> Iterator[Run]:
    """The radius of the high view with all K together, and each K alone: half the width, all test images.

    Two seeds of pretraining and fine-tuning, on the same pseudo-labels.
    """
    told = {f"radius={radius}": {"cluster_counts": counts, "radius": float(radius)} for radius in (0, 4, 8, 12, 16)}
    told |= {f"K={count}": {"cluster_counts": (count,)} for count in counts}
    title, tunings = f"AdvCL at half width, {epochs} epochs", protocols("SLF", all_test=True)
    for seed in SEEDS[:2]:
        for name, changes in told.items():
            changes = {"epochs": epochs, "width": 16, "seed": seed} | changes
            yield Run(f"{title}, {name}", changes, tunings, labels="preset", kept=False)


def made_up(preset: str) -> Iterator[Run]:
    """The built-in data: three seeds of each pretraining, Core-tuning's ablation, and the radius."""
    slf, three = protocols("SLF"), ("CE", "SupCon", "Core")
    whole = protocols("SLF", whole=True) + protocols("ALF", "AFF")
    trio = protocols(*three, seeds=SEEDS) + protocols(*three, seeds=SEEDS, **FEW[preset])
    for seed in SEEDS:
        more = (*whole, *trio, *studies(FEW[preset]), CHECK)
        yield Run("SimCLR", {"method": "simclr", "seed": seed}, more if seed == 0 else slf)
        more = (*whole, *protocols("AdvCore"), *protocols("AFF", "AdvCore", **FEW[preset]), CHECK)
        yield Run("AdvCL", {"seed": seed}, more if seed == 0 else slf)
        for run in (NO_LABELS, NO_HIGH):
            yield replace(run, changes=run.changes | {"seed": seed})
    yield Run("RoCL", {"method": "rocl"})
    yield Run("ACL", {"method": "acl"})
    for radius in (1.0, 2.0, 6.0):
        yield Run(f"AdvCL, radius {radius:g}", {"radius": radius})


def studies(few: dict) -> tuple[Tuning, ...]:
    """Core-tuning's ablation, the sweep over eta for both variants, and AdvCore, on SimCLR's encoder."""
    parts = ({"eta": 0.0}, {"mixing": False}, {"hard_pairs": False}, {"focal": False}, {"smooth_classifier": False})
    ablation = [tuning for part in parts for tuning in protocols("Core", seeds=SEEDS, **few | part)]
    sweep = []
    for variant in ({}, {"core_variant": "release"}):
        for eta in (0.003, 0.03, 0.1, 0.3, 1.0):
            if variant or eta != 0.1:  # this is the preset's own
                sweep += protocols("Core", seeds=SEEDS, **few | variant | {"eta": eta})
    return (*ablation, *sweep, *protocols("AdvCore"), *protocols("AFF", "AdvCore", **few))


@dataclass(frozen=True)
class Job:
    """One card to make: a run's encoder, fine-tuned and scored."""

    config: adv.Config
    run: Run
    tuning: Tuning

    @property
    def data(self) -> adv.DataConfig:
        return replace(self.config.data, name=self.tuning.transfer_to or self.config.data.name)

    @property
    def settings(self) -> adv.FinetuneConfig:
        return self.config.finetune[self.tuning.protocol]

    @property
    def note(self) -> str:
        return self.run.name + self.tuning.note

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """What a card says of it in words."""
        return self.note, self.tuning.protocol, self.tuning.transfer_to

    @property
    def key(self) -> str:
        """A name for files of this fine-tuning."""
        told = json.dumps([self.identity, vars(self.settings)], sort_keys=True, default=str)
        return f"{self.tuning.protocol}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"

    def __str__(self) -> str:
        data = self.config.data.name + (f" to {self.tuning.transfer_to}" if self.tuning.transfer_to else "")
        seeds = sorted({self.config.pretrain.seed, self.settings.seed})
        return f"{self.note} on {data}, {self.tuning.protocol}, seed {' and '.join(map(str, seeds))}"


def jobs_of(preset: str) -> list[Job]:
    """Every card of a preset, in the order in which they are made."""
    return [
        Job(config_with(config_of(preset, run), tuning), run, tuning)
        for run in runs_of(preset)
        for tuning in run.tunings
    ]


def config_of(preset: str, run: Run) -> adv.Config:
    """The preset with the run's changes; the seed also goes to fine-tuning."""
    config, changes = adv.preset(preset), dict(run.changes)
    own = lambda *names: {name: changes.pop(name) for name in names if name in changes}  # noqa: E731
    data, model = replace(config.data, **own("name")), replace(config.model, **own("width", "cluster_counts"))
    views = replace(config.pretrain.views, **own("radius"))
    seed = changes.get("seed", 0)
    finetune = {name: replace(settings, seed=seed) for name, settings in config.finetune.items()}
    pretrain = replace(config.pretrain, views=views, **changes)
    return replace(config, data=data, model=model, pretrain=pretrain, finetune=finetune)


def config_with(config: adv.Config, tuning: Tuning) -> adv.Config:
    """The run's config with the tuning's changes in its protocol."""
    data = replace(config.data, test=None) if tuning.all_test else config.data
    settings = replace(config.finetune[tuning.protocol], **tuning.changes)
    return replace(config, data=data, finetune=dict(config.finetune) | {tuning.protocol: settings})
