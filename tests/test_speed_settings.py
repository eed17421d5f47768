"""What precision, layout and compilation change in the numbers: bounds on a step's loss, images and features."""

from __future__ import annotations

import shutil

import pytest
import torch

import advcl_nb as adv
from advcl_nb import pretrain

MODEL = adv.ModelConfig(width=16, blocks=(1, 1), projector=(32, 16), cluster_counts=(2, 5))
IMAGES = adv.shapes(64, size=16)
LABELS = torch.stack([IMAGES.y % 2, IMAGES.y % 5], 1)


def a_step(monkeypatch, method="advcl", **changes):
    """A step's parts and adversarial images, and the features after it in the engine's own arithmetic."""
    settings = adv.PretrainConfig(method, batch_size=64, learning_rate=0.05, contrast_scale=1.0, **changes)
    state = adv.PretrainState.start(adv.Config(model=MODEL, pretrain=settings))
    made, pgd = [], pretrain.pgd
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "pgd", lambda *a, **k: made.append(pgd(*a, **k)) or made[-1])
        parts = adv.pretrain_step(state, IMAGES.x, LABELS if method == "advcl" else None)
    with torch.no_grad():
        features = state.encoder.eval()(adv.to_float(IMAGES.x), "clean")
    return {name: part.item() for name, part in parts.items()}, made, features


@pytest.mark.parametrize(
    ("changes", "loss", "pixels", "features"),
    [
        ({"channels_last": True}, 1e-4, 0.1, 0.01),
        ({"precision": "bfloat16"}, 0.002, 0.4, 0.05),
        ({"precision": "bfloat16", "channels_last": True}, 0.002, 0.4, 0.05),
    ],
    ids=["channels_last", "bfloat16", "both"],
)
def test_each_changes_a_step_by_little(changes, loss, pixels, features, monkeypatch):
    """`loss` and `features`: relative differences; `pixels`: the share that the attacks leave at another value."""
    plain, fast = a_step(monkeypatch), a_step(monkeypatch, **changes)
    assert fast[0] == pytest.approx(plain[0], rel=loss)
    moved = [(a - b).abs() > 0.5 / 255 for a, b in zip(plain[1], fast[1], strict=True)]
    assert len(moved) == 2 and all(share.float().mean() < pixels for share in moved)
    difference = (plain[2] - fast[2]).norm() / plain[2].norm()
    assert difference < features
    assert difference > 0 or "precision" not in changes  # the setting does something


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_a_compiled_encoder_computes_the_same(monkeypatch):
    plain, compiled = (a_step(monkeypatch, "simclr", compile=on) for on in (False, True))
    assert compiled[0] == pytest.approx(plain[0], rel=1e-4)
    assert (plain[2] - compiled[2]).norm() / plain[2].norm() < 1e-3


def test_paper_uses_none_of_them():
    settings = adv.preset("paper").pretrain
    assert (settings.precision, settings.channels_last, settings.compile) == ("float32", False, False)
