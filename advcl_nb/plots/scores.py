"""Accuracies with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from advcl_nb._check import require, require_is
from advcl_nb.plots._style import CHARACTER, INK, SMALL, WIDTH, Picture, colors_of, figure, legend, percent_axis
from advcl_nb.score import Score

BAR = 0.8  # of the room between two groups, shared by the bars of a group


def show_scores(scores: Mapping[str, Sequence[Score]], *, chance: float | None = 0.1, title: str = "") -> Picture:
    """Show the scores of several runs: a group of bars for each metric and attack, a colour for each run.

    Whiskers are the 95% intervals. `chance` draws the line of guessing, by default a tenth, for ten classes; None
    leaves it out. A run may lack a metric. Raises ValueError for a run without scores or with one metric twice.
    """
    require_is(scores, "scores", Mapping, 'Write {"run": [score]}.')
    require(len(scores) > 0, "scores", "one run or more", scores)
    require(chance is None or 0 <= chance <= 1, "chance", "a fraction in [0, 1], or None", chance)
    for name, row in scores.items():
        whole = isinstance(row, Sequence) and len(row) > 0 and all(isinstance(score, Score) for score in row)
        require(whole, f"scores[{name!r}]", "a list of Score", row, "Write [score], or card.scored for a card.")
        distinct = len({(score.metric, score.attack) for score in row}) == len(row)
        require(distinct, f"scores[{name!r}]", "each metric and attack once", row, "Give each result its own name.")
    groups = list(dict.fromkeys(_label(score) for row in scores.values() for score in row))
    width = 0.55 * len(groups) * (len(scores) + 0.5) + 2 + CHARACTER * max(map(len, scores))
    picture, (axes,) = figure(min(max(width, 5), WIDTH), 3.6)
    colors, digits = colors_of(scores), 1 if len(groups) * len(scores) <= 15 else 0
    for place, (name, row) in enumerate(scores.items()):
        shift = BAR * ((place + 0.5) / len(scores) - 0.5)
        positions = [groups.index(_label(score)) + shift for score in row]
        _draw_bars(axes, positions, row, colors[name], width=BAR / len(scores), digits=digits)
    if chance is not None:
        axes.axhline(chance, color=INK, linestyle="--", linewidth=1)
        words = f"chance {chance:.0%}"
        axes.text(1.005, chance, words, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(False, axis="x")
    percent_axis(axes, "accuracy")
    axes.set_ylim(0, 1.1)  # a number over a full bar has room
    sizes = sorted({score.n for row in scores.values() for score in row})
    axes.set_title(title or "Accuracy, clean and under attack", loc="left")
    axes.set_xlabel(f"whiskers: 95% interval, n = {' and '.join(f'{n:,}' for n in sizes)} images")
    legend(picture, colors)
    return picture


def _label(score: Score) -> str:
    return f"{score.metric}\n{score.attack or 'clean'}"


def _draw_bars(
    axes: Axes, positions: Sequence[float], row: Sequence[Score], color: str, *, width: float, digits: int
) -> None:
    values = [score.value for score in row]
    ends = [(score.value - score.low, score.high - score.value) for score in row]
    whiskers = [[max(end, 0.0) for end in side] for side in zip(*ends, strict=True)]  # -1e-16 at 0% and 100%
    axes.bar(positions, values, 0.9 * width, color=color, yerr=whiskers, ecolor=INK, capsize=2, error_kw={"lw": 1})
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}  # keeps the chance line off a number
    for position, score in zip(positions, row, strict=True):
        words = f"{100 * score.value:.{digits}f}"
        axes.text(position, score.high + 0.02, words, ha="center", va="bottom", fontsize=SMALL, bbox=paper)
