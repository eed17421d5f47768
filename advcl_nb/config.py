"""Frozen settings, checked when made. Their defaults are the AdvCL release's values; `presets` has the diffs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from advcl_nb._check import require, require_count, require_is, require_one_of
from advcl_nb._plain import flat
from advcl_nb._settings import require_seed, require_training
from advcl_nb.attacks import L2, Linf
from advcl_nb.models import BRANCHES, ModelConfig
from advcl_nb.views import ViewSettings

METHODS = ("simclr", "rocl", "acl", "advcl")
PROTOCOLS = ("SLF", "ALF", "AFF", "CE", "SupCon", "Core", "AdvCore")


@dataclass(frozen=True)
class DataConfig:
    """Which images. name: one of `load_images`, or one of your own for images of your own: it tells their runs apart.

    size: in pixels (None: as they are). train, test: how many (None: all). seed: of the choice of images.
    """

    name: str = "cifar10"
    size: int | None = None
    train: int | None = None
    test: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and self.name.isidentifier(), "name", "a name such as cifar10", self.name)
        for name in ("size", "train", "test"):
            require_count(1 if getattr(self, name) is None else getattr(self, name), name)
        require_seed(self.seed)


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain. All methods share optimiser, schedule and augmentation; the rest says what differs.

    contrast_scale: multiplies the contrastive loss of every method; 0.5 / 0.07 is the constant factor in the release's
    SupConLoss. pseudo_weight: weight of the pseudo-label loss (0 leaves it out). high_view: whether AdvCL has the
    high-pass view. attack_mode: batch norm's mode while attacking, "train" or "eval" (None: the method's own).
    bn_updates: "release" leaves the running statistics as the release's thirty forwards would, "once" counts each
    view once. schedule_by: the cosine moves once an "epoch" (release) or every "step". precision: "float32" or
    "bfloat16" (autocast in the encoder, also in the attack; weights and losses stay float32). Features then differ by
    a few percent at most, and many adversarial pixels, where the gradient is next to nothing (the tests hold bounds).
    channels_last: memory layout. compile: torch.compile of the encoder, which wants a C++ compiler and a minute. Both
    add up in another order, so that the last digits differ.
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
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(self.method, "method", METHODS)
        require_one_of(self.attack_mode, "attack_mode", (None, "train", "eval"))
        require_one_of(self.bn_updates, "bn_updates", ("release", "once"))
        require_one_of(self.schedule_by, "schedule_by", ("epoch", "step"))
        require_one_of(self.precision, "precision", ("float32", "bfloat16"))
        require_is(self.views, "views", ViewSettings)
        weights = ("pseudo_weight", "contrast_scale", "warmup_epochs", "warmup_from", "final_ratio")
        require_training(self, (), weights)

    @property
    def attacked_in(self) -> str:
        """Mode of batch norm while attacking: `attack_mode`, or the method's own where that is None."""
        return self.attack_mode or ("train" if self.method == "advcl" else "eval")

    @property
    def branch(self) -> str:
        """Branch that fine-tuning and evaluation use by default."""
        return "clean" if self.method in ("simclr", "rocl") else "adv"

    @property
    def uses_pseudo_labels(self) -> bool:
        """Whether a step needs pseudo-labels."""
        return self.method == "advcl" and self.pseudo_weight > 0


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune and with what `protocol`; ``preset().finetune[protocol]`` has each protocol's own defaults.

    SLF trains a linear layer on clean images, ALF on adversarial ones; AFF everything on adversarial ones. CE trains
    everything on clean images with cross-entropy; SupCon adds `eta` times the supervised contrastive loss of projected
    features; Core (Core-tuning) mixes hard pairs into both losses and weights the second; AdvCore attacks images too.

    loss: what adversarial images are trained on in ALF and AFF, "ce" (cross-entropy) or "trades" with its `beta`.
    schedule: "steps" multiplies the rate by `decay` at each of the `milestones` (epochs from 0), "cosine" takes it to
    0, once an epoch. branch: of the encoder (None: the encoder's own). padding: of the random crop in training (None:
    neither crop nor flip). standardize: scale features to mean 0 and deviation 1 before the linear layer.

    core_variant: "paper" is our reading of the paper: genuine hard pairs, a class's originals and hard positives are
    each other's positives, gradient through the originals, mean over positives. "release" is the published code in
    each of these; there the encoder learns from mixed rows alone. Left out are the code's label hash (equality is
    exact here), its classifier without bias and its second forward, which moves batch norm's statistics again.
    mixup_alpha: of the mixing coefficients' Beta distribution. contrast_dim: the projector's width. pool: what AdvCore
    mixes, "both" clean and adversarial images, "adv" alone, or "clean" alone with `beta` times TRADES' divergence.
    Each part of Core-tuning can be left out: the contrastive loss (eta=0), mixing, hard_pairs (random ones instead),
    focal (weight 1 instead) and smooth_classifier (cross-entropy on the originals alone).
    """

    protocol: str = "SLF"
    epochs: int = 25
    batch_size: int = 512
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    schedule: str = "steps"
    milestones: tuple[int, ...] = (15, 20)
    decay: float = 0.1
    loss: str = "ce"
    beta: float = 6.0
    attack: Linf | L2 = Linf(8 / 255, 2 / 255, 10)
    branch: str | None = None
    padding: int | None = 4
    standardize: bool = False
    core_variant: str = "paper"
    eta: float = 0.1
    temperature: float = 0.07
    mixup_alpha: float = 1.0
    contrast_dim: int = 256
    pool: str = "both"
    mixing: bool = True
    hard_pairs: bool = True
    focal: bool = True
    smooth_classifier: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(self.protocol, "protocol", PROTOCOLS)
        require_one_of(self.loss, "loss", ("ce", "trades") if self.protocol in ("ALF", "AFF") else ("ce",))
        require_one_of(self.schedule, "schedule", ("steps", "cosine"))
        require_one_of(self.branch, "branch", (None, *BRANCHES))
        require_one_of(self.core_variant, "core_variant", ("paper", "release"))
        require_one_of(self.pool, "pool", ("both", "adv", "clean"))
        require_count(self.contrast_dim, "contrast_dim")
        require_training(self, ("mixup_alpha",), ("beta", "eta", "decay"))
        fits = self.hard_pairs or self.core_variant == "paper"
        require(fits, "hard_pairs", "True for the release, which finds no hard positives anyway", self.hard_pairs)
        require_count(0 if self.padding is None else self.padding, "padding", 0)
        require_is(self.milestones, "milestones", (tuple, list), "Write (15, 20).")

    @property
    def trains_encoder(self) -> bool:
        """Whether the whole model is trained, not the linear layer alone."""
        return self.protocol not in ("SLF", "ALF")

    @property
    def contrasts(self) -> bool:
        """Whether a step has a contrastive loss, and the state its projector."""
        return self.protocol in ("SupCon", "Core", "AdvCore") and self.eta > 0


def release_finetune() -> dict[str, FinetuneConfig]:
    """Return each protocol's own defaults: SLF as released; ALF and AFF as in A-InfoNCE's fork of AdvCL.

    CE, SupCon and Core train as Core-tuning.py does, but mine one batch of 256 where it mines four of 64 and adds up
    their gradients. The paper's adversarial form is not released: AdvCore takes Core's values and ALF's attack.
    """
    core = {"optimizer": "nesterov", "learning_rate": 0.01, "weight_decay": 1e-4, "batch_size": 256}
    core |= {"epochs": 100, "schedule": "cosine"}
    return {
        "SLF": FinetuneConfig("SLF", learning_rate=0.01),
        "ALF": FinetuneConfig("ALF"),
        "AFF": FinetuneConfig("AFF", loss="trades", attack=Linf(8 / 255, 2 / 255, 10, start="gaussian")),
        **{protocol: FinetuneConfig(protocol, **core) for protocol in ("CE", "SupCon", "Core", "AdvCore")},
    }


@dataclass(frozen=True)
class Config:
    """Everything that names a result: data, model, pretraining, and a `FinetuneConfig` for each protocol."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: Mapping[str, FinetuneConfig] = field(default_factory=release_finetune)

    def __post_init__(self) -> None:
        for name, kind in (("data", DataConfig), ("model", ModelConfig), ("pretrain", PretrainConfig)):
            require_is(getattr(self, name), name, kind)
        require_is(self.finetune, "finetune", Mapping, 'Write {"SLF": config}.')
        for protocol, config in self.finetune.items():
            require_is(config, f"finetune[{protocol!r}]", FinetuneConfig)
            require(protocol == config.protocol, "finetune", f"{protocol!r} to name its protocol", config.protocol)
        object.__setattr__(self, "finetune", MappingProxyType(dict(self.finetune)))

    def __reduce__(self) -> tuple:  # a mapping proxy can be neither copied nor pickled
        return Config, (self.data, self.model, self.pretrain, dict(self.finetune))

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {value!r}" for name, value in flat(self).items())


def learning_rate(config: PretrainConfig | FinetuneConfig, epoch: int, batch: int, batches: int) -> float:
    """Return the rate of step `batch` (of ``batches``) in `epoch`, both counted from 0.

    Pretraining: a cosine from ``learning_rate`` to `final_ratio` of it, and over the first `warmup_epochs` a straight
    line from `warmup_from` to where the cosine then is (release's utils.py). Fine-tuning: steps at `milestones`, or a
    cosine to 0, moved once an epoch (Core-tuning.py).
    """
    require_is(config, "config", (PretrainConfig, FinetuneConfig), 'Write config.pretrain or config.finetune["SLF"].')
    for name, value, least in (("epoch", epoch, 0), ("batch", batch, 0), ("batches", batches, 1)):
        require_count(value, name, least)
    if isinstance(config, FinetuneConfig) and config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    if isinstance(config, FinetuneConfig):
        return config.learning_rate * config.decay ** sum(epoch >= milestone for milestone in config.milestones)
    done = epoch + 1 if config.schedule_by == "epoch" else epoch + (batch + 1) / batches
    if epoch >= config.warmup_epochs:
        return _cosine(config, done)
    share = (epoch * batches + batch) / (config.warmup_epochs * batches)
    return config.warmup_from + share * (_cosine(config, config.warmup_epochs) - config.warmup_from)


def _cosine(config: PretrainConfig, done: int | float) -> float:
    lowest = config.learning_rate * config.final_ratio
    return lowest + (config.learning_rate - lowest) * (1 + math.cos(math.pi * done / config.epochs)) / 2
