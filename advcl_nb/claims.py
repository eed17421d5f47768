"""Weigh a claim by result cards: how large an effect is, how sure, and what that says."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from advcl_nb._check import require, require_is, require_number
from advcl_nb.cards import Card
from advcl_nb.score import METRICS, Score

T975 = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764}  # Student's t, 97.5% point, for so many seeds


class Effect(NamedTuple):
    """A difference of accuracies, as fractions, its 95% interval, and how many encoders and pairs stand behind it."""

    value: float
    low: float
    high: float
    encoders: int = 1
    pairs: int = 1

    def verdict(self, margin: float = 0.0) -> str:
        """Whether the interval decides that the difference is above -margin: 0 for "helps", more for "no loss".

        What one pair of trainings decides is said to be decided by one seed, what several fine-tunings of one encoder
        decide by one encoder: another may differ by more than the interval, which knows nothing of it.
        """
        require_number(margin, "margin", "a fraction in [0, 1]", 0, 1)
        words = "supported" if self.low > -margin else "not supported"
        if self.low <= -margin <= self.high:
            return "not decidable at this scale"
        if self.encoders > 1:
            return words
        return f"{words} by one {'encoder' if self.pairs > 1 else 'seed'}"

    @property
    def behind(self) -> str:
        """The seeds behind it in words."""
        if self.pairs > self.encoders:
            return f"{self.encoders} encoder{'s' if self.encoders > 1 else ''}, {self.pairs} tunings"
        return f"{self.pairs} seed{'s' if self.pairs > 1 else ''}"


def effect(ours: Mapping[Hashable, Score], others: Mapping[Hashable, Score]) -> Effect:
    """Return by how much accuracies exceed others, on the seeds that both have, with a 95% interval.

    One seed: Newcombe's hybrid score interval for two independent proportions (1998, method 10), which knows of the
    test images alone; the same images behind both make it wide rather than narrow. Several: the mean of the seeds'
    differences, and Newcombe's mean half-widths with Student's t over the seeds added in quadrature, for all seeds
    were scored on the same images. A key that is a pair holds the seeds of pretraining and of fine-tuning; several
    fine-tunings of one encoder are averaged first, and t is over them only where there is no other encoder.
    """
    for name, scores in (("ours", ours), ("others", others)):
        whole = isinstance(scores, Mapping) and all(isinstance(score, Score) for score in scores.values())
        require(whole, name, "a dict from seed to Score", scores, "Take adv.scores_of, or write {0: score}.")
    shared = [seed for seed in ours if seed in others]
    pairs = [(ours[seed], others[seed]) for seed in shared]
    require(len(pairs) > 0, "others", f"some of the seeds {list(ours)}", list(others))
    kinds = {(score.metric, score.attack) for pair in pairs for score in pair}
    require(len(kinds) == 1, "others", f"scores of one kind, as {pairs[0][0]}", kinds, "Compare SA with SA.")
    differences = defaultdict(list)  # by encoder
    for seed, (a, b) in zip(shared, pairs, strict=True):
        differences[seed[0] if isinstance(seed, tuple) else seed].append(a.value - b.value)
    units = [fmean(row) for row in differences.values()] if len(differences) > 1 else next(iter(differences.values()))
    require(len(units) <= max(T975), "others", f"at most {max(T975)} seeds", len(units))
    value, ends = fmean(units), [_newcombe(a, b) for a, b in pairs]
    down, up = (fmean(side) for side in zip(*ends, strict=True))
    spread = T975[len(units)] * stdev(units) / math.sqrt(len(units)) if len(units) > 1 else 0.0
    return Effect(value, value - math.hypot(down, spread), value + math.hypot(up, spread), len(differences), len(pairs))


def _newcombe(a: Score, b: Score) -> tuple[float, float]:
    """How far the difference of two proportions may lie below and above what was seen."""
    return math.hypot(a.value - a.low, b.high - b.value), math.hypot(a.high - a.value, b.value - b.low)


def scores_of(
    cards: Sequence[Card], encoder: str, protocol: str, metric: str, *, data: str = "cifar10",
    transfer_to: str | None = None,
) -> dict[tuple[int, int], Score]:  # fmt: skip
    """Return one metric of a result by its seeds, of pretraining and of fine-tuning.

    encoder: the card's title. metric: SA, RA (PGD-20) or AA. Raises ValueError where no card has it.
    """
    require(metric in METRICS, "metric", f"one of {', '.join(METRICS)}", metric)
    found = {}
    for card in cards:
        require_is(card, "cards", Card, "Take adv.read_cards().")
        if (card.title, card.protocol, card.data, card.transfer_to) == (encoder, protocol, data, transfer_to):
            seeds = card.seed, card.settings.finetune[protocol].seed
            known = {score.metric: score for score in reversed(card.scored)}  # the first of each
            require(seeds not in found, "cards", f"one card for each seed of {encoder}, {protocol}", f"two of {seeds}")
            found |= {seeds: known[metric]} if metric in known else {}
    told = f"{encoder}, {protocol} on {transfer_to or data}"
    require(len(found) > 0, "cards", f"one with {metric} of {told}", None, "adv.read_cards() shows what there is.")
    return dict(sorted(found.items()))


def time_to(card: Card, metric: str, share: float = 0.95) -> tuple[float, float]:
    """Return the epochs and seconds of fine-tuning after which SA or RA stayed at `share` of its end or above.

    From the card's curve, so no finer than its points and its images: at 500 images an accuracy is known to 4 points.
    """
    require_is(card, "card", Card)
    require(metric in ("SA", "RA"), "metric", "SA or RA", metric)
    require_number(share, "share", "a fraction in [0, 1]", 0, 1)
    require(len(card.curve) > 0, "card", "one with a curve", card.note, "tools/reproduce.py draws it while it tunes.")
    goal = share * card.curve[-1][metric]
    last = next((k for k, point in reversed(list(enumerate(card.curve))) if point[metric] < goal), -1)
    return card.curve[last + 1]["epoch"], card.curve[last + 1]["seconds"]
