"""The attacks and curves behind a robustness report: what stays right under each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import BATCH, input_gradient
from advcl_nb._check import require_count
from advcl_nb._masking import Point
from advcl_nb.attacks import L2, Linf, pgd, pgd_path
from advcl_nb.autoattack import CLASSES, attack_batch
from advcl_nb.data import to_float
from advcl_nb.models import BRANCHES, Classifier
from advcl_nb.score import Score

STEPS = 20  # of PGD, wherever the steps are not what is varied
GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of steps and restarts


@dataclass(frozen=True)
class ReportSettings:
    """How thorough a report is; smaller numbers make it faster and weaker.

    steps: of the longest PGD. restarts: of PGD-20. queries: images that Square may try. noises: draws of noise.
    """

    steps: int = 100
    restarts: int = 10
    queries: int = 1000
    noises: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "queries", "noises"):
            require_count(getattr(self, name), name)


class Check(NamedTuple):
    """An attack that is run once: its name, what it leaves right of float images and labels, and its cost.

    The cost is in forwards of an image; a gradient counts as three.
    """

    name: str
    right: Callable[[Tensor, Tensor], Tensor]
    cost: int


class Target(NamedTuple):
    """What is attacked: the model, the images, the numbers of those it gets right, and how."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    right: Tensor
    norm: str
    epsilon: float
    generator: Generator
    bar: tqdm
    heard: list[str]  # pyautoattack's warnings, in our words

    @property
    def limit(self) -> float:
        """The epsilon with which an image can be made any other."""
        return 1.0 if self.norm == "Linf" else self.images[0].numel() ** 0.5

    def threat(self, epsilon: float | None = None, steps: int = STEPS) -> Linf | L2:
        """PGD in steps of a quarter of its epsilon."""
        epsilon = self.epsilon if epsilon is None else epsilon
        return {"Linf": Linf, "L2": L2}[self.norm](epsilon, epsilon / 4, steps)

    def batches(self, name: str, cost: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Numbers, float images and labels of the right images; the bar moves by `cost` for each."""
        self.bar.set_postfix_str(name)
        for index in self.right.split(BATCH):
            yield index, to_float(self.images[index]), self.labels[index]
            self.bar.update(cost * len(index))

    def survivors(self, check: Check) -> Tensor:
        """Which of all images ``(n,)`` are right and stay right."""
        alive = torch.zeros(len(self.labels), dtype=torch.bool, device=self.images.device)
        for index, x, y in self.batches(check.name, check.cost):
            alive[index] = check.right(x, y)
        return alive

    def pgd(self, name: str, threat: Linf | L2, logits: Callable[[Tensor], Tensor] | None = None) -> Check:
        """PGD on the cross-entropy of `logits`, by default the model's own; what counts is the model's answer."""
        of = self.model if logits is None else logits
        attack = lambda x, y: pgd(_loss(of, y), x, threat, generator=self.generator)  # noqa: E731
        return Check(name, lambda x, y: self.model(attack(x, y)).argmax(1) == y, 3 * threat.steps)


def checks(target: Target, classes: int, transfer_from: nn.Module | None, settings: ReportSettings) -> Iterator[Check]:
    """Yield every attack that is run once."""
    model, full = target.model, target.threat()
    yield target.pgd("FGSM", type(full)(full.epsilon, full.epsilon, 1, "none"))
    seed = int(torch.randint(2**31, (1,), generator=target.generator, device=target.generator.device))
    options = {"epsilon": target.epsilon, "norm": target.norm, "seed": seed, "queries": settings.queries}

    def packaged(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        def right(x: Tensor, y: Tensor) -> Tensor:
            alive, flags = attack_batch(model, x, y, name, **options)
            target.heard.extend(flag for flag in flags if flag not in target.heard)
            return alive

        return right

    for name in ("apgd-ce", "apgd-dlr"):
        if classes >= CLASSES.get(name, 2):
            yield Check(name.upper(), packaged(name), 300)
    yield Check(f"Square, {settings.queries} queries", packaged("square"), settings.queries)
    if transfer_from is not None:
        yield target.pgd(f"transfer PGD-{STEPS}", full, transfer_from)
    yield _noise(target, full, settings.noises)
    if isinstance(model, Classifier):
        for branch in BRANCHES:
            if branch != model.branch:
                through = lambda x, branch=branch: model.classify(model.encoder(x, branch))  # noqa: E731
                yield target.pgd(f"PGD-{STEPS} through {branch}", full, through)


def _noise(target: Target, threat: Linf | L2, draws: int) -> Check:
    """Noise of the full norm, drawn often: random corners of the box, or points of the sphere."""

    def right(x: Tensor, y: Tensor) -> Tensor:
        alive = torch.ones_like(y, dtype=torch.bool)
        for _ in range(draws):
            noise = threat.epsilon * threat.direction(threat.noise(x, target.generator))
            alive &= target.model((x + noise).clamp(0, 1)).argmax(1) == y
        return alive

    return Check(f"noise, {draws} draws", right, draws)


def by_restarts(target: Target, restarts: int, survived: dict[str, Tensor]) -> tuple[Point, ...]:
    """PGD-20 from several starts; the first and the worst case of all enter `survived`."""
    points, alive = [], survived["clean"]
    for number in range(1, restarts + 1):
        alive = alive & target.survivors(target.pgd(f"PGD-{STEPS}, restart {number}", target.threat()))
        if number == 1:
            survived[f"PGD-{STEPS}"] = alive
        if number in GRID or number == restarts:
            points.append(Point(number, score(alive, f"PGD-{STEPS}, {number} restarts")))
    if restarts > 1:
        survived[f"PGD-{STEPS}, {restarts} restarts"] = alive
    return tuple(points)


def by_steps(target: Target, steps: int, survived: dict[str, Tensor]) -> tuple[Point, ...]:
    """One long PGD, looked at along its way; its end enters `survived`."""
    stops = [count for count in GRID if count < steps] + [steps]
    alive = {count: torch.zeros_like(survived["clean"]) for count in stops}
    losses = dict.fromkeys(stops, 0.0)
    for index, x, y in target.batches(f"PGD-{steps}", 3 * steps):
        path = pgd_path(_loss(target.model, y), x, target.threat(steps=steps), generator=target.generator)
        for count, (moved, loss) in enumerate(path):
            if count in alive:
                alive[count][index] = target.model(moved).argmax(1) == y
                losses[count] += loss / len(target.right)
    survived.setdefault(f"PGD-{steps}", alive[steps])  # a PGD-20 is there already, the first of the restarts
    return tuple(Point(count, score(alive[count], f"PGD-{count}"), losses[count]) for count in stops)


def by_epsilon(target: Target) -> tuple[Point, ...]:
    """PGD-20 at 0, at half of epsilon, at epsilon and so on doubled, until nothing stays right or the ball is whole."""
    points = [Point(0.0, Score("SA", len(target.right), len(target.labels)))]
    epsilon = target.epsilon / 2
    while points[-1].score.correct > 0 and points[-1].at < target.limit:
        epsilon = min(epsilon, target.limit)
        threat = target.threat(epsilon)
        alive = target.survivors(target.pgd(str(threat), threat))
        points.append(Point(epsilon, score(alive, str(threat))))
        epsilon *= 2
    return tuple(points)


def flat_images(target: Target) -> int:
    """How many of the right images have a gradient of exactly zero, or one with NaN or infinity in it."""
    flat = 0
    for _, x, y in target.batches("gradients", 3):
        gradient = input_gradient(target.model, x, y).flatten(1)
        flat += int(((gradient == 0).all(1) | ~gradient.isfinite().all(1)).sum())
    return flat


def _loss(logits: Callable[[Tensor], Tensor], y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.cross_entropy(logits(x), y, reduction="sum")


def score(alive: Tensor, attack: str) -> Score:
    return Score("RA", int(alive.sum()), len(alive), attack)


def named(name: str, ball: str) -> str:
    """Put the ball behind the attack's name, as scores have it: PGD-20, 8/255, 10 restarts."""
    first, *rest = name.split(", ")
    return ", ".join([first, ball.removeprefix("Linf "), *rest])
