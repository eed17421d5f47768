"""AutoAttack (Croce and Hein 2020): accuracy under four attacks without parameters to tune, run by `pyautoattack`."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import BATCH, input_gradient, over_batches
from advcl_nb._check import require, require_count, require_number, require_one_of
from advcl_nb._file import write_whole
from advcl_nb.attacks import L2, Linf, grey_levels
from advcl_nb.data import to_float
from advcl_nb.models import evaluating
from advcl_nb.score import Score

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
COSTS = {"apgd-ce": 3, "apgd-dlr": 3, "apgd-t": 27, "fab": 40, "fab-t": 40, "square": 50}  # hundreds of forwards
CLASSES = {"apgd-t": 4, "apgd-dlr": 3}  # the fewest that the attack's loss is defined for
TARGETS = 9  # classes that the targeted attacks aim at, as published
FLAGS = {  # a word of pyautoattack's own warning, and ours
    "randomized": "randomised output: the same images give other logits each time, so the attacks see noise",
    "probability": "probabilities instead of logits: their gradient vanishes where the model is sure",
    "zero gradient": "vanishing gradients: some images have none to follow, which blinds APGD and FAB",
    "dynamic": "optimisation inside the forward pass: attacks on the final logits may miss it",
}
NOT_FINITE = "gradients that are not finite: APGD and FAB cannot follow them"
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
SQUARE_FLAG = 0.002  # more than 0.2 points lost to Square after the white-box attacks, as pyautoattack has it


@dataclass(frozen=True, repr=False)
class AutoAttackScore(Score):
    """A `Score` with the number of images still right after each attack, and what speaks against trusting it."""

    after: Mapping[str, int] = field(default_factory=dict, hash=False)
    flags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        steps = ", ".join(f"{name} {100 * right / self.n:.1f}%" for name, right in self.after.items())
        return "\n".join([super().__repr__(), f"  right after {steps}", *(f"  flag: {flag}" for flag in self.flags)])


def autoattack_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *,
    epsilon: float, norm: str = "Linf", seed: int,
    attacks: Sequence[str] = STANDARD, state_path: str | Path | None = None,
) -> AutoAttackScore:  # fmt: skip
    """Return the accuracy (AA) under the standard AutoAttack, each attack on what the ones before left right.

    Images as in `standard_accuracy`; norm "Linf" or "L2"; eval mode and float32, and the model, its parameters'
    gradients and the global random generator come back as they were. The result equals `pyautoattack`'s for this
    seed and batches of 250; with fewer than ten classes the targeted attacks aim at all the others. `state_path`
    names a file that is written after each batch of an attack, so that the same call goes on where it was broken off.

    Other `attacks` (of "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square") give an RA named after them: with
    two or three classes, for which the standard set has no loss, take ("apgd-ce", "fab-t", "square"). What
    speaks against trusting the number is raised as a warning and stands in `flags`. Raises ValueError for too few
    classes and for a state file of another evaluation.
    """
    ball = ball_name(norm, epsilon)
    require_count(seed, "seed", 0)
    require(not isinstance(attacks, str), "attacks", "a tuple of names", attacks, f"Write ({attacks!r},).")
    require(len(set(attacks)) == len(attacks) > 0, "attacks", f"some of {', '.join(COSTS)}, each once", attacks)
    for name in attacks:
        require_one_of(name, "attacks", tuple(COSTS))
    logits = over_batches(model, images, labels, "SA", lambda x, y: model(x))
    check_classes(logits.shape[1], attacks)
    settings, said = {"epsilon": float(epsilon), "norm": norm, "seed": seed}, logits.argmax(1)
    run = _identity(model, images, labels, said, [*settings.values(), *attacks]) if state_path else ""
    progress = _Progress.open(run, (said == labels).nonzero().flatten().tolist(), state_path)
    fresh = not progress.after and NOT_FINITE not in progress.flags
    if fresh and not over_batches(model, images, labels, "gradients", partial(_finite_gradients, model)).all():
        progress.flags.append(NOT_FINITE)
    for _ in _cascade(progress, model, images, labels, attacks=attacks, settings=settings):
        progress.write(state_path)
    flags = [*progress.flags, *_square_flag(progress.after, len(images))]
    for flag in flags:
        warnings.warn(f"AutoAttack: {flag}", RuntimeWarning, stacklevel=2)
    standard = tuple(attacks) == STANDARD
    label = f"{'AutoAttack' if standard else ' + '.join(attacks)}, {ball}"
    return AutoAttackScore(
        "AA" if standard else "RA", len(progress.standing), len(images), label, progress.after, tuple(flags)
    )


@dataclass
class _Progress:
    """What a state file holds: the images still right, those that the attack at hand has yet to try, and the rest."""

    run: str
    standing: list[int]
    queue: list[int]
    after: dict[str, int] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, run: str, right: list[int], path: str | Path | None) -> _Progress:
        here = path is None or (Path(path).absolute().parent.is_dir() and not Path(path).is_dir())
        require(here, "state_path", "a file in a folder that exists", str(path), "Make the folder first.")
        if path is None or not Path(path).is_file():
            return cls(run, right, list(right))
        try:
            kept = cls(**json.loads(Path(path).read_text()))
        except (ValueError, TypeError) as error:
            message = f"state_path: expected a state of autoattack_accuracy, got {path}: {error}. Name another file."
            raise ValueError(message) from error
        todo = "Its model, images, labels or settings differ: name another file."
        require(kept.run == run, "state_path", "the state of this evaluation", str(path), todo)
        return kept

    def write(self, path: str | Path | None) -> None:
        if path is not None:
            write_whole(Path(path), json.dumps(asdict(self)).encode())


def _cascade(
    progress: _Progress, model: nn.Module, images: Tensor, labels: Tensor, *, attacks: Sequence[str], settings: dict
) -> Iterator[None]:
    """Run the attacks that are left, a batch at a time, and yield after each; `progress` moves along."""
    left = attacks[len(progress.after) :]
    total = len(progress.queue) * COSTS[left[0]] if left else 0
    total += len(progress.standing) * sum(COSTS[name] for name in left[1:])
    with tqdm(total=total, desc="AutoAttack", leave=False, delay=2, bar_format=BAR) as bar, attackable(model):
        for place, name in enumerate(left):
            while progress.queue:
                batch = torch.tensor(progress.queue[:BATCH], device=images.device)
                right, flags = attack_batch(model, to_float(images[batch]), labels[batch], name, **settings)
                fallen = set(batch[~right].tolist())
                progress.standing = [index for index in progress.standing if index not in fallen]
                progress.queue = progress.queue[BATCH:]
                progress.flags = list(dict.fromkeys([*progress.flags, *flags]))
                bar.total -= len(fallen) * sum(COSTS[name] for name in left[place + 1 :])
                bar.set_postfix_str(f"{name}: {len(progress.standing)} of {len(images)} right")
                bar.update(len(batch) * COSTS[name])
                yield
            progress.after[name] = len(progress.standing)
            progress.queue = list(progress.standing)
            yield


def attack_batch(
    model: nn.Module, x: Tensor, y: Tensor, name: str, *, epsilon: float, norm: str, seed: int, queries: int = 5000
) -> tuple[Tensor, list[str]]:
    """Return which images of a batch stay right under one attack, and pyautoattack's warnings in our words.

    To be called inside `attackable`. `queries` is the number of images that Square may try.
    """
    from pyautoattack import AutoAttack, checks

    heard, logger, trace = _Heard(), logging.Logger("advcl_nb", logging.WARNING), sys.gettrace()
    logger.addHandler(heard)
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it would count on from one model to the next
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):  # it seeds every device
            attack = AutoAttack(model, norm=norm, eps=epsilon, seed=seed, device=x.device)
            attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = logger
            attack.attacks_to_run, attack.square.n_queries = [name], queries
            classes = model(x[:1]).shape[1]
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(TARGETS, classes - 1)
            _, said = attack.run_standard_evaluation(x, y, batch_size=len(x))
    finally:
        sys.settrace(trace)  # one of its checks takes the tracer away, and with it a debugger
    return said == y, heard.flags


class _Heard(logging.Handler):
    """Collect warnings instead of printing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.flags: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.flags.append(next((words for key, words in FLAGS.items() if key in text), text))


@contextmanager
def attackable(model: nn.Module) -> Iterator[None]:
    """Eval mode, float32, and no gradient for any parameter for the length of a ``with``; then as it was."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = next((parameter.device.type for parameter, _ in flags), "cpu")
    with evaluating(model), torch.autocast(device, enabled=False):
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def ball_name(norm: str, epsilon: float) -> str:
    """Name a norm and a radius as scores do, "Linf 8/255" or "L2 0.5"; raises ValueError for what is no ball."""
    require_one_of(norm, "norm", ("Linf", "L2"))
    require_number(epsilon, "epsilon", "a radius > 0", sys.float_info.min)
    {"Linf": Linf, "L2": L2}[norm](epsilon, 0.0, 0)
    return f"Linf {grey_levels(epsilon)}" if norm == "Linf" else f"L2 {epsilon:g}"


def check_classes(classes: int, attacks: Sequence[str]) -> None:
    """Raise ValueError where an attack's loss is not defined for so few classes."""
    for name in attacks:
        needed = CLASSES.get(name, 2)
        todo = 'Leave it out: attacks=("apgd-ce", "fab-t", "square").' if needed > 2 else ""
        require(classes >= needed, "model", f"logits of {needed} classes or more for {name}", classes, todo)


def _square_flag(after: Mapping[str, int], n: int) -> list[str]:
    before = [right for name, right in after.items() if name != "square"]
    lost = (min(before) - after["square"]) / n if before and "square" in after else 0.0
    words = "Square, which sees no gradient, beats the white-box attacks by"
    return [f"{words} {100 * lost:.1f} points: their gradients are masked"] if lost > SQUARE_FLAG else []


def _finite_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which of a batch's images have a gradient of the cross-entropy without NaN and infinity."""
    return input_gradient(model, x, y).isfinite().flatten(1).all(1)


def _identity(model: nn.Module, images: Tensor, labels: Tensor, said: Tensor, settings: list) -> str:
    """Hash what decides the result, so that a state file is never continued with something else."""
    branches = [getattr(module, "branch", None) for module in model.modules()]
    weights = model.state_dict()
    plain = [settings, str(model), branches, list(weights), images.dtype, images.shape, BATCH]
    digest = hashlib.sha256(repr(plain).encode())
    for tensor in (images, labels, said, *weights.values()):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
