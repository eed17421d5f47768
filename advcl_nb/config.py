"""Frozen settings, checked when made. Their defaults are the AdvCL release's values; `presets` has the diffs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from advcl_nb._check import require, require_count, require_one_of
from advcl_nb._plain import flat
from advcl_nb.attacks import L2, Linf
from advcl_nb.models import BRANCHES, ModelConfig
from advcl_nb.views import ViewSettings

METHODS = ("simclr", "acl", "advcl")
PROTOCOLS = ("SLF", "ALF", "AFF")


def _check_training(config: object) -> None:
    require_count(config.epochs, "epochs")
    require_count(config.batch_size, "batch_size", 2)  # batch norm cannot take one image
    require(isinstance(config.attack, (Linf, L2)), "attack", "an adv.Linf or adv.L2", config.attack)
    require_one_of(config.optimizer, "optimizer", ("sgd", "adamw"))
    require(config.learning_rate > 0, "learning_rate", "a positive number", config.learning_rate)


@dataclass(frozen=True)
class DataConfig:
    """Which images: the data set's name, their size (None: as they are), how many (None: all), and the seed.

    The name is one of `load_images`, or one of your own for images of your own: it tells their runs apart.
    """

    name: str = "cifar10"
    size: int | None = None
    train: int | None = None
    test: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and self.name.isidentifier(), "name", "a name such as cifar10", self.name)
        for name, value in (("size", self.size), ("train", self.train), ("test", self.test)):
            require(value is None or value >= 1, name, "a count >= 1 or None", value)


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain. All methods share optimiser, schedule and augmentation; the rest says what differs.

    contrast_scale multiplies the contrastive loss of every method; 0.5 / 0.07 is the constant factor in the release's
    SupConLoss. pseudo_weight: weight of the pseudo-label loss (0 leaves it out). high_view: whether AdvCL has the
    high-pass view. attack_mode: batch norm's mode while attacking, "train" or "eval" (None: the method's own).
    bn_updates: "release" leaves the running statistics as the release's thirty forwards would, "once" counts each
    view once. schedule_by: the cosine moves once an "epoch" (release) or every "step". precision: "float32" or
    "bfloat16" (autocast in the encoder, also in the attack). channels_last: memory layout, changes nothing but speed
    and rounding.
    """

    method: str = "advcl"
    epochs: int = 1000
    batch_size: int = 512
    optimizer: str = "sgd"
    learning_rate: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: int = 10
    warmup_from: float = 0.01
    final_ratio: float = 1e-3
    schedule_by: str = "epoch"
    temperature: float = 0.5
    contrast_scale: float = 0.5 / 0.07
    high_view: bool = True
    pseudo_weight: float = 0.2
    attack: Linf | L2 = Linf(8 / 255, 2 / 255, 5)
    attack_mode: str | None = None
    bn_updates: str = "release"
    views: ViewSettings = ViewSettings()
    precision: str = "float32"
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(self.method, "method", METHODS)
        require_one_of(self.attack_mode, "attack_mode", (None, "train", "eval"))
        require_one_of(self.bn_updates, "bn_updates", ("release", "once"))
        require_one_of(self.schedule_by, "schedule_by", ("epoch", "step"))
        require_one_of(self.precision, "precision", ("float32", "bfloat16"))
        _check_training(self)
        require(self.temperature > 0, "temperature", "a positive number", self.temperature)
        for name in ("pseudo_weight", "contrast_scale", "warmup_epochs", "warmup_from", "final_ratio"):
            require(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name))

    @property
    def attacked_in(self) -> str:
        """Mode of batch norm while attacking: `attack_mode`, or the method's own where that is None."""
        return self.attack_mode or ("train" if self.method == "advcl" else "eval")

    @property
    def branch(self) -> str:
        """Branch that fine-tuning and evaluation use by default."""
        return "clean" if self.method == "simclr" else "adv"

    @property
    def uses_pseudo_labels(self) -> bool:
        """Whether a step needs pseudo-labels."""
        return self.method == "advcl" and self.pseudo_weight > 0


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune and with what `protocol`; ``preset().finetune[protocol]`` has each protocol's own defaults.

    SLF trains a linear layer on clean images, ALF on adversarial ones; AFF trains everything on adversarial ones.
    loss: ALF's and AFF's, "ce" (cross-entropy on adversarial images) or "trades" with its `beta`. milestones: epochs
    (from 0) at which the rate is multiplied by `decay`. branch: of the encoder (None: the encoder's own).
    padding: of the random crop in training; None trains on the images as they are, without crop and flip.
    standardize: shift and scale the features to mean 0 and deviation 1 before the linear layer.
    """

    protocol: str = "SLF"
    epochs: int = 25
    batch_size: int = 512
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    milestones: tuple[int, ...] = (15, 20)
    decay: float = 0.1
    loss: str = "ce"
    beta: float = 6.0
    attack: Linf | L2 = Linf(8 / 255, 2 / 255, 10)
    branch: str | None = None
    padding: int | None = 4
    standardize: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(self.protocol, "protocol", PROTOCOLS)
        require_one_of(self.loss, "loss", ("ce",) if self.protocol == "SLF" else ("ce", "trades"))
        require_one_of(self.branch, "branch", (None, *BRANCHES))
        _check_training(self)
        require(self.beta >= 0, "beta", "a weight >= 0", self.beta)


def release_finetune() -> dict[str, FinetuneConfig]:
    """Return each protocol's own defaults: SLF as released; ALF and AFF as in A-InfoNCE's fork of AdvCL."""
    return {
        "SLF": FinetuneConfig("SLF", learning_rate=0.01),
        "ALF": FinetuneConfig("ALF"),
        "AFF": FinetuneConfig("AFF", loss="trades", attack=Linf(8 / 255, 2 / 255, 10, start="gaussian")),
    }


@dataclass(frozen=True)
class Config:
    """Everything that names a result: data, model, pretraining, and a `FinetuneConfig` for each protocol."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: Mapping[str, FinetuneConfig] = field(default_factory=release_finetune)

    def __post_init__(self) -> None:
        for protocol, config in self.finetune.items():
            require(protocol == config.protocol, "finetune", f"{protocol!r} to name its protocol", config.protocol)
        object.__setattr__(self, "finetune", MappingProxyType(dict(self.finetune)))

    def __reduce__(self) -> tuple:  # a mapping proxy can be neither copied nor pickled
        return Config, (self.data, self.model, self.pretrain, dict(self.finetune))

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {value!r}" for name, value in flat(self).items())


class Differences(str):
    """A table as text, which prints itself at the end of a cell."""

    def __repr__(self) -> str:
        return str(self)


def diff(a: object, b: object) -> Differences:
    """Return a table of the settings that differ between two configs, or parts of them: field, in `a`, in `b`."""
    left, right = flat(a), flat(b)
    names = [name for name in left | right if left.get(name) != right.get(name)]
    rows = [(name, _short(left.get(name, "-")), _short(right.get(name, "-"))) for name in names]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(2)]
    return Differences("\n".join(f"{n:{widths[0]}}  {x:{widths[1]}}  ->  {y}" for n, x, y in rows) or "no difference")


def learning_rate(config: PretrainConfig | FinetuneConfig, epoch: int, batch: int, batches: int) -> float:
    """Return the rate of step `batch` (of `batches`) in `epoch`, both counted from 0.

    Pretraining: a cosine from `learning_rate` to `final_ratio` of it, and over the first `warmup_epochs` a straight
    line from `warmup_from` to where the cosine then is (release's utils.py). Fine-tuning: steps at `milestones`.
    """
    if isinstance(config, FinetuneConfig):
        return config.learning_rate * config.decay ** sum(epoch >= milestone for milestone in config.milestones)
    done = epoch + 1 if config.schedule_by == "epoch" else epoch + (batch + 1) / batches
    if epoch >= config.warmup_epochs:
        return _cosine(config, done)
    share = (epoch * batches + batch) / (config.warmup_epochs * batches)
    return config.warmup_from + share * (_cosine(config, config.warmup_epochs) - config.warmup_from)


def from_plain(kind: type, plain: Mapping) -> object:
    """Rebuild a config of class `kind` from `to_plain`'s dict; an unknown or missing field raises ValueError."""
    names = {f.name for f in fields(kind)}
    got = set(plain) if isinstance(plain, Mapping) else plain
    require(got == names, kind.__name__, f"the fields {sorted(names)}", got, "Is the file foreign?")
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


def _cosine(config: PretrainConfig, done: int | float) -> float:
    lowest = config.learning_rate * config.final_ratio
    return lowest + (config.learning_rate - lowest) * (1 + math.cos(math.pi * done / config.epochs)) / 2


def _short(value: object) -> str:
    if isinstance(value, (Linf, L2)):
        return f"{value}, alpha {value.alpha * 255:.4g}/255, start {value.start}"
    return f"{value:g}" if isinstance(value, float) else str(value)
