"""A robustness report as one figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes

from advcl_nb._check import require_is
from advcl_nb._masking import Point, is_white_box
from advcl_nb.plots._style import CHARACTER, INK, PALETTE, RED, SMALL, STYLE, WIDTH, Picture, figure, percent_axis
from advcl_nb.report import RobustnessReport
from advcl_nb.score import Score

WHITE, OTHER = PALETTE[0], PALETTE[1]  # attacks on the model's own gradient, and the others


def show_report(report: RobustnessReport, *, name: str = "") -> Picture:
    """Draw a `RobustnessReport`: what each attack leaves right, and PGD against epsilon, steps and restarts.

    Bands and whiskers are 95% intervals. Blue attacks follow the model's own gradient and must be the stronger ones;
    the title says what was found, and each sign of gradient masking stands under the curves.
    """
    require_is(report, "report", RobustnessReport, "Make it with adv.robustness_report.")
    picture, panels = figure(WIDTH, 6.2, 2, 3)
    by_epsilon, by_steps, blank, by_loss, by_restarts, _ = panels
    grid = blank.get_gridspec()
    for axes in (blank, panels[-1]):
        axes.remove()
    with rc_context(STYLE):
        bars = picture.add_subplot(grid[:, 2])
    linf = report.ball.startswith("Linf")
    _draw_curve(by_epsilon, [p._replace(at=255 * p.at if linf else p.at) for p in report.by_epsilon], "must reach 0")
    by_epsilon.set_xlabel("epsilon (grey levels of 255)" if linf else "epsilon (L2 norm)")
    _draw_curve(by_steps, report.by_steps, "must level off")
    _draw_curve(by_restarts, report.by_restarts, "must level off")
    places, losses = [point.at for point in report.by_steps], [point.loss for point in report.by_steps]
    by_loss.plot(_evenly(by_loss, places), losses, "o-", color=WHITE, markersize=4)
    by_loss.set_title("must rise, then level off", loc="left")
    by_loss.set_ylabel("mean cross-entropy (nats)")
    for axes, words in ((by_steps, "steps"), (by_loss, "steps"), (by_restarts, "restarts")):
        axes.set_xlabel(f"{words} of PGD")
    _draw_attacks(bars, report)
    count = len(report.signs)
    found = f"{count} sign{'s' * (count > 1)} of gradient masking" if count else "no sign of gradient masking"
    whole = f"{name}: " * bool(name) + f"{found}; worst case {_percent(report.worst)} at {report.ball}"
    picture.suptitle(whole, x=0.01, ha="left", fontsize=SMALL + 3, color=RED if count else INK)
    signs = "\n".join(textwrap.fill(f"- {sign}", int(WIDTH / CHARACTER)) for sign in report.signs)
    picture.supxlabel(signs, x=0.01, ha="left", fontsize=SMALL, color=RED)
    return picture


def _draw_curve(axes: Axes, points: Sequence[Point], title: str) -> None:
    scores = [point.score for point in points]
    places = _evenly(axes, [point.at for point in points])
    axes.plot(places, [score.value for score in scores], "o-", color=WHITE, markersize=4)
    axes.fill_between(places, [s.low for s in scores], [s.high for s in scores], color=WHITE, alpha=0.2, linewidth=0)
    axes.set_title(title, loc="left")
    percent_axis(axes, "accuracy under PGD")


def _evenly(axes: Axes, values: Sequence[float]) -> range:
    """Write the values under the axis at even distances: each is about twice the one before."""
    axes.set_xticks(range(len(values)), [f"{value:.3g}" for value in values])
    return range(len(values))


def _draw_attacks(axes: Axes, report: RobustnessReport) -> None:
    """Horizontal bars: no attack, each attack from the strongest down, and their worst case."""
    rows = {"no attack": report.clean, **report.attacks}
    rows = {"worst case": report.worst} | dict(sorted(rows.items(), key=lambda row: row[1].value))
    colors = [INK if n in ("worst case", "no attack") else WHITE if is_white_box(n) else OTHER for n in rows]
    values = [score.value for score in rows.values()]
    whiskers = [[max(s.value - s.low, 0.0) for s in rows.values()], [max(s.high - s.value, 0.0) for s in rows.values()]]
    axes.barh(range(len(rows)), values, color=colors, xerr=whiskers, ecolor="#888888", capsize=2, error_kw={"lw": 1})
    for place, score in enumerate(rows.values()):
        axes.text(score.high + 0.02, place, f"{100 * score.value:.1f}", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(rows)), [name.replace(", ", ",\n").replace(" through", "\nthrough") for name in rows])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, 1.18)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlabel(f"accuracy, n = {report.clean.n:,} images")
    axes.set_title("blue: white-box, orange: not", loc="left")


def _percent(score: Score) -> str:
    return f"{100 * score.value:.1f}%"
