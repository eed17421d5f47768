"""Slow proofs, run by ``make soak`` alone."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import advcl_nb as adv

pytestmark = pytest.mark.soak
ROOT = Path(__file__).resolve().parent.parent
KILLS, EPOCHS, PER_EPOCH = 40, 100, 4

TRAINING = f"""
import sys, torch
from pathlib import Path
import advcl_nb as adv
from advcl_nb.config import Config, PretrainConfig

images, path = adv.shapes(64, size=16), Path(sys.argv[1])
model = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
labels = torch.stack([torch.arange(64) % count for count in model.cluster_counts], 1)
pretrain = PretrainConfig(
    epochs={EPOCHS}, batch_size=16, optimizer="adamw", learning_rate=1e-3, warmup_epochs=2, warmup_from=1e-4,
    views=adv.ViewSettings(padding=2, radius=4.0), attack=adv.Linf(8 / 255, 4 / 255, 1),
)
state = adv.load(path) if path.exists() else adv.PretrainState.start(Config(model=model, pretrain=pretrain))
print("step", state.step, flush=True)
for row in adv.pretrain_epochs(state, images, labels, every=1):
    adv.save(state, path)
    print("step", state.step, flush=True)
"""


def start(path):
    """Start, or go on with, the training whose file is `path`, in a process of its own."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", TRAINING, str(path)], env=env, stdout=subprocess.PIPE, text=True)


def life(path, steps, fraction):
    """Let the training make `steps` steps, and kill it at a `fraction` of the next one; return its first step."""
    with start(path) as process:
        first = int(process.stdout.readline().split()[1])
        last = time.perf_counter()
        duration = 0.02
        for _ in range(steps):
            assert process.stdout.readline(), "the training ended before it was killed"
            duration, last = time.perf_counter() - last, time.perf_counter()
        time.sleep(fraction * duration)
        process.kill()
    assert process.returncode == -9
    return first


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_training_that_is_killed_forty_times_ends_as_the_uninterrupted_one(tmp_path):
    whole, broken = tmp_path / "whole" / "run.pt", tmp_path / "broken" / "run.pt"
    draw, reached, partial = random.Random(0), 0, 0
    for _ in range(KILLS):
        first = life(broken, draw.randrange(8), draw.random())
        assert first >= reached, "a finished step was lost"
        if broken.exists():
            reached = adv.load(broken).step
            assert first <= reached == len(adv.load_history(broken))
        others = [file for file in broken.parent.glob("*") if file != broken]
        assert all(re.fullmatch(r"\.run\.pt\.\d+\.partial", file.name) for file in others)
        partial = len(others)
    print(f"{KILLS} kills, {partial} of them while writing, at step {reached}")
    assert 0 < reached < EPOCHS * PER_EPOCH
    for path in (broken, whole):
        with start(path) as process:
            process.communicate()
        assert process.returncode == 0
    a, b = adv.load(broken), adv.load(whole)
    assert a.step == b.step == EPOCHS * PER_EPOCH
    for name, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[name]), name
    for number, moments in a.optimizer.state_dict()["state"].items():
        others = b.optimizer.state_dict()["state"][number]
        assert all(torch.equal(moments[key], others[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    kept = [{"step", "epoch", "loss", "contrast", "pseudo", "learning_rate"} & row.keys() for row in a.history]
    for ours, theirs, names in zip(a.history, b.history, kept, strict=True):
        assert len(names) == 6 and all(ours[name] == theirs[name] for name in names)
