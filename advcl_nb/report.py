"""The evaluation checklist of Carlini et al. 2019 ("On evaluating adversarial robustness") in one call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import BATCH, check_evaluable
from advcl_nb._check import require, require_generator, require_is
from advcl_nb._masking import Outputs, Point, signs_in_attacks, signs_in_curves, signs_in_outputs
from advcl_nb._probes import (
    STEPS,
    ReportSettings,
    Target,
    by_epsilon,
    by_restarts,
    by_steps,
    checks,
    flat_images,
    named,
    score,
)
from advcl_nb.attacks import grey_levels
from advcl_nb.autoattack import BAR, FLAGS, attackable, ball_name
from advcl_nb.data import to_float
from advcl_nb.score import Score

SOME_EPSILONS = 7  # a guess at how many it takes to 0, for the time left


@dataclass(frozen=True, repr=False)
class RobustnessReport:
    """What `robustness_report` found: prints as a table, `show_report` draws it, `make_card` takes it as scores.

    attacks: a score for each attack at epsilon. worst: the worst case of each image over all of them. survived: for
    "clean" and each attack, which images stay right ``(n,)``. by_epsilon, by_steps, by_restarts: PGD along a curve.
    signs: what speaks for gradient masking, in words; empty where nothing does.
    """

    ball: str
    clean: Score
    attacks: Mapping[str, Score]
    worst: Score
    by_epsilon: tuple[Point, ...]
    by_steps: tuple[Point, ...]
    by_restarts: tuple[Point, ...]
    signs: tuple[str, ...]
    survived: Mapping[str, Tensor] = field(compare=False)

    @property
    def scores(self) -> list[Score]:
        """Clean accuracy, each attack and their worst case, as a card holds them."""
        return [self.clean, *self.attacks.values(), self.worst]

    def __repr__(self) -> str:
        percent = lambda score: f"{100 * score.value:.1f}"  # noqa: E731
        width = max(map(len, self.attacks)) + 2
        rows = [f"  {name:{width}}{percent(score):>6}" for name, score in self.attacks.items()]
        curves = {"epsilon": self.by_epsilon, "steps": self.by_steps, "restarts": self.by_restarts}
        written = {"epsilon": grey_levels if self.ball.startswith("Linf") else "{:.3g}".format}
        lines = [
            f"  against {name}: "
            + ", ".join(f"{written.get(name, '{:g}'.format)(point.at)}: {percent(point.score)}" for point in points)
            for name, points in curves.items()
        ]
        loss = ", ".join(f"{point.at:.3g}: {point.loss:.3g}" for point in self.by_steps)
        signs = [f"  - {sign}" for sign in self.signs] or ["  none found"]
        head = f"Robustness report, {self.ball}, {self.clean.n} images, {percent(self.clean)}% right without attack"
        return "\n".join([
            head, "still right (%) under", *rows, f"  {self.worst}", "PGD's accuracy (%), other starts", *lines,
            "PGD's loss", f"  against steps: {loss}", "signs of gradient masking", *signs,
        ])  # fmt: skip


def robustness_report(
    model: nn.Module, images: Tensor, labels: Tensor, *,
    epsilon: float, generator: Generator, transfer_from: nn.Module | None = None,
    norm: str = "Linf", settings: ReportSettings = ReportSettings(),  # noqa: B008 (frozen)
) -> RobustnessReport:  # fmt: skip
    """Evaluate a classifier of images in [0, 1] as Carlini et al. 2019 ask, and name every sign of gradient masking.

    Accuracy against epsilon (doubled until it is 0), steps (with the loss) and restarts; FGSM, PGD, APGD on the
    cross-entropy and on DLR; white-box against transfer (from the classifier `transfer_from`), Square, which sees no
    gradient, and noise of the same norm; PGD through the other BN branches of a `Classifier`; the worst case of each
    image over all of these. An image that is wrong without attack counts as wrong under each. Not in it, though the
    list asks for them: an attack on the label alone, other threats than this ball, and an attack made for your model.
    Under L2, FGSM is one step along the normalised gradient.

    Eval mode, float32; the models and the global random generator come back as they were. Fewer images or smaller
    `settings` make it faster. Raises ValueError for images without labels and for an impossible epsilon.
    """
    require_generator(generator)
    require_is(settings, "settings", ReportSettings)
    ball = ball_name(norm, epsilon)
    models = [attacked for attacked in (model, transfer_from) if attacked is not None]
    for attacked in models:
        check_evaluable(attacked, images, labels)
    with ExitStack() as stack:
        for attacked in models:
            stack.enter_context(attackable(attacked))
        stack.enter_context(torch.no_grad())
        bar = stack.enter_context(tqdm(desc="report", leave=False, delay=2, bar_format=BAR))
        first, second = (torch.cat([model(to_float(x)) for x in images.split(BATCH)]) for _ in range(2))
        survived = {"clean": first.argmax(1) == labels}
        right = survived["clean"].nonzero().flatten()
        require(len(right) > 0, "model", "one that is right on some of the images", 0, "There is nothing to attack.")
        target = Target(model, images, labels, right, norm, epsilon, generator, bar, heard=[])
        once = list(checks(target, first.shape[1], transfer_from, settings))
        curves = 3 * (settings.steps + (settings.restarts + SOME_EPSILONS) * STEPS)
        bar.total = len(right) * (curves + sum(check.cost for check in once))
        restarts = by_restarts(target, settings.restarts, survived)
        steps = by_steps(target, settings.steps, survived)
        survived |= {check.name: target.survivors(check) for check in once}
        epsilons = by_epsilon(target)
        outputs = Outputs(first, second, flat_images(target))
        bar.update(max(bar.total - bar.n, 0))
    signs = (*signs_in_attacks(survived), *signs_in_curves(epsilons, steps, restarts))
    signs += (*signs_in_outputs(outputs, len(labels)), *(flag for flag in target.heard if flag == FLAGS["dynamic"]))
    attacks = {name: score(alive, named(name, ball)) for name, alive in survived.items() if name != "clean"}
    worst = score(torch.stack(list(survived.values())).all(0), named("worst case", ball))
    survived = {name: alive.cpu() for name, alive in survived.items()}
    clean = Score("SA", len(right), len(labels))
    return RobustnessReport(ball, clean, attacks, worst, epsilons, steps, restarts, signs, survived)
