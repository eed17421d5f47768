"""Effects with their intervals, accuracy against robustness, sweeps, and how fast fine-tuning gets there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.ticker import MaxNLocator, PercentFormatter

from advcl_nb._check import require, require_is, require_number
from advcl_nb.cards import Card
from advcl_nb.claims import Effect
from advcl_nb.plots._style import INK, PALETTE, SMALL, WIDTH, Picture, colors_of, figure, legend, percent_axis
from advcl_nb.score import Score

COLORS = {"supported": PALETTE[2], "not supported": PALETTE[3]}  # and grey where nobody can say
MARKERS = "osD^vP*X"


def show_effects(effects: Mapping[str, Effect], *, margin: float = 0.0, title: str = "") -> Picture:
    """Show differences of accuracies in points with their 95% intervals, and what each says of the claim.

    `margin`: the loss, as a fraction, that still counts as none; it is drawn as a line left of zero.
    """
    require_is(effects, "effects", Mapping, 'Write {"name": adv.effect(...)}.')
    whole = len(effects) > 0 and all(isinstance(found, Effect) for found in effects.values())
    require(whole, "effects", "one Effect or more, by name", effects)
    require_number(margin, "margin", "a fraction in [0, 1]", 0, 1)
    picture, (axes,) = figure(WIDTH, 0.9 + 0.42 * len(effects))
    for place, found in enumerate(effects.values()):
        verdict = found.verdict(margin)
        color = COLORS.get(verdict.split(" by one ")[0], PALETTE[7])
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=color, linewidth=2.5)
        axes.plot(100 * found.value, place, "o", color=color, markersize=7)
        seeds = "" if found.pairs == 1 else f", {found.behind}"
        words = f"{100 * found.value:+.1f}  {verdict}{seeds}"
        axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL)
    axes.axvline(0, color=INK, linewidth=1)
    if margin:
        axes.axvline(-100 * margin, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(effects)), list(effects))
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel("difference in points of accuracy, 95% interval")
    axes.set_title(title or "Effects", loc="left")
    return picture


def show_trade_off(scores: Mapping[str, Mapping[str, Sequence[Score]]], *, title: str = "") -> Picture:
    """Show robust against clean accuracy: a colour for each encoder, a marker for each fine-tuning, 95% intervals.

    scores: from encoder to fine-tuning to [clean score, robust score].
    """
    require_is(scores, "scores", Mapping, 'Write {"AdvCL": {"SLF": [standard, robust]}}.')
    kinds = list(dict.fromkeys(kind for row in scores.values() for kind in row))
    require(0 < len(kinds) <= len(MARKERS), "scores", f"one to {len(MARKERS)} fine-tunings", kinds)
    picture, (axes,) = figure(WIDTH, 4.5)
    colors = colors_of(scores)
    for encoder, row in scores.items():
        for kind, pair in row.items():
            require(len(pair) == 2, f"scores[{encoder!r}][{kind!r}]", "a clean and a robust score", pair)
            x, y = pair
            spread = [[[100 * max(s.value - s.low, 0)], [100 * max(s.high - s.value, 0)]] for s in (x, y)]
            style = {"marker": MARKERS[kinds.index(kind)], "color": colors[encoder], "elinewidth": 0.8}
            axes.errorbar(100 * x.value, 100 * y.value, xerr=spread[0], yerr=spread[1], **style)
    handles = [
        axes.plot([], [], marker, color=INK, label=kind)[0] for kind, marker in zip(kinds, MARKERS, strict=False)
    ]
    picture.legend(handles=handles, loc="outside right lower", frameon=False, alignment="left")
    for axis, words in ((axes.xaxis, "clean accuracy"), (axes.yaxis, "accuracy under PGD-20 at 8/255")):
        axis.set_major_locator(MaxNLocator(8, integer=True))
        axis.set_major_formatter("{x:g}%")
        axis.set_label_text(words)
    axes.set_title(title or "Accuracy and robustness", loc="left")
    legend(picture, colors)
    return picture


def show_sweep(sweep: Mapping[str, Mapping[int, Sequence[Score]]], *, title: str = "") -> Picture:
    """Show what a setting does: a panel for each metric, a place for each value, a point for each seed, 95% intervals.

    sweep: from the setting's value to seed to scores, as {"K=2": {0: [standard, robust]}}; all hold the same one or two
    metrics. A dash is the mean of a value's seeds. Each panel has its own range, which need not begin at zero.
    """
    kinds = _kinds_of(sweep)
    seeds = sorted({seed for row in sweep.values() for seed in row})
    colors = colors_of(f"seed {seed}" for seed in seeds)
    picture, panels = figure(WIDTH, 3.4, 1, len(kinds))
    for column, (axes, (metric, attack)) in enumerate(zip(panels, kinds, strict=True)):
        for place, row in enumerate(sweep.values()):
            mean = fmean(scores[column].value for scores in row.values())
            axes.hlines(mean, place - 0.3, place + 0.3, color=INK, linewidth=1)
            for seed, scores in row.items():
                score, x = scores[column], place + 0.2 * (seeds.index(seed) - (len(seeds) - 1) / 2)
                spread = [[max(score.value - score.low, 0)], [max(score.high - score.value, 0)]]
                axes.errorbar(x, score.value, yerr=spread, fmt="o", markersize=4, color=colors[f"seed {seed}"])
        axes.set_xticks(range(len(sweep)), list(sweep))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes.set_title(f"{metric}, {attack or 'clean'}", loc="left")
        sizes = sorted({scores[column].n for row in sweep.values() for scores in row.values()})
        axes.set_xlabel(f"95% intervals, n = {' and '.join(f'{n:,}' for n in sizes)} images")
    panels[0].set_ylabel("accuracy")
    picture.suptitle(title, x=0.01, ha="left", fontsize=SMALL + 3)
    legend(picture, colors)
    return picture


def _kinds_of(sweep: Mapping[str, Mapping[int, Sequence[Score]]]) -> list[tuple[str, str | None]]:
    """The metrics and attacks that every row of a sweep holds."""
    require_is(sweep, "sweep", Mapping, 'Write {"K=2": {0: card.scored}}.')
    require(len(sweep) > 0, "sweep", "one value or more", sweep)
    kinds = None
    for value, row in sweep.items():
        seeded = isinstance(row, Mapping) and len(row) > 0
        require(seeded, f"sweep[{value!r}]", "a dict from seed to [Score]", row, "Write {0: card.scored}.")
        for seed, scores in row.items():
            name, whole = f"sweep[{value!r}][{seed!r}]", isinstance(scores, Sequence) and len(scores) > 0
            whole = whole and all(isinstance(score, Score) for score in scores)
            require(whole, name, "a list of Score", scores, "Write [score].")
            found = [(score.metric, score.attack) for score in scores]
            kinds = kinds or found
            require(found == kinds, name, f"the metrics of the others, {kinds}", found, "Leave out what not all have.")
    require(len(kinds) <= 2, "sweep", "one or two metrics", kinds, "Write card.scored[:2].")
    return kinds


def show_curves(cards: Mapping[str, Card], *, title: str = "") -> Picture:
    """Show SA and RA of results against the seconds of fine-tuning; each card needs a curve."""
    require_is(cards, "cards", Mapping, 'Write {"name": card}.')
    require(len(cards) > 0, "cards", "one card or more", cards)
    picture, panels = figure(WIDTH, 3.2, 1, 2)
    colors = colors_of(cards)
    for name, card in cards.items():
        require_is(card, f"cards[{name!r}]", Card)
        require(len(card.curve) > 0, f"cards[{name!r}]", "a card with a curve", card.note)
        seconds = [point["seconds"] for point in card.curve]
        for axes, metric in zip(panels, ("SA", "RA"), strict=True):
            axes.plot(seconds, [point[metric] for point in card.curve], "o-", color=colors[name], markersize=3)
    sizes = sorted({point["n"] for card in cards.values() for point in card.curve})
    for axes, words in zip(panels, ("clean", "under PGD-20 at 8/255"), strict=True):
        percent_axis(axes, f"accuracy on {' and '.join(map(str, sizes))} images")
        top = max(max(line.get_ydata()) for line in axes.lines)
        axes.set_ylim(0, min(1.2 * max(top, 0.05), 1))
        axes.set_xlabel("seconds of fine-tuning")
        axes.set_title(f"{title}, {words}" if title else words, loc="left")
    legend(picture, colors)
    return picture
