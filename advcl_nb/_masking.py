"""Signs of gradient masking in what attacks found, as Carlini et al. 2019 and Athalye et al. 2018 list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advcl_nb.score import Score

FEW, FEWEST = 0.01, 3  # of the images, and images: what is less than either is chance
GAP = 0.02  # of the accuracy: what a converged attack may still move
LOSS_GAP = 0.10  # between PGD and APGD, whose margin loss does not saturate
SAME = 1e-4  # relative difference of two passes, as pyautoattack allows


class Point(NamedTuple):
    """A score at one value of what is varied: epsilon, steps or restarts; for steps also the mean loss reached."""

    at: float
    score: Score
    loss: float | None = None


class Outputs(NamedTuple):
    """What the model's outputs look like: two passes over the same images, and images without any gradient."""

    first: Tensor
    second: Tensor
    flat: int


def signs_in_attacks(survived: Mapping[str, Tensor]) -> Iterator[str]:
    """Compare attacks image by image; `survived` is keyed by their names, with "clean" among them."""
    white = {name: right for name, right in survived.items() if is_white_box(name)}
    standing = torch.stack(list(white.values())).all(0)
    for name, right in survived.items():
        only = int((standing & ~right).sum())
        if name not in white and name != "clean" and _many(only, len(standing)):
            yield f"{name} breaks {only} images that no white-box attack breaks: their gradients mislead"
    accuracy = {name: float(right.float().mean()) for name, right in survived.items()}
    if _gap(accuracy["PGD-20"] - accuracy["FGSM"], len(standing)):
        yield f"FGSM is stronger than PGD-20 ({_percent(accuracy['FGSM'])} against {_percent(accuracy['PGD-20'])})"
    apgd = [value for name, value in accuracy.items() if name.startswith("APGD")]
    pgd = min(value for name, value in accuracy.items() if name.startswith("PGD") and name in white)
    if _gap(pgd - min(apgd), len(standing), LOSS_GAP):
        yield (
            f"PGD leaves {_percent(pgd)} right and APGD {_percent(min(apgd))}: "
            "PGD's loss or step does not suit this model"
        )


def signs_in_curves(epsilons: Sequence[Point], steps: Sequence[Point], restarts: Sequence[Point]) -> Iterator[str]:
    """Ask of the curves what a working attack must do: reach 0, converge, and gain nothing from more restarts."""
    last = epsilons[-1]
    if _many(last.score.correct, last.score.n):
        yield f"{_percent(last.score.value)} survive an epsilon of {last.at:.3g}, where an image can be made any other"
    pairs = zip(epsilons, epsilons[1:], strict=False)
    rises = [after for before, after in pairs if _gap(after.score.value - before.score.value, last.score.n)]
    if rises:
        yield f"accuracy rises with epsilon, at {', '.join(f'{point.at:.3g}' for point in rises)}"
    if len(steps) > 1 and not steps[-1].loss > steps[0].loss:  # a NaN does not rise either
        yield f"the loss does not rise with more steps ({steps[0].loss:.3g} to {steps[-1].loss:.3g})"
    for name, points, enough in (("steps", steps, 50), ("restarts", restarts, 10)):
        before = [points[0], *(point for point in points if 2 * point.at <= points[-1].at)][-1]
        if points[-1].at >= enough and _gap(before.score.value - points[-1].score.value, last.score.n):
            yield f"accuracy still falls from {before.at:g} to {points[-1].at:g} {name}: PGD has not converged"


def signs_in_outputs(outputs: Outputs, n: int) -> Iterator[str]:
    """Look for outputs that hide the gradient: random ones, probabilities, flat ones."""
    first, second = outputs.first, outputs.second
    if not first.isfinite().all():
        yield "some outputs are not finite: no gradient leads through them"
    if ((first - second).norm(dim=1) > SAME * first.norm(dim=1)).any():
        yield "the same images give other outputs the second time: the attacks follow noise"
    if first.min() >= 0 and ((first.sum(1) - 1).abs() < SAME).all():
        yield "the outputs are probabilities, not logits: their gradient vanishes where the model is sure"
    if _many(outputs.flat, n):
        yield f"{outputs.flat} images have a gradient of exactly zero, or none: flat, quantised or saturated outputs"


def is_white_box(name: str) -> bool:
    """Whether an attack of the report follows the gradient of the model as it is used."""
    return name.startswith(("FGSM", "PGD", "APGD")) and "through" not in name


def _many(count: int, n: int) -> bool:
    return count >= max(FEWEST, FEW * n)


def _gap(difference: float, n: int, least: float = GAP) -> bool:
    return difference > least and round(difference * n) >= FEWEST


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
