"""Fine-tuning: what is frozen stays frozen, and each protocol trains the loss it names on the images it names."""

from __future__ import annotations

import copy
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import advcl_nb as adv
from advcl_nb import finetune
from advcl_nb.config import FinetuneConfig

MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
ATTACK = adv.Linf(8 / 255, 2 / 255, 3)
IMAGES = adv.shapes(64, size=16)
FEW = IMAGES[:32]
PROTOCOLS = [("SLF", "ce"), ("ALF", "ce"), ("ALF", "trades"), ("AFF", "ce"), ("AFF", "trades")]
PROTOCOLS += [("CE", "ce"), ("SupCon", "ce"), ("Core", "ce"), ("AdvCore", "ce")]
every_protocol = pytest.mark.parametrize(("protocol", "loss"), PROTOCOLS, ids=lambda value: value)


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the type checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def encoder():
    """An encoder whose branches' statistics and affine parameters all differ; its own branch is "adv"."""
    encoder = adv.build_model(MODEL, generator=torch.Generator().manual_seed(0)).encoder.train()
    for k, branch in enumerate(adv.BRANCHES):
        for _ in range(20):
            encoder(adv.to_float(IMAGES.x[16 * k : 16 * k + 16]), branch)
    with torch.no_grad():
        for k, (name, tensor) in enumerate(encoder.named_parameters()):
            if "branches" in name:
                tensor.add_(0.1 * torch.sin(torch.arange(len(tensor)) + float(k)))
    encoder.branch = "adv"
    return encoder


def config(protocol="SLF", loss="ce", **changes):
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "milestones": (1,), "attack": ATTACK, "padding": 1}
    return FinetuneConfig(protocol, loss=loss, **settings | changes)


def start(encoder, protocol="SLF", loss="ce", **changes):
    return adv.FinetuneState.start(config(protocol, loss, **changes), encoder, 10)


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def own_kl(clean, attacked):
    """KL(clean || attacked), the mean over images, from the definition."""
    p, q = clean.softmax(1), attacked.softmax(1)
    return (p * (p.log() - q.log())).sum(1).mean()


def watch(monkeypatch, state):
    """Note each attack: the clean images, its start, its result, and the modes it ran in."""
    seen, pgd = [], finetune.pgd

    def watched(loss, images, threat, *, generator):
        twin = torch.Generator()
        twin.set_state(generator.get_state())
        begin = pgd(loss, images, replace(threat, steps=0), generator=twin)
        modes = []
        hook = state.classifier.encoder.register_forward_hook(lambda module, *_: modes.append(module.training))
        result = pgd(loss, images, threat, generator=generator)
        hook.remove()
        seen.append((images, begin, result, set(modes)))
        return result

    monkeypatch.setattr(finetune, "pgd", watched)
    return seen


# Frozen means frozen


@every_protocol
def test_the_callers_encoder_never_changes(encoder, protocol, loss):
    before, modes = snapshot(encoder), [module.training for module in encoder.modules()]
    state = start(encoder, protocol, loss)
    list(adv.finetune_epochs(state, FEW))
    assert not changed(before, encoder)
    assert [module.training for module in encoder.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize(("protocol", "loss"), PROTOCOLS[:3])
def test_slf_and_alf_change_the_linear_layer_alone_by_no_bit_else(encoder, protocol, loss):
    state = start(encoder, protocol, loss, weight_decay=0.1)
    before = snapshot(state.classifier)
    list(adv.finetune_epochs(state, FEW))
    assert changed(before, state.classifier) == {"linear.weight", "linear.bias"}
    assert not changed(snapshot(encoder), state.classifier.encoder)
    trained = [p for group in state.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in state.classifier.linear.parameters()}
    assert all(p.grad is None and not p.requires_grad for p in state.classifier.encoder.parameters())


@pytest.mark.parametrize("branch", adv.BRANCHES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_aff_trains_everything_but_the_other_branches(encoder, branch, optimizer):
    rate = 0.1 if optimizer == "sgd" else 0.01
    state = start(encoder, "AFF", branch=branch, weight_decay=0.1, optimizer=optimizer, learning_rate=rate)
    before = snapshot(state.classifier)
    list(adv.finetune_epochs(state, FEW))
    others = tuple(f"branches.{other}." for other in adv.BRANCHES if other != branch)
    expected = {name for name in before if not any(other in name for other in others)} - {"shift", "scale"}
    assert changed(before, state.classifier) == expected


def test_standardised_features_have_mean_zero_and_deviation_one(encoder):
    state = start(encoder, "SLF", standardize=True)
    next(adv.finetune_epochs(state, FEW))
    features = adv.extract_features(encoder, FEW.x, branch=state.classifier.branch).double()
    torch.testing.assert_close(state.classifier.shift.double(), features.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state.classifier.scale.double(), features.std(0), rtol=1e-4, atol=1e-5)
    logits = state.classifier.eval()(adv.to_float(FEW.x)).double()
    linear = state.classifier.linear
    by_hand = ((features - features.mean(0)) / features.std(0)) @ linear.weight.double().T + linear.bias.double()
    torch.testing.assert_close(logits, by_hand, rtol=1e-3, atol=1e-3)


# Branches


def test_the_branch_is_the_encoders_own_or_the_configs():
    for method, branch in (("simclr", "clean"), ("acl", "adv"), ("advcl", "adv")):
        pretraining = adv.Config(model=MODEL, pretrain=adv.PretrainConfig(method=method))
        own = adv.PretrainState.start(pretraining).encoder
        assert start(own).classifier.branch == branch
        assert start(own, branch="adv_pseudo").classifier.branch == "adv_pseudo"
        assert own.branch == branch


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_the_classifier_reads_the_chosen_branch(encoder, branch):
    state = start(encoder, branch=branch)
    x = adv.to_float(IMAGES.x[:8])
    encoder.eval()
    features = {name: encoder(x, name) for name in adv.BRANCHES}
    state.classifier.eval()
    for name in adv.BRANCHES:
        same = torch.equal(state.classifier(x), state.classifier.linear(features[name]))
        assert same == (name == branch)


def test_fine_tuning_is_in_float32_whatever_the_pretraining(encoder):
    encoder.precision = torch.bfloat16
    half, full = start(encoder), start(encoder.copy())
    for state in (half, full):
        list(adv.finetune_epochs(state, FEW))
    assert torch.equal(half.classifier.linear.weight, full.classifier.linear.weight)
    assert encoder.precision == torch.bfloat16


# The protocols' losses


def features_of(encoder, images):
    with torch.no_grad():
        return encoder.eval()(adv.to_float(images.x), "adv")


def coloured(n, seed):
    """Noise with a little more red, green or blue in it: three classes that simple features tell apart."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randint(60, 180, (n, 3, 16, 16), generator=generator) + 25 * F.one_hot(y)[:, :, None, None]
    return adv.Images(x.to(torch.uint8), y, ("red", "green", "blue"))


def test_slf_finds_what_scikit_learns_logistic_regression_finds(encoder):
    train, test = coloured(150, seed=0), coloured(150, seed=1)
    settings = {"epochs": 80, "batch_size": 75, "optimizer": "adamw", "milestones": (60,)}
    state = adv.FinetuneState.start(config(padding=None, **settings), encoder, 3)
    list(adv.finetune_epochs(state, train))
    oracle = LogisticRegression(C=np.inf, max_iter=10_000).fit(features_of(encoder, train), train.y)
    with torch.no_grad():
        answers = state.classifier.eval()(adv.to_float(test.x)).argmax(1)
    theirs = oracle.score(features_of(encoder, test), test.y)
    assert theirs > 0.9  # the features are all but separable
    assert float((answers == test.y).float().mean()) >= theirs - 0.02


def test_slf_reaches_the_optimum_of_logistic_regression(encoder):
    """Where classes overlap the optimum is unique: with the same L2 term the cross-entropies agree."""
    images = adv.Images(IMAGES.x, torch.arange(64) % 3, ("a", "b", "c"))  # labels that no feature explains
    features, decay = features_of(encoder, images).double(), 0.01
    settings = {"epochs": 200, "batch_size": 64, "learning_rate": 1.0, "milestones": (150,), "weight_decay": decay}
    state = adv.FinetuneState.start(config(padding=None, **settings), encoder, 3)
    rows = list(adv.finetune_epochs(state, images, every=200))
    # Weight decay is on the bias too: a constant feature and no intercept say the same in scikit-learn.
    design = np.hstack([features.numpy(), np.ones((64, 1))])
    oracle = LogisticRegression(C=1 / (64 * decay), fit_intercept=False, tol=1e-10, max_iter=10_000)
    oracle.fit(design, images.y)
    with torch.no_grad():
        ours = state.classifier.linear(features.float()).softmax(1).double().numpy()
    theirs = oracle.predict_proba(design)
    assert log_loss(images.y, ours / ours.sum(1, keepdims=True)) == pytest.approx(log_loss(images.y, theirs), abs=1e-3)
    assert abs(ours - theirs).max() < 0.02
    assert rows[-1]["accuracy"] > 1 / 3


@pytest.mark.parametrize("protocol", ["SLF", "AFF"])
def test_standardised_features_have_the_mean_and_deviation_of_the_start(encoder, protocol):
    features = features_of(encoder, FEW).double().numpy()
    plain, state = start(encoder, protocol), start(encoder, protocol, standardize=True)
    for _ in adv.finetune_epochs(plain, FEW):
        assert plain.classifier.shift.eq(0).all() and plain.classifier.scale.eq(1).all()
    list(adv.finetune_epochs(state, FEW, every=1))
    model = state.classifier.eval()
    assert model.shift.numpy() == pytest.approx(features.mean(0), rel=1e-5, abs=1e-6)
    assert model.scale.numpy() == pytest.approx(features.std(0, ddof=1), rel=1e-4)
    x = adv.to_float(FEW.x)
    with torch.no_grad():
        expected = model.linear((model.encoder(x, "adv") - model.shift) / model.scale)
        torch.testing.assert_close(model(x), expected)
    assert bool(changed(snapshot(encoder), model.encoder)) == (protocol == "AFF")


def test_a_step_alone_standardises_by_its_first_batch(encoder):
    state = start(encoder, "SLF", standardize=True)
    for x, y in ((FEW.x, FEW.y), (IMAGES.x[32:], IMAGES.y[32:])):
        adv.finetune_step(state, x, y)
        features = features_of(encoder, FEW)
        torch.testing.assert_close(state.classifier.shift, features.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state.classifier.scale, features.std(0), rtol=1e-4, atol=1e-5)


@every_protocol
def test_a_batch_of_one_gives_no_nan(encoder, protocol, loss):
    state = start(encoder, protocol, loss, standardize=True)
    parts = adv.finetune_step(state, IMAGES.x[:1], IMAGES.y[:1])
    assert all(value.isfinite() for value in parts.values())
    assert all(tensor.isfinite().all() for tensor in state.classifier.state_dict().values())


def test_a_whole_config_is_no_protocols(encoder, unchecked):
    with pytest.raises(ValueError, match="config: expected one protocol's, as config.finetune"):
        adv.FinetuneState.start(adv.preset("smoke"), encoder, 10)


def test_a_standardised_run_goes_on_with_the_features_measured_at_its_start(encoder):
    settings = {"standardize": True, "epochs": 2}
    whole, broken = (start(encoder, "AFF", **settings) for _ in range(2))
    list(adv.finetune_epochs(whole, FEW))
    next(adv.finetune_epochs(broken, FEW, every=1))
    list(adv.finetune_epochs(broken, FEW))
    assert not changed(snapshot(whole.classifier), broken.classifier)


def test_slf_trains_on_clean_images_and_makes_no_attack(encoder, monkeypatch):
    state = start(encoder, padding=None)
    seen, twin = watch(monkeypatch, state), copy.deepcopy(state.classifier).eval()
    parts = adv.finetune_step(state, IMAGES.x[:16], IMAGES.y[:16])
    logits = twin(IMAGES.x[:16].float() / 255)
    assert not seen
    torch.testing.assert_close(parts["loss"], F.cross_entropy(logits, IMAGES.y[:16]).detach(), rtol=1e-6, atol=1e-6)
    assert float(parts["accuracy"]) == (logits.argmax(1) == IMAGES.y[:16]).double().mean()
    assert not state.classifier.encoder.training


@pytest.mark.parametrize(("protocol", "loss"), PROTOCOLS[1:])
def test_the_attack_maximises_the_protocols_loss_in_eval_mode(encoder, monkeypatch, protocol, loss):
    state = start(encoder, protocol, loss, padding=None)
    seen, before = watch(monkeypatch, state), snapshot(state.classifier)
    state.classifier.train()
    base, labels = IMAGES.x[:16].float() / 255, IMAGES.y[:16]
    result = finetune.adversarial_images(state, base, labels)
    assert not changed(before, state.classifier) and all(module.training for module in state.classifier.modules())

    model, begin = copy.deepcopy(state.classifier).eval(), seen[0][1]
    objective = {
        "ce": lambda x: F.cross_entropy(model(x), labels),
        "trades": lambda x: own_kl(model(base).detach(), model(x)),
    }[loss]
    x = begin
    for _ in range(ATTACK.steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(x), x)
        x = torch.min(torch.max(x + ATTACK.alpha * gradient.sign(), base - 8 / 255), base + 8 / 255).clamp(0, 1)
    assert seen[0][3] == {False} and torch.equal(seen[0][0], base)
    assert torch.equal(result, seen[0][2]) and not torch.equal(result, begin)
    assert torch.equal(result, x)
    assert objective(result) > objective(begin)
    assert objective(result) > objective(base)


@pytest.mark.parametrize(("protocol", "loss"), PROTOCOLS[1:5])
def test_a_step_trains_the_named_loss_on_the_attacked_images(encoder, monkeypatch, protocol, loss):
    state = start(encoder, protocol, loss, padding=None, beta=3.0, momentum=0.0, weight_decay=0.0)
    twin = copy.deepcopy(state.classifier).train(protocol == "AFF")
    seen = watch(monkeypatch, state)
    parts = adv.finetune_step(state, IMAGES.x[:16], IMAGES.y[:16])
    clean, _, attacked, _ = seen[0]
    logits = twin(attacked)
    if loss == "trades":
        expected = F.cross_entropy(twin(clean), IMAGES.y[:16]) + 3 * own_kl(twin(clean), logits)
    else:
        expected = F.cross_entropy(logits, IMAGES.y[:16])
    torch.testing.assert_close(parts["loss"], expected.detach(), rtol=1e-5, atol=1e-6)
    assert float(parts["accuracy"]) == (logits.argmax(1) == IMAGES.y[:16]).double().mean()
    expected.backward()
    for ours, theirs in zip(state.classifier.parameters(), twin.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if theirs.grad is not None:
            torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad, rtol=1e-4, atol=1e-6)
    assert state.classifier.encoder.training == (protocol == "AFF")


def test_aff_counts_each_outer_forward_and_no_forward_of_the_attack(encoder):
    def updates(state):
        tensors = snapshot(state.classifier.encoder).items()
        return {int(t) for name, t in tensors if name.endswith("branches.adv.num_batches_tracked")}

    for loss, forwards in (("ce", 1), ("trades", 2)):
        state = start(encoder, "AFF", loss)
        (before,) = updates(state)
        adv.finetune_step(state, IMAGES.x[:16], IMAGES.y[:16])
        assert updates(state) == {before + forwards}


def test_the_training_images_are_flipped_padded_crops_of_their_originals(encoder):
    index = torch.arange(16 * 16 * 3, dtype=torch.float32).reshape(3, 16, 16) % 255 + 1
    images = adv.Images(index.to(torch.uint8).repeat(300, 1, 1, 1), torch.zeros(300, dtype=torch.int64), ("a", "b"))
    for padding, choices in ((2, 2 * 5 * 5), (None, 1)):
        state, given = adv.FinetuneState.start(config(padding=padding, batch_size=300, epochs=1), encoder, 2), []
        state.classifier.register_forward_pre_hook(lambda _, inputs, given=given: given.append(inputs[0]))
        list(adv.finetune_epochs(state, images))
        original = F.pad(images.x[0].float() / 255, [padding or 0] * 4)
        shifts = range(2 * (padding or 0) + 1)
        crops = [original[:, i : i + 16, j : j + 16] for i in shifts for j in shifts]
        allowed = torch.stack(crops + ([crop.flip(-1) for crop in crops] if padding else []))
        which = (given[0][:, None] == allowed[None]).all(dim=(2, 3, 4))
        assert len(allowed) == choices and (which.sum(1) == 1).all()
        counts = which.sum(0)  # of the fifty, six of each expected
        assert counts.min() >= 1 and counts.max() <= 300 / choices * 2.5


# The loop


KEYS = {"epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second", "seconds", "seconds_left"}


@pytest.mark.parametrize("protocol", ["SLF", "AFF"])
def test_rows_say_where_the_run_stands(encoder, protocol):
    state = start(encoder, protocol, epochs=3, milestones=(1, 2), decay=0.5)
    rows = list(adv.finetune_epochs(state, IMAGES[:40], every=2))
    assert all(set(row) == KEYS for row in rows) and rows == state.history
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 9] and state.step == 9
    assert [row["learning_rate"] for row in rows] == [0.1, 0.05, 0.05, 0.025, 0.025]
    assert rows[-1]["epoch"] == 3 and rows[-1]["seconds_left"] == 0
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert list(adv.finetune_epochs(state, IMAGES[:40])) == []


@every_protocol
def test_breaking_off_and_going_on_equals_the_uninterrupted_run(encoder, protocol, loss):
    whole, broken = start(encoder, protocol, loss), start(encoder, protocol, loss)
    rows = list(adv.finetune_epochs(whole, IMAGES[:40], every=1))
    with pytest.raises(KeyboardInterrupt):
        for row in adv.finetune_epochs(broken, IMAGES[:40], every=1):
            if row["step"] == 2:
                raise KeyboardInterrupt
    for row in adv.finetune_epochs(broken, IMAGES[:40], every=1):
        if row["step"] == 4:
            break
    list(adv.finetune_epochs(broken, IMAGES[:40], every=1))
    assert not changed(snapshot(whole.classifier), broken.classifier)
    assert [row["loss"] for row in broken.history] == [row["loss"] for row in rows]


@every_protocol
def test_the_seed_alone_decides(encoder, protocol, loss):
    runs = []
    for noise, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(noise)
        expected = torch.rand(2)
        torch.manual_seed(noise)
        state = start(encoder, protocol, loss, seed=seed)
        adv.finetune_step(state, IMAGES.x[:16], IMAGES.y[:16])
        assert torch.equal(torch.rand(2), expected)  # the global generator was not touched
        runs.append(state.classifier)
    assert not changed(snapshot(runs[0]), runs[1])
    assert "linear.weight" in changed(snapshot(runs[0]), runs[2])


def test_each_step_has_its_own_draw(encoder, monkeypatch):
    state = start(encoder, "ALF")
    seen = watch(monkeypatch, state)
    for _ in range(2):
        adv.finetune_step(state, IMAGES.x[:16], IMAGES.y[:16])
    (base, begin, *_), (other_base, other_begin, *_) = seen
    assert not torch.equal(base, other_base)
    assert ((begin - base).sign() == (other_begin - other_base).sign()).float().mean() < 0.7


def test_a_step_leaves_its_images_alone(encoder):
    x, y = IMAGES.x[:16].clone(), IMAGES.y[:16].clone()
    adv.finetune_step(start(encoder, "AFF", "trades"), x, y)
    assert torch.equal(x, IMAGES.x[:16]) and torch.equal(y, IMAGES.y[:16])


@pytest.mark.parametrize("loss", ["ce", "trades"])
def test_training_lowers_the_loss(encoder, loss):
    attack = adv.Linf(1 / 255, 1 / 255, 1)
    state = start(encoder, "AFF", loss, epochs=7, learning_rate=0.3, milestones=(5,), padding=None, attack=attack)
    rows = list(adv.finetune_epochs(state, IMAGES))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3 and rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.1


# Errors


def test_unlabelled_images_are_refused(encoder):
    unlabelled = adv.Images(IMAGES.x, torch.full((64,), -1), IMAGES.classes)
    mixed = adv.Images(IMAGES.x, torch.where(torch.arange(64) < 1, -1, IMAGES.y), IMAGES.classes)
    for images in (unlabelled, mixed):
        with pytest.raises(ValueError, match="labels: expected class numbers from 0 to 9.* serve pretraining only"):
            next(adv.finetune_epochs(start(encoder), images))


def test_too_few_classes_say_how_to_start(encoder):
    state = adv.FinetuneState.start(config(), encoder, 5)
    with pytest.raises(ValueError, match=r"labels: expected class numbers from 0 to 4.*Start the state with len\("):
        next(adv.finetune_epochs(state, IMAGES))
    with pytest.raises(ValueError, match="classes: expected two or more, got 1"):
        adv.FinetuneState.start(config(), encoder, 1)


@every_protocol
@pytest.mark.parametrize("label", [-100, -1, 10])
def test_a_step_refuses_labels_that_no_class_has(encoder, protocol, loss, label):
    with pytest.raises(ValueError, match="labels: expected class numbers from 0 to 9"):
        adv.finetune_step(start(encoder, protocol, loss), IMAGES.x[:2], torch.tensor([0, label]))


def test_a_loss_that_is_not_finite_stops_the_run_with_advice(encoder):
    state = start(encoder, "AFF", learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="loss: expected a finite number.*lower the learning rate"):
        list(adv.finetune_epochs(state, IMAGES, every=1))
