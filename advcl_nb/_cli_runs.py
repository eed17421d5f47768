"""What lies under runs/ and data/results: files found by name, summed up, and the notes that commands keep beside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

from advcl_nb._check import require
from advcl_nb._file import write_whole
from advcl_nb._plain import Differences, diff, flat, to_plain
from advcl_nb._revive import from_plain
from advcl_nb.cards import SCORE_FIELDS, read_cards, results_folder, score_fields
from advcl_nb.checkpoint import find_run
from advcl_nb.config import Config, DataConfig, FinetuneConfig
from advcl_nb.data import project_folder
from advcl_nb.presets import PRESETS, preset
from advcl_nb.score import Score


def runs_folder() -> Path:
    """Where runs lie: ``runs`` of the project."""
    return project_folder() / "runs"


def find(text: str | None) -> Path:
    """Return the file of a run or an encoder, named by its path or by its name alone."""
    todo = "`advcl-nb runs` lists the names under runs/; or give a file."
    require(bool(text), "name", "a run's name or file", text, todo)
    by_name = find_run(text.removesuffix(".pt")) if Path(text).name == text else None
    found = Path(text) if Path(text).is_file() else by_name
    if found is None:
        raise FileNotFoundError(f"name: expected a run's name or file, got {text}. {todo}")
    return found


def read_head(path: Path) -> dict:
    """Return a saved file's content with its tensors left on the disk: quick, and for looking only.

    The sums that `adv.load` checks are not looked at.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged or foreign file fails in many ways
        raise ValueError(f"name: expected a run, got {path}, which cannot be read ({type(error).__name__}).") from error
    ours = isinstance(content, dict) and {"kind", "config", "history"} <= set(content)
    require(ours, "name", "a run", str(path), "It is a file of another program.")
    return content


def run_summary(path: Path) -> dict:
    """Return what a saved file is and how far it got, as plain values."""
    content = read_head(path)
    row = content["history"][-1] if content["history"] else None
    settings = content["config"] if content["kind"] == "finetune" else content["config"]["pretrain"]
    epoch, epochs = row["epoch"] if row else 0.0, settings["epochs"]
    return {
        "name": path.stem,
        "path": str(path),
        "kind": content["kind"],
        "of": settings.get("protocol") or settings["method"],
        "step": content.get("step", row["step"] if row else 0),
        "steps": round(row["step"] / epoch * epochs) if row else None,
        "epoch": epoch,
        "epochs": epochs,
        "finished": epoch >= epochs,
        "row": row,
        "scores": read_note(path).get("scores", []),
        **file_facts(path),
    }


def file_facts(path: Path) -> dict:
    """Return a file's size and when it was written."""
    told = path.stat()
    return {"bytes": told.st_size, "written": datetime.fromtimestamp(told.st_mtime).isoformat(" ", "seconds")}


def read_note(path: Path) -> dict:
    """Return the note beside a fine-tuned run: the images it was tuned on, its encoder and its scores; else nothing."""
    note = path.with_suffix(".json")
    if not note.is_file():
        return {}
    try:
        content = json.loads(note.read_text())
        if "data" in content:
            from_plain(DataConfig, content["data"])
        whole = all(set(score) >= SCORE_FIELDS for score in content.get("scores", []))
        require(whole, "scores", f"the fields {sorted(SCORE_FIELDS)}", content.get("scores"))
    except (ValueError, TypeError, AttributeError) as error:
        todo = "Move it away; `advcl-nb finetune` writes it again."
        raise ValueError(f"note: expected a run's note, got {note} ({error}). {todo}") from error
    return content


def write_note(path: Path, changes: Mapping) -> None:
    """Change the note beside a run: all or nothing."""
    write_whole(path.with_suffix(".json"), (json.dumps(read_note(path) | dict(changes), indent=1) + "\n").encode())


def add_scores(path: Path, scores: Iterable[Score], data: DataConfig) -> list[dict]:
    """Put scores on `data` into the note beside a run, each in place of one of the same kind; return the new ones.

    Scores on images of another kind than those that the run was tuned on say so under "data".
    """
    images, note = to_plain(replace(data, train=None, test=None)), read_note(path)
    own = images == {**note.get("data", {}), "train": None, "test": None}
    plain = [score_fields(score) | ({} if own else {"data": images}) for score in scores]
    same = lambda score: json.dumps([score["metric"], score["attack"], score["n"], score.get("data")])  # noqa: E731
    kept = {same(score): score for score in (*note.get("scores", []), *plain)}
    write_note(path, {"scores": list(kept.values())})
    return plain


def all_summaries() -> list[dict]:
    """Sum up every run under runs/ and every card under data/results, the newest last; a broken file says so."""
    found = [_summary_or_reason(path) for path in runs_folder().glob("*.pt")]
    if results_folder().is_dir():
        paths = sorted(results_folder().glob("*.json"))
        for path, card in zip(paths, read_cards(results_folder()), strict=True):
            facts = {"name": path.stem, "path": str(path), "kind": "card", "of": f"{card.method} {card.protocol}"}
            found.append(
                facts | {"scores": [*card.scores], "epochs": card.epochs, "note": card.note} | file_facts(path)
            )
    return sorted(found, key=lambda summary: summary["written"])


def _summary_or_reason(path: Path) -> dict:
    try:
        return run_summary(path)
    except (ValueError, OSError, KeyError):
        return {"name": path.stem, "path": str(path), "kind": "unreadable", "of": "", **file_facts(path)}


def as_table(summaries: Sequence[dict]) -> str:
    """Return summaries as a table of text."""
    rows = [("name", "what", "step", "epoch", "scores", "size", "written")]
    for s in summaries:
        step = f"{s['step']} of {s['steps']}" if s.get("steps") else ""
        epoch = f"{s['epoch']:.3g} of {s['epochs']}" if "epoch" in s else str(s.get("epochs", ""))
        what = f"{s['kind']} {s['of']}".strip()
        size = f"{s['bytes'] / 1e6:.1f} MB"
        rows.append((s["name"], what, step, epoch, short_scores(s.get("scores", [])), size, s["written"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def short_scores(scores: Sequence[dict]) -> str:
    """Return the first scores in a few words."""
    words = [f"{s['attack'].split(',')[0] if s['attack'] else s['metric']} {100 * s['value']:.1f}" for s in scores]
    return ", ".join(words[:2]) + (", ..." if len(words) > 2 else "")


def nearest_preset(path: Path) -> tuple[str, Differences]:
    """Return the preset that a run's settings are nearest to, and in what they differ."""
    content = read_head(path)
    if content["kind"] == "finetune":
        settings = from_plain(FinetuneConfig, content["config"])
        pick = lambda config: config.finetune[settings.protocol]  # noqa: E731
    else:
        pick = lambda config: {name: getattr(config, name) for name in ("data", "model", "pretrain")}  # noqa: E731
        settings = pick(from_plain(Config, content["config"]))
    mine = flat(settings)
    others = {name: pick(preset(name)) for name in PRESETS}
    name = min(others, key=lambda name: sum(value != mine[key] for key, value in flat(others[name]).items()))
    return name, diff(others[name], settings)
