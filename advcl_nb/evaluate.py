"""Accuracy on clean and on attacked images, as a score that names its attack and its uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import over_batches
from advcl_nb._check import require, require_count, require_generator, require_is
from advcl_nb.attacks import L2, Linf, pgd
from advcl_nb.corrupted import Corrupted
from advcl_nb.score import Score


def standard_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> Score:
    """Return the accuracy (SA) of `model`, which maps images in [0, 1] to logits, on uint8 or float images.

    In eval mode and float32; the model comes back as it was.
    """
    right = over_batches(model, images, labels, "SA", lambda x, y: model(x).argmax(1) == y)
    return Score("SA", int(right.sum()), len(right))


def robust_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Linf | L2, *, generator: Generator, restarts: int = 1
) -> Score:
    """Return the accuracy (RA) under PGD on the cross-entropy; an image counts where every restart leaves it right.

    As the field counts, an image that is wrong without attack and right under it counts as right. `threat` is for
    example ``Linf(8 / 255, 2 / 255, 20)``, the field's PGD-20. In eval mode and float32; the model comes back as it
    was, its parameters without a gradient.
    """
    require_count(restarts, "restarts")
    require_generator(generator)
    todo = "Write adv.Linf(8 / 255, 2 / 255, 20)."
    require(isinstance(threat, (Linf, L2)), "threat", "a Linf or L2", threat, todo)

    def survives(x: Tensor, y: Tensor) -> Tensor:
        right = torch.ones_like(y, dtype=torch.bool)
        for _ in range(restarts):
            loss = lambda x: F.cross_entropy(model(x), y, reduction="sum")  # noqa: E731
            right &= model(pgd(loss, x, threat, generator=generator)).argmax(1) == y
        return right

    right = over_batches(model, images, labels, str(threat), survives)
    return Score("RA", int(right.sum()), len(right), str(threat) + (f", {restarts} restarts" if restarts > 1 else ""))


@dataclass(frozen=True, repr=False)
class CorruptionScores:
    """The accuracies (CA) under each corruption and severity of one source, printed as a table.

    source: "own" for the library's own corruptions, else the published set's name. by_set: from (name, severity) to
    the `Score`.
    """

    source: str
    by_set: Mapping[tuple[str, int], Score]

    @property
    def scores(self) -> list[Score]:
        """The scores in the order in which they were taken."""
        return list(self.by_set.values())

    @property
    def mean(self) -> float:
        """The plain mean over all sets, as the field reports for CIFAR-10-C; not ImageNet-C's mCE."""
        return fmean(score.value for score in self.scores)

    @property
    def by_name(self) -> dict[str, float]:
        """The mean over the severities of each corruption."""
        return {name: fmean(self._values(name, None)) for name in dict.fromkeys(name for name, _ in self.by_set)}

    def __repr__(self) -> str:
        severities = sorted({severity for _, severity in self.by_set})
        counts = " or ".join(map(str, sorted({score.n for score in self.scores})))
        wide = max(map(len, (*self.by_name, "mean")))
        lines = [f"CA in %, {_source(self.source)}, {counts} images a set"]
        lines.append(" " * wide + "".join(f"{column:>7}" for column in (*severities, "mean")))
        for name in (*self.by_name, None):
            cells = [self._values(name, severity) for severity in (*severities, None)]
            numbers = (f"{100 * fmean(cell):.1f}" if cell else "-" for cell in cells)
            lines.append(f"{name or 'mean':<{wide}}" + "".join(f"{number:>7}" for number in numbers))
        return "\n".join(lines)

    def _values(self, name: str | None, severity: int | None) -> list[float]:
        """Return the accuracies under a corruption and at a severity; None stands for all of them."""
        wanted = [key for key in self.by_set if name in (None, key[0]) and severity in (None, key[1])]
        return [self.by_set[key].value for key in wanted]


def corruption_accuracy(model: nn.Module, sets: Iterable[Corrupted]) -> CorruptionScores:
    """Return the accuracy (CA) of `model` on each set of `adv.own_corruptions` or `adv.load_corruptions`.

    In eval mode and float32; the model comes back as it was. Hendrycks and Dietterich 2019. Raises ValueError when
    there is no set, one comes twice, or they come from different sources, for one mean over both would mean nothing.
    """
    todo = "Pass adv.own_corruptions(...) or adv.load_corruptions(...)."
    require_is(sets, "sets", Iterable, todo)
    by_set: dict[tuple[str, int], Score] = {}
    sources = set()
    for item in tqdm(sets, desc="CA", unit="set", leave=False, delay=2):
        require(isinstance(item, Corrupted), "sets", "Corrupted sets", type(item), todo)
        sources.add(item.source)
        require(len(sources) == 1, "sets", "sets of one source", sorted(sources), "Score each source by itself.")
        key = (item.name, item.severity)
        require(key not in by_set, "sets", "each corruption and severity once", key)
        right = over_batches(model, item.images, item.labels, "CA", lambda x, y: model(x).argmax(1) == y)
        attack = f"{item.name} {item.severity}, {_source(item.source)}"
        by_set[key] = Score("CA", int(right.sum()), len(right), attack)
    require(len(by_set) > 0, "sets", "one set or more", [], "A generator serves once: make it anew for each model.")
    return CorruptionScores(*sources, by_set)


def _source(source: str) -> str:
    return "own corruptions" if source == "own" else source
