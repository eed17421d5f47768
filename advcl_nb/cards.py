"""Result cards: one JSON file per result, with everything needed to make it again."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

import torch

from advcl_nb._check import require, require_is, require_one_of
from advcl_nb._file import write_whole
from advcl_nb._plain import to_plain
from advcl_nb._revive import from_plain
from advcl_nb.config import METHODS, PROTOCOLS, Config, PretrainConfig
from advcl_nb.data import project_folder
from advcl_nb.report import RobustnessReport
from advcl_nb.score import Score

SCHEMA = 1
SCORE_FIELDS = {"metric", "attack", "value", "correct", "n", "low", "high"}
CURVE_FIELDS = {"epoch", "seconds", "SA", "RA", "n"}
ADDED = {"head", "curve"}  # fields that older cards lack
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
PACKAGED = Path(__file__).parent / "_results"  # where a wheel has the committed cards


@dataclass(frozen=True)
class Card:
    """One result. `data` is the pretraining set; `config` holds data, model, pretrain and finetune, whole.

    seconds and epochs are the pretraining's. scores: dicts of metric, attack, value (a fraction), correct, n, low and
    high (95% Wilson); of two of one metric the first is of more images. checkpoint: file name and sha256 of the
    encoder's file in ``data/checkpoints``; or None, and then tools/reproduce.py ends the note in the command that makes
    it. head: that of the linear layer's file, or None. versions, hardware: of what scored.
    """

    data: str
    method: str
    protocol: str
    seed: int
    config: Mapping
    scores: Sequence[Mapping]
    seconds: float
    epochs: int
    versions: Mapping[str, str]
    hardware: str
    transfer_to: str | None = None
    checkpoint: Mapping[str, str] | None = None
    note: str = ""
    head: Mapping[str, str] | None = None
    curve: Sequence[Mapping[str, float]] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        require(self.schema == SCHEMA, "schema", f"version {SCHEMA}", self.schema)
        require_one_of(self.method, "method", METHODS)
        require_one_of(self.protocol, "protocol", PROTOCOLS)
        parts = {"data", "model", "pretrain", "finetune"}
        require_is(self.config, "config", Mapping, "adv.make_card makes a card from a Config.")
        require(set(self.config) == parts, "config", f"the parts {sorted(parts)}", sorted(self.config))
        require(len(self.scores) > 0, "scores", "one score or more", self.scores)
        for score in self.scores:
            require_is(score, "scores", Mapping, "adv.make_card makes a card from Scores.")
            require(set(score) == SCORE_FIELDS, "scores", f"the fields {sorted(SCORE_FIELDS)}", sorted(score))
            made_again = score_fields(Score(score["metric"], score["correct"], score["n"], score["attack"]))
            require(made_again == dict(score), "scores", f"{made_again}, as correct and n give", score)
        for name in ("checkpoint", "head"):
            file = getattr(self, name)
            require(file is None or set(file) == {"file", "sha256"}, name, "file and sha256, or None", file)
        for point in self.curve:
            require(set(point) == CURVE_FIELDS, "curve", f"the fields {sorted(CURVE_FIELDS)}", sorted(point))

    @property
    def title(self) -> str:
        """The note up to a colon: the encoder, and what of fine-tuning differs from the preset."""
        return self.note.split(": ")[0]

    @property
    def share(self) -> float:
        """The pretraining's epochs as a share of the published thousand."""
        return self.epochs / PretrainConfig().epochs

    @property
    def scored(self) -> list[Score]:
        """The scores as `Score` objects."""
        return [Score(score["metric"], score["correct"], score["n"], score["attack"]) for score in self.scores]

    @property
    def settings(self) -> Config:
        """The config as a `Config`."""
        return from_plain(Config, self.config)


class Cards(list):
    """A list of cards that prints as a table; share is that of the published epochs."""

    def __repr__(self) -> str:
        header = ("data", "method", "protocol", "seed", "epochs", "share", "scores", "note")
        rows = [header, *(_row(card) for card in self)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def make_card(
    config: Config, protocol: str, scores: Sequence[Score] | RobustnessReport, *,
    seconds: float, checkpoint: Path | None, head: Path | None = None, curve: Sequence[Mapping[str, float]] = (),
    transfer_to: str | None = None, note: str = "", device: str | torch.device = "cpu",
) -> Card:  # fmt: skip
    """Make the card of a result, with the versions of this process and the name of the device filled in.

    scores: a list of Score, or a whole `RobustnessReport`. transfer_to: the set fine-tuned on and scored, where it is
    not the config's. device: where it was computed.
    """
    require_is(config, "config", Config)
    require_one_of(protocol, "protocol", tuple(config.finetune))
    scores = scores.scores if isinstance(scores, RobustnessReport) else scores
    whole = isinstance(scores, Sequence) and all(isinstance(score, Score) for score in scores)
    require(whole, "scores", "a list of Score", scores, "Write [score].")
    return Card(
        data=config.data.name,
        method=config.pretrain.method,
        protocol=protocol,
        seed=config.pretrain.seed,
        config=to_plain(config),
        scores=[score_fields(score) for score in scores],
        seconds=round(seconds, 1),
        epochs=config.pretrain.epochs,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        hardware=hardware(device),
        checkpoint=checkpoint and named_file(checkpoint),
        head=head and named_file(head),
        curve=tuple(dict(point) for point in curve),
        transfer_to=transfer_to,
        note=note,
    )


def write_card(card: Card, folder: str | Path | None = None) -> Path:
    """Write a card to `folder` (by default ``data/results``) and return its path.

    The file's name comes from the card's identity, so making a result again replaces its card; nothing else does.
    """
    require_is(card, "card", Card, "Make one with adv.make_card.")
    folder = results_folder() if folder is None else Path(folder)
    identity = json.dumps([card.config, card.protocol, card.transfer_to, card.note], sort_keys=True)
    name = f"{card.data}-{card.method}-{card.protocol}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}.json"
    return write_whole(folder / name, (json.dumps(asdict(card), indent=1) + "\n").encode())


def read_cards(folder: str | Path | None = None) -> Cards:
    """Read and validate every card in `folder` (by default ``data/results``), in the order of their names.

    Where there is no ``data/results``, an installed package reads the committed cards, which it carries. Raises
    ValueError, naming the file, where one is not a card of this schema.
    """
    if folder is None:
        folder = results_folder() if results_folder().is_dir() else PACKAGED
    require_is(folder, "folder", (str, Path))
    return Cards(_read_card(path) for path in sorted(Path(folder).glob("*.json")))


def results_folder() -> Path:
    """Where cards lie: ``data/results`` of the project."""
    return project_folder() / "data" / "results"


def hardware(device: str | torch.device = "cpu") -> str:
    """Name a GPU, or the processor and how many threads this process uses on it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")  # Linux alone has it
    match = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return f"{match[1] if match else platform.machine()}, {torch.get_num_threads()} thread(s)"


def named_file(path: Path) -> dict[str, str]:
    """Return a file as a card holds it: its name and its sha256."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def score_fields(score: Score) -> dict[str, object]:
    """Return a score as a card holds it."""
    names = ("metric", "attack", "value", "correct", "n", "low", "high")
    return {name: getattr(score, name) for name in names}


def _read_card(path: Path) -> Card:
    try:
        plain = json.loads(path.read_text())
        names = {f.name for f in fields(Card)}
        require(names - ADDED <= set(plain) <= names, "fields", str(sorted(names)), sorted(plain))
        return Card(**plain | {"curve": tuple(plain.get("curve", ()))})
    except (ValueError, TypeError) as error:
        raise ValueError(f"card: expected a card of schema {SCHEMA}, got {path.name}: {error}") from error


def _row(card: Card) -> tuple[str, ...]:
    usual, scores = card.scored[0].n, []
    for s in card.scored:  # how many images, where it is not as many as of the first score
        name, images = f"{s.metric}[{s.attack}]" if s.attack else s.metric, "" if s.n == usual else f" ({s.n})"
        scores.append(f"{name} {100 * s.value:.1f}{images}")
    target = f"{card.data}>{card.transfer_to}" if card.transfer_to else card.data
    seed, epochs, share, told = str(card.seed), str(card.epochs), f"{card.share:.1%}", " ".join(scores)
    return target, card.method, card.protocol, seed, epochs, share, told, card.note
