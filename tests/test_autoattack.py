"""AutoAttack: the same as pyautoattack called directly, resumed, flagged, and nothing left changed."""

from __future__ import annotations

import json
import logging
import sys
import warnings

import pytest
import torch
from defences import Changed, Dynamic
from torch import nn

import advcl_nb as adv
from advcl_nb import autoattack

pyautoattack = pytest.importorskip("pyautoattack")
IMAGES = adv.shapes(40, size=8)
EPSILON = 12 / 255


@pytest.fixture(autouse=True)
def shorter(monkeypatch):
    """Square's 5,000 queries cut to 40 and FAB's 100 steps to 5, ours and the oracle's."""
    square, fab = pyautoattack.square.SquareAttack, pyautoattack.fab_base.FABAttack
    for attack, setting, value in ((square, "n_queries", 40), (fab, "n_iter", 5)):
        monkeypatch.setattr(attack, "attack_single_run", cut(attack.attack_single_run, setting, value))


def cut(run, setting, value):
    def short(self, *args, **options):
        setattr(self, setting, min(getattr(self, setting), value))
        return run(self, *args, **options)

    return short


@pytest.fixture(scope="module")
def model():
    """A linear classifier with dropout, right on most images and broken on some."""
    return trained(IMAGES.y, 10)


def trained(labels, classes, steps=60):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.Tanh(), nn.Dropout(0.1), nn.Linear(24, classes))
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(IMAGES.x / 255), labels).backward()
            optimizer.step()
        optimizer.zero_grad()
    return net.train()


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return adv.autoattack_accuracy(*args, **options)


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", EPSILON), ("L2", 0.7)])
def test_it_is_pyautoattack(model, monkeypatch, norm, epsilon):
    monkeypatch.setattr(autoattack, "BATCH", 16)
    score = quiet(model, IMAGES.x, IMAGES.y, epsilon=epsilon, norm=norm, seed=3)
    with torch.random.fork_rng():
        oracle = pyautoattack.AutoAttack(model.eval(), norm=norm, eps=epsilon, seed=3)
        _, said = oracle.run_standard_evaluation(IMAGES.x / 255, IMAGES.y, batch_size=16)
    model.train()
    assert score.correct == int((said == IMAGES.y).sum())
    clean = adv.standard_accuracy(model, IMAGES.x, IMAGES.y)
    assert 0 < score.correct < clean.correct  # or the comparison says little
    assert list(score.after) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert sorted(score.after.values(), reverse=True) == list(score.after.values())
    ball = "Linf 12/255" if norm == "Linf" else "L2 0.7"
    assert (score.metric, score.attack) == ("AA", f"AutoAttack, {ball}")
    assert repr(score).startswith(f"AA[AutoAttack, {ball}] ") and "right after apgd-ce" in repr(score)


def test_it_goes_on_where_it_was_broken_off(model, monkeypatch, tmp_path):
    monkeypatch.setattr(autoattack, "BATCH", 16)
    options = {"epsilon": EPSILON, "seed": 0}
    whole = quiet(model, IMAGES.x, IMAGES.y, **options)
    path, attack_batch, calls = tmp_path / "state.json", autoattack.attack_batch, []

    def broken_off(*args, **more):
        calls.append(args[3])
        if len(calls) in (3, 6):
            raise KeyboardInterrupt
        return attack_batch(*args, **more)

    monkeypatch.setattr(autoattack, "attack_batch", broken_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quiet(model, IMAGES.x, IMAGES.y, state_path=path, **options)
    resumed = quiet(model, IMAGES.x, IMAGES.y, state_path=path, **options)
    assert resumed == whole
    before = len(calls)
    assert quiet(model, IMAGES.x, IMAGES.y, state_path=path, **options) == whole
    assert len(calls) == before  # finished: nothing runs again
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_another_evaluation_s_state_is_refused(model, tmp_path):
    path = tmp_path / "state.json"
    attacks = {"attacks": ("apgd-ce",), "state_path": path}
    quiet(model, IMAGES.x, IMAGES.y, epsilon=EPSILON, seed=0, **attacks)
    kept = path.read_text()
    for x, y, epsilon, seed in (
        (IMAGES.x, IMAGES.y, 2 * EPSILON, 0),
        (IMAGES.x, IMAGES.y, EPSILON, 1),
        (IMAGES.x.flip(3), IMAGES.y, EPSILON, 0),
        (IMAGES.x, IMAGES.y.roll(1), EPSILON, 0),
    ):
        with pytest.raises(ValueError, match="state_path: expected the state of this evaluation"):
            quiet(model, x, y, epsilon=epsilon, seed=seed, **attacks)
    assert path.read_text() == kept
    path.write_text("{}")
    with pytest.raises(ValueError, match="state_path: expected a state of autoattack_accuracy"):
        quiet(model, IMAGES.x, IMAGES.y, epsilon=EPSILON, seed=0, **attacks)
    assert json.loads(path.read_text()) == {}  # a reader's file is never overwritten


def test_another_model_s_state_is_refused(tmp_path):
    """Other weights, another branch of the same weights, and the same weights in another module."""
    config = adv.ModelConfig(width=4, blocks=(1,), stem=(4, 2), projector=(4, 4), cluster_counts=(2,))
    dice = torch.Generator().manual_seed(0)
    model = adv.Classifier(adv.build_model(config, generator=dice).encoder, 10, generator=dice)
    labels = model.eval()(IMAGES.x / 255).argmax(1)
    options = {"epsilon": EPSILON, "seed": 0, "attacks": ("apgd-ce",), "state_path": tmp_path / "state.json"}
    quiet(model, IMAGES.x, labels, **options)
    with pytest.raises(ValueError, match="state_path: expected the state of this evaluation"):
        quiet(nn.Sequential(model, nn.Softmax(1)), IMAGES.x, labels, **options)
    model.branch = "adv"
    with pytest.raises(ValueError, match="state_path: expected the state of this evaluation"):
        quiet(model, IMAGES.x, labels, **options)
    model.branch = "clean"
    model.linear.bias.data += 0.1
    with pytest.raises(ValueError, match="state_path: expected the state of this evaluation"):
        quiet(model, IMAGES.x, labels, **options)


def test_a_state_needs_a_folder_that_is_there(model, tmp_path):
    for path in (tmp_path / "none" / "state.json", tmp_path):
        with pytest.raises(ValueError, match="state_path: expected a file in a folder that exists"):
            quiet(model, IMAGES.x, IMAGES.y, epsilon=EPSILON, seed=0, state_path=path)


def test_nothing_is_left_changed(model):
    model.zero_grad()
    frozen = next(model.parameters()).requires_grad_(False)
    names = [parameter.requires_grad for parameter in model.parameters()]
    random, handlers = torch.get_rng_state(), list(logging.getLogger("auto-attack").handlers)
    before = sys.gettrace()
    sys.settrace(trace := lambda *_: None)
    try:
        quiet(model, IMAGES.x[:10], IMAGES.y[:10], epsilon=EPSILON, seed=0, attacks=("apgd-ce", "square"))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == names
    assert all(parameter.grad is None for parameter in model.parameters())
    assert logging.getLogger("auto-attack").handlers == handlers
    frozen.requires_grad_(True)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda z: z + 0.1 * torch.randn_like(z), "randomised output"),
        (lambda z: z.softmax(1), "probabilities instead of logits"),
        (lambda z: (8 * z).round() / 8 + 0 * z, "vanishing gradients"),
        (lambda z: (2 * z).round() / 2 + 0 * z, "Square, which sees no gradient, beats the white-box attacks"),
    ],
)
def test_flags_are_told(model, change, flag):
    with pytest.warns(RuntimeWarning, match=flag):
        score = adv.autoattack_accuracy(Changed(model, change), IMAGES.x, IMAGES.y, epsilon=4 * EPSILON, seed=0)
    assert any(flag in text for text in score.flags) and f"flag: {flag}" in repr(score)


def test_a_dynamic_model_is_flagged_and_the_next_one_is_not(model):
    with pytest.warns(RuntimeWarning, match="optimisation inside the forward pass"):
        adv.autoattack_accuracy(Dynamic(model), IMAGES.x[:8], IMAGES.y[:8], epsilon=EPSILON, seed=0)
    test_an_honest_model_has_no_flag(model)


def test_gradients_that_are_not_finite_are_flagged(model):
    class Blind(nn.Module):
        def forward(self, x):
            return model(x) + 0 * (x - x).sqrt().sum()

    with pytest.warns(RuntimeWarning, match="gradients that are not finite"):
        adv.autoattack_accuracy(Blind(), IMAGES.x[:8], IMAGES.y[:8], epsilon=EPSILON, seed=0)


@pytest.mark.parametrize("level", [logging.ERROR, logging.CRITICAL])
def test_the_reader_s_logging_does_not_mute_a_flag(model, level):
    root, own = logging.getLogger(), logging.getLogger("auto-attack")
    before, own.disabled = root.level, True
    root.setLevel(level)
    try:
        softmax = Changed(model, lambda z: z.softmax(1))
        with pytest.warns(RuntimeWarning, match="probabilities instead of logits"):
            adv.autoattack_accuracy(softmax, IMAGES.x[:8], IMAGES.y[:8], epsilon=EPSILON, seed=0)
    finally:
        root.setLevel(before)
        own.disabled = False


def test_an_honest_model_has_no_flag(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = adv.autoattack_accuracy(model, IMAGES.x, IMAGES.y, epsilon=EPSILON, seed=0)
    assert score.flags == ()


@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_for_the_standard_set(classes):
    labels = IMAGES.y % classes
    net = trained(labels, classes)
    with pytest.raises(ValueError, match=rf"model: expected logits of 4 classes or more for apgd-t, got {classes}"):
        adv.autoattack_accuracy(net, IMAGES.x, labels, epsilon=EPSILON, seed=0)
    score = quiet(
        net, IMAGES.x, labels, epsilon=EPSILON, seed=0, attacks=("apgd-ce", "fab-t", "square")
    )  # what the error says to do
    assert (score.metric, score.attack) == ("RA", "apgd-ce + fab-t + square, Linf 12/255")


@pytest.mark.parametrize("classes", [4, 6])
def test_fewer_than_ten_classes_have_fewer_targets(classes):
    labels = IMAGES.y % classes
    score = quiet(trained(labels, classes), IMAGES.x[:20], labels[:20], epsilon=EPSILON, seed=0)
    assert score.metric == "AA" and len(score.after) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 8}, "For 8 grey levels write 8 / 255"),
        ({"epsilon": 0}, "epsilon: expected a radius > 0"),
        ({"norm": "L1"}, "norm: expected one of Linf, L2"),
        ({"attacks": ()}, "attacks: expected some of"),
        ({"attacks": ("pgd",)}, "attacks: expected one of apgd-ce"),
        ({"attacks": ("apgd-ce", "apgd-ce")}, "each once"),
    ],
)
def test_bad_settings_are_refused(model, options, words):
    with pytest.raises(ValueError, match=words):
        adv.autoattack_accuracy(model, IMAGES.x, IMAGES.y, **{"epsilon": EPSILON, "seed": 0} | options)


def test_a_model_that_is_never_right_scores_zero(model):
    score = quiet(model, IMAGES.x[:8], (model.eval()(IMAGES.x[:8] / 255).argmax(1) + 1) % 10, epsilon=EPSILON, seed=0)
    model.train()
    assert score.correct == 0 and set(score.after.values()) == {0}
