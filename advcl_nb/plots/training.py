"""Losses and learning rates against epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from advcl_nb._check import require, require_is
from advcl_nb.config import FinetuneConfig, PretrainConfig, learning_rate
from advcl_nb.plots._style import WIDTH, Picture, colors_of, figure, legend, percent_axis

Rows = Sequence[Mapping[str, float | int]]
Rates = PretrainConfig | FinetuneConfig
BESIDE = {"epoch", "step", "learning_rate", "images_per_second", "seconds", "seconds_left"}  # in a row, but no loss
TITLES = {
    "loss": "Loss",
    "contrast": "Contrastive part",
    "pseudo": "Pseudo-label part",
    "ce": "Cross-entropy part",
    "divergence": "Divergence part",
    "adversarial_to_view": "Adversarial to view",
    "contrast_clean": "Contrast, clean pair",
    "contrast_adv": "Contrast, adversarial pair",
    "accuracy": "Accuracy on trained batches",
}


def show_history(histories: Mapping[str, Rows] | Rows, *, parts: Sequence[str] | None = None) -> Picture:
    """Show the loss and its parts against the epoch: a panel for each, a line for each run.

    `histories` maps a run's name to its rows, as `adv.pretrain_epochs` and `adv.finetune_epochs` yield them; the rows
    of one run do too. `parts` chooses the panels, by default the loss and every part that adds to it. Raises
    ValueError for a run without rows or a part that no row has.
    """
    named = isinstance(histories, Mapping)
    runs = dict(histories) if named else {"run": histories}
    require(len(runs) > 0, "histories", "one run or more", histories)
    for name, rows in runs.items():
        require_is(rows, f"histories[{name!r}]", Sequence, "Of a state write state.history.")
        require(len(rows) > 0, f"histories[{name!r}]", "one row or more", rows, "Train for an epoch first.")
    all_rows = [row for rows in runs.values() for row in rows]
    present = list(dict.fromkeys(part for row in all_rows for part in row if part not in BESIDE))
    shown = list(parts or [part for part in present if part == "loss" or not _is_whole_loss(part, runs)])
    for part in shown:
        require(part in present, "parts", f"some of {', '.join(present)}", part)
    columns = min(len(shown), 3)
    lines = math.ceil(len(shown) / columns)
    picture, panels = figure(min(3.2 * columns + 1.8, WIDTH), 2.8 * lines, lines, columns)
    for axes in panels[len(shown) :]:
        axes.remove()
    colors = colors_of(runs)
    for part, axes in zip(shown, panels, strict=False):
        _draw_part(axes, part, _with(part, runs), colors)
    if named:
        legend(picture, colors)
    return picture


def _draw_part(axes: Axes, part: str, runs: Mapping[str, Rows], colors: Mapping[str, str]) -> None:
    for name, rows in runs.items():
        marker = "o" if len(rows) <= 30 else ""
        epochs, values = zip(*((row["epoch"], row[part]) for row in rows if part in row), strict=True)
        axes.plot(epochs, values, marker=marker, linestyle="-", markersize=3, color=colors[name])
    axes.set_title(TITLES.get(part, part), loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if part == "accuracy":
        percent_axis(axes, "images right")


def _is_whole_loss(part: str, runs: Mapping[str, Rows]) -> bool:
    """Whether the part is all of the loss wherever it occurs, as SimCLR's contrastive part is."""
    return all(row[part] == row.get("loss") for rows in _with(part, runs).values() for row in rows if part in row)


def _with(part: str, runs: Mapping[str, Rows]) -> dict[str, Rows]:
    return {name: rows for name, rows in runs.items() if any(part in row for row in rows)}


def show_lr(configs: Rates | Mapping[str, Rates], batches: int) -> Picture:
    """Show the learning rate of every step against the epoch, for a pretraining or fine-tuning config or several.

    `configs` is one config or a mapping from name to config, such as ``preset().finetune``; `batches` is the number
    of steps in an epoch. The values are those of `adv.learning_rate`.
    """
    named = isinstance(configs, Mapping)
    runs = dict(configs) if named else {"run": configs}
    todo = "Pass preset().pretrain or preset().finetune."
    require(len(runs) > 0 and all(isinstance(c, Rates) for c in runs.values()), "configs", "a config", configs, todo)
    require(batches >= 1, "batches", "steps in an epoch, one or more", batches)
    picture, (axes,) = figure(6.5, 2.8)
    colors = colors_of(runs)
    for place, (name, config) in enumerate(runs.items()):
        steps = range(config.epochs * batches)
        rates = [learning_rate(config, *divmod(step, batches), batches) for step in steps]
        width = 1.5 + 1.5 * (len(runs) - 1 - place)  # a schedule equal to an earlier one leaves it to be seen
        axes.plot([step / batches for step in steps], rates, color=colors[name], linewidth=width)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    axes.set_title(f"Learning rate, {batches} steps an epoch", loc="left")
    if named:
        legend(picture, colors)
    return picture
