"""Training that is killed at random moments: three times here, many times by ``make soak`` alone."""

from __future__ import annotations

import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import advcl_nb as adv
from advcl_nb.cards import hardware

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "soak.md"
PER_EPOCH = 4

NURSERY = """
import os, sys
from pathlib import Path
import torch
import advcl_nb as adv
from advcl_nb.config import Config, PretrainConfig

def train(path, epochs):
    images = adv.shapes(64, size=16)
    model = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
    labels = torch.stack([torch.arange(64) % count for count in model.cluster_counts], 1)
    pretrain = PretrainConfig(
        epochs=epochs, batch_size=16, optimizer="adamw", learning_rate=1e-3, warmup_epochs=2, warmup_from=1e-4,
        views=adv.ViewSettings(padding=2, radius=4.0), attack=adv.Linf(8 / 255, 4 / 255, 1),
    )
    state = adv.load(path) if path.exists() else adv.PretrainState.start(Config(model=model, pretrain=pretrain))
    print("step", state.step, os.getpid(), flush=True)
    for row in adv.pretrain_epochs(state, images, labels, every=1):
        print("save", state.step, flush=True)
        adv.save(state, path)
        print("step", state.step, flush=True)

for line in sys.stdin:
    epochs, path = line.rstrip("\\n").split(" ", 1)
    if not (child := os.fork()):  # nothing was computed before, so no thread is lost
        try:
            train(Path(path), int(epochs))
            os._exit(0)
        finally:
            os._exit(1)
    print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    """A process that has imported everything, and forks a training for each line that it is given."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", NURSERY], env=env, **pipes) as process:
        yield process
        process.stdin.close()


def heard(nursery, *words):
    """Read the next line, whose first word must be among `words`; return its numbers."""
    word, *numbers = nursery.stdout.readline().split()
    assert word in words, (word, numbers)
    return [int(number) for number in numbers]


def begin(nursery, path, epochs):
    """Start, or go on with, the training whose file is `path`; return its first step and its process."""
    nursery.stdin.write(f"{epochs} {path}\n")
    nursery.stdin.flush()
    return heard(nursery, "step")


def finish(nursery, path, epochs):
    begin(nursery, path, epochs)
    while (line := nursery.stdout.readline()).split()[0] != "end":
        pass
    assert line == "end 0\n"


def parts(path):
    """The unfinished files beside `path`."""
    return {file.name for file in path.parent.glob("*") if file != path}


def life(nursery, path, epochs, steps, moment, fraction):
    """Let the training make `steps` steps, and kill it in the next, at a `fraction` of its "step" or of its "write".

    Returns the step that it began with.
    """
    (first, process), duration, before = begin(nursery, path, epochs), 0.02, parts(path)
    for _ in range(steps):
        begun = time.perf_counter()
        heard(nursery, "save")
        duration = time.perf_counter() - begun
        heard(nursery, "step")
    if moment == "write":
        duration, late = 1e-3, time.perf_counter() + 5
        while parts(path) == before and time.perf_counter() < late:  # until its file begins to be written
            pass
    time.sleep(fraction * duration)
    os.kill(process, signal.SIGKILL)
    while (line := nursery.stdout.readline()).split()[0] != "end":  # what it said before it died
        pass
    assert line == "end -9\n"
    return first


def killed_run(nursery, path, epochs, lives):
    """Kill a training once for each of `lives`, check its file after each, and return how many died while writing."""
    reached = partial = 0
    for steps, moment, fraction in lives:
        assert life(nursery, path, epochs, steps, moment, fraction) >= reached, "a finished step was lost"
        if path.exists():
            state = adv.load(path)
            assert reached <= state.step == len(state.history)
            reached = state.step
        assert all(re.fullmatch(r"\.run\.pt\.[0-9a-f]{32}\.partial", name) for name in parts(path))
        partial = len(parts(path))
    assert 0 < reached < epochs * PER_EPOCH
    return partial


def assert_killed_equals_whole(nursery, folder, epochs, lives):
    """Train twice, once killed at every life's end; return how many kills fell into a write."""
    whole, broken = folder / "whole" / "run.pt", folder / "broken" / "run.pt"
    partial = killed_run(nursery, broken, epochs, lives)
    for path in (broken, whole):
        finish(nursery, path, epochs)
    assert_same_runs(adv.load(broken), adv.load(whole), epochs)
    return partial


def assert_same_runs(a, b, epochs):
    assert a.step == b.step == epochs * PER_EPOCH
    for name, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[name]), name
    for number, moments in a.optimizer.state_dict()["state"].items():
        others = b.optimizer.state_dict()["state"][number]
        assert all(torch.equal(moments[key], others[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    names = ("step", "epoch", "loss", "contrast", "pseudo", "learning_rate")
    for ours, theirs in zip(a.history, b.history, strict=True):
        assert all(ours[name] == theirs[name] for name in names)


def test_a_training_that_is_killed_three_times_ends_as_the_uninterrupted_one(nursery, tmp_path):
    draw = random.Random(1)
    lives = [(steps, moment, draw.random()) for steps, moment in ((2, "step"), (3, "write"), (5, "step"))]
    assert_killed_equals_whole(nursery, tmp_path, 5, lives)


@pytest.mark.soak
def test_a_training_that_is_killed_forty_times_ends_as_the_uninterrupted_one(nursery, tmp_path):
    kills, epochs, draw = 40, 100, random.Random(0)
    lives = [(draw.randrange(8), ("step", "write")[k % 2], draw.random()) for k in range(kills)]
    begun = time.perf_counter()
    partial = assert_killed_equals_whole(nursery, tmp_path, epochs, lives)
    assert partial > 0, "no kill fell into a write"
    machine = f"{hardware()} of {os.cpu_count()}, {platform.system()}, Python {platform.python_version()}"
    RESULT.write_text(f"""# Killed {kills} times

Written by `make soak` (`tests/test_soak.py`) when it passed.

| | |
|---|---|
| date | {time.strftime("%Y-%m-%d")} |
| machine | {machine}, torch {torch.__version__} |
| training | AdvCL with attack, augmentation, batch norm and AdamW, {epochs * PER_EPOCH} steps, saved after each |
| kills | {kills} by SIGKILL at random moments, half of them aimed at a step, half at a write |
| while a file was being written | {partial} (their unfinished parts were left beside it) |
| finished steps lost | 0 |
| file unreadable after a kill | 0 |
| end | weights, optimiser and history equal the uninterrupted run's, bit for bit |
| seconds | {time.perf_counter() - begun:.0f} |
""")  # fmt: skip
