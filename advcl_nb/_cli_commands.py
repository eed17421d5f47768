"""The commands of `advcl-nb` with their options: the fields are the options, the docstrings their help."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Annotated

from tyro import conf

from advcl_nb._check import require, require_device
from advcl_nb._cli_train import Limits
from advcl_nb.attacks import L2, Linf
from advcl_nb.config import DataConfig, FinetuneConfig, PretrainConfig
from advcl_nb.models import ModelConfig

PGD20 = Linf(8 / 255, 2 / 255, 20)
Flat = conf.arg(name="")  # options without a prefix
OneWay = conf.FlagCreatePairsOff  # --resume without --no-resume


@dataclass(frozen=True)
class Computing:
    """Where to compute and how to tell."""

    device: str = "cpu"
    download: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        require_device(self.device)


@dataclass(frozen=True)
class Keeping:
    """How a long run is kept.

    resume: go on from the run's file, where there is one. time_limit: minutes; the run saves, and ends with code 0, a
    little before. save_every: minutes from save to save. every: steps from row to row, and a run can stop at a row
    (None: about ten an epoch).
    """

    resume: bool = False
    time_limit: float | None = None
    save_every: float = 10.0
    every: int | None = None
    started: Annotated[float, conf.Suppress] = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        require(self.time_limit is None or self.time_limit > 0, "time_limit", "minutes > 0", self.time_limit)
        require(self.save_every >= 0, "save_every", "minutes >= 0", self.save_every)
        require(self.every is None or self.every >= 1, "every", "steps >= 1", self.every)

    @property
    def limits(self) -> Limits:
        """When to stop and when to save, in seconds of `time.monotonic`."""
        minutes = math.inf if self.time_limit is None else self.time_limit
        return Limits(self.started + 60 * minutes, 60 * self.save_every)


@dataclass(frozen=True)
class Pretrain:
    """Pretrain an encoder, and keep the run under runs/.

    pseudo_labels: own (from SimCLR on the same images, trained first where it is missing), release (the authors'), or
    a file: of the release, or .npy with int64 (n, k).
    """

    preset: str | None
    computing: Annotated[Computing, Flat, OneWay]
    keeping: Annotated[Keeping, Flat, OneWay]
    settings: Annotated[PretrainConfig, Flat]
    data: DataConfig
    model: ModelConfig
    pseudo_labels: str = "own"


@dataclass(frozen=True)
class Finetune:
    """Fine-tune an encoder by --protocol, score it, and keep the run under runs/.

    encoder: name or file of a pretraining run or an encoder; its own settings are the defaults, unless --preset is
    given. scores: take SA and PGD-20 at the end. card: write a result card to data/results. note: what the card says.
    """

    encoder: Annotated[conf.Positional[str | None], conf.arg(metavar="ENCODER")]
    preset: str | None
    computing: Annotated[Computing, Flat, OneWay]
    keeping: Annotated[Keeping, Flat, OneWay]
    settings: Annotated[FinetuneConfig, Flat]
    data: DataConfig
    scores: Annotated[bool, OneWay] = True
    card: Annotated[bool, OneWay] = False
    note: str = ""


@dataclass(frozen=True)
class Evaluate:
    """Score a fine-tuned run: SA, and RA under PGD; the scores stay with the run.

    run: name or file. count: of the first test images (None: all). restarts: of PGD. autoattack: AA too; goes on where
    it was broken off. report: the robustness report too. data: the images, by default those that the run was tuned on.
    """

    run: Annotated[conf.Positional[str | None], conf.arg(metavar="RUN")]
    preset: str | None
    computing: Annotated[Computing, Flat, OneWay]
    data: DataConfig
    attack: Linf | L2 = PGD20
    restarts: int = 1
    count: int | None = None
    seed: int = 0
    autoattack: Annotated[bool, OneWay] = False
    report: Annotated[bool, OneWay] = False

    def __post_init__(self) -> None:
        require(self.count is None or self.count >= 1, "count", "images >= 1", self.count)


@dataclass(frozen=True)
class Runs:
    """List the runs under runs/ and the cards in data/results, or show one run.

    name: of the run to show, or its file (None: list all). json: print one JSON object instead.
    """

    name: Annotated[conf.Positional[str | None], conf.arg(metavar="NAME")] = None
    json: Annotated[bool, OneWay] = False
