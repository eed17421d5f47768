"""Core-tuning's protocols: the reference's golden step, each part switched off alone, and the adversarial form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_data import stl_root
from test_finetune import FEW, IMAGES, changed, coloured, encoder, own_kl, snapshot, start, watch
from test_losses import focal_by_loop
from test_mixing import DRAW, LABELS, SIGNED

import advcl_nb as adv
from advcl_nb import finetune

CONTRASTING = pytest.mark.parametrize("protocol", ["SupCon", "Core", "AdvCore"])
Y = IMAGES.y[:16]
__all__ = ["encoder", "stl_root"]  # the fixtures


def grid(rows, columns):
    return torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)


def linear(weight, bias):
    layer = torch.nn.Linear(*reversed(weight.shape)).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


@pytest.fixture
def golden(monkeypatch):
    """A state with the reference's projector, classifier (which has no bias) and draw (5.3)."""
    monkeypatch.setattr(finetune, "draw_mixing", lambda *_, **__: DRAW)
    config = adv.FinetuneConfig("Core", core_variant="release")
    state = adv.FinetuneState.start(config, adv.Encoder(adv.ModelConfig(width=5, blocks=(1,))), 4)
    state.classifier.double().linear = linear(torch.cos(0.37 * grid(4, 5)), torch.zeros(4))
    first = linear(0.5 * torch.sin(0.21 * grid(5, 5) + 0.1), 0.05 * torch.arange(5))
    second = linear(0.5 * torch.cos(0.17 * grid(4, 5)), -0.02 * torch.arange(4))
    state.projector = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    return state


def note(monkeypatch, name, about):
    """Let finetune's function `name` run as ever, and note `about` of each call: arguments, options, result."""
    notes, function = [], getattr(finetune, name)

    def noted(*arguments, **options):
        result = function(*arguments, **options)
        notes.append(about(arguments, options, result))
        return result

    monkeypatch.setattr(finetune, name, noted)
    return notes


@pytest.mark.parametrize(
    "features, expected",
    [(SIGNED.abs(), (3.196872756810, 0.153761886364, 0.609373052175, 1.018778191004, 0.000027771236, 0.000031618958)),
     (SIGNED, (1.426215863001, 0.159501090124, 0.291648652983, 0.401835996781, 0.005001183802, 0.004502350343))],
    ids=["non-negative", "signed"],
)  # fmt: skip
def test_the_released_step_has_the_references_values_and_gradients(golden, features, expected):
    features = features.clone().requires_grad_()
    parts, logits = finetune.core_tuning(golden, features, LABELS)
    sum(parts.values()).backward()
    weights = [golden.classifier.linear.weight, golden.projector[0].weight, golden.projector[2].weight]
    found = [parts["ce"].item(), parts["contrast"].item() / 0.1, *(t.grad.norm().item() for t in (features, *weights))]
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[:4] == pytest.approx(expected[:4], rel=1e-9)
    assert torch.equal(logits, golden.classifier.linear(features))


def test_the_paper_variant_is_the_formula_with_gradient_through_the_originals(golden):
    """Soft cross-entropy over all rows plus eta times the mean over positives, as loops."""
    golden.config = replace(golden.config, core_variant="paper", eta=0.3)
    features = SIGNED.clone().requires_grad_()
    parts, _ = finetune.core_tuning(golden, features, LABELS)
    mixed = adv.mix_hard_pairs(features, LABELS, DRAW, rule="paper", classes=4)
    log_p = golden.classifier.linear(mixed.features).log_softmax(1)
    ce = -sum(float(mixed.labels[r] @ log_p[r]) for r in range(24)) / 24
    groups = [*LABELS.tolist(), *(f"negative {i}" for i in range(8)), *LABELS.tolist()]
    rows = F.normalize(golden.projector(mixed.features), dim=1)
    assert parts["ce"].item() == pytest.approx(ce)
    assert parts["contrast"].item() == pytest.approx(0.3 * focal_by_loop(rows, groups, 0.07, release=False))
    gradient = torch.autograd.grad(sum(parts.values()), features)[0]
    small = 1e-6 * torch.ones_like(SIGNED)
    total = lambda f: float(sum(finetune.core_tuning(golden, f, LABELS)[0].values()))  # noqa: E731
    slope = (total(SIGNED + small) - total(SIGNED - small)) / 2e-6  # the choice of pairs does not change
    assert float(gradient.sum()) == pytest.approx(slope, rel=1e-4)


# Each part alone


def one_step(encoder, protocol, **changes):
    state = start(encoder, protocol, padding=None, **changes)
    return state, adv.finetune_step(state, IMAGES.x[:16], Y)


def test_without_its_parts_core_tuning_is_supcon_and_then_cross_entropy(encoder):
    bare = {"mixing": False, "focal": False}
    for simple, core in (
        (one_step(encoder, "SupCon"), one_step(encoder, "Core", **bare)),
        (one_step(encoder, "CE"), one_step(encoder, "Core", **bare, eta=0.0)),
        (one_step(encoder, "CE"), one_step(encoder, "SupCon", eta=0.0)),
    ):
        torch.testing.assert_close(simple[1]["loss"], core[1]["loss"])
        for name, tensor in simple[0].classifier.state_dict().items():
            torch.testing.assert_close(tensor, core[0].classifier.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


def test_supcon_is_cross_entropy_plus_the_supervised_contrastive_loss(encoder):
    state = start(encoder, "SupCon", padding=None, eta=0.7, temperature=0.2)
    model, projector = state.classifier.train(), state.projector
    with torch.no_grad():
        features = model.encoder(adv.to_float(IMAGES.x[:16]), "adv")
        z = F.normalize(projector(features), dim=1)
        expected = F.cross_entropy(model.linear(features), Y)
        contrast = 0.7 * adv.supervised_contrastive(z, Y, 0.2)
    parts = adv.finetune_step(state, IMAGES.x[:16], Y)
    torch.testing.assert_close(parts["ce"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts["contrast"], contrast, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts["loss"], expected + contrast, rtol=1e-5, atol=1e-5)


def test_each_switch_changes_the_part_it_names_alone(encoder):
    whole = one_step(encoder, "Core")[1]
    without = {name: one_step(encoder, "Core", **{name: False})[1] for name in
               ("mixing", "hard_pairs", "focal", "smooth_classifier")}  # fmt: skip
    differ = {
        name: {part for part in ("ce", "contrast") if parts[part] != whole[part]} for name, parts in without.items()
    }
    both = {"ce", "contrast"}
    assert differ == {"mixing": both, "hard_pairs": both, "focal": {"contrast"}, "smooth_classifier": {"ce"}}
    assert without["focal"]["contrast"] > whole["contrast"]  # 1 - p is below 1
    torch.testing.assert_close(without["smooth_classifier"]["ce"], one_step(encoder, "CE")[1]["loss"])


def test_eta_zero_needs_no_projector(encoder):
    state, parts = one_step(encoder, "Core", eta=0.0)
    assert state.projector is None and set(parts) == {"loss", "accuracy"}


def test_the_release_learns_features_from_the_mixed_rows_alone(encoder):
    settings = {"smooth_classifier": False, "eta": 0.0, "weight_decay": 0.0, "momentum": 0.0}
    for variant, frozen in (("release", True), ("paper", False)):
        state = start(encoder, "Core", padding=None, core_variant=variant, **settings)
        before = {name: p.clone() for name, p in state.classifier.encoder.named_parameters()}
        adv.finetune_step(state, IMAGES.x[:16], Y)
        moved = [name for name, p in state.classifier.encoder.named_parameters() if not torch.equal(p, before[name])]
        assert (not moved) == frozen


def test_the_variant_chooses_mining_and_normalisation(encoder, monkeypatch):
    rules = note(monkeypatch, "mix_hard_pairs", lambda given, options, _: options["rule"])
    scales = note(monkeypatch, "focal_contrastive", lambda given, options, _: (options["normalize"], given[1].ndim))
    for changes in ({}, {"core_variant": "release"}, {"hard_pairs": False}):
        one_step(encoder, "Core", **changes)
    assert rules == ["paper", "release", "random"]
    assert scales == [("positives", 1), ("release", 2), ("positives", 1)]  # class numbers, or equality of soft labels


# Its state


@CONTRASTING
def test_the_projector_is_trained_saved_and_not_part_of_the_classifier(encoder, protocol, tmp_path):
    state = start(encoder, protocol)
    assert [tuple(p.shape) for p in state.projector.parameters()] == [(8, 8), (8,), (256, 8), (256,)]
    before = snapshot(state.projector)
    next(adv.finetune_epochs(state, FEW, every=1))
    assert changed(before, state.projector) == set(before)
    again = adv.load(adv.save(state, tmp_path / "run.pt"))
    assert not changed(snapshot(state.projector), again.projector)
    list(adv.finetune_epochs(state, FEW))
    list(adv.finetune_epochs(again, FEW))
    assert not changed(snapshot(state.projector), again.projector)
    assert not changed(snapshot(state.classifier), again.classifier)


def test_rows_name_the_parts(encoder):
    for protocol, parts in (("CE", set()), ("SupCon", {"ce", "contrast"}), ("Core", {"ce", "contrast"})):
        (row, *_) = adv.finetune_epochs(start(encoder, protocol), FEW)
        assert {"ce", "contrast", "divergence"} & set(row) == parts


# The adversarial form


def branches_of(state):
    """Which branch each forward in train mode passes."""
    seen = []

    def hook(module, inputs):
        if module.training:
            seen.append(inputs[1])

    state.classifier.encoder.register_forward_pre_hook(hook)
    return seen


@pytest.mark.parametrize(
    ("pool", "branches"), [("both", ["adv", "clean"]), ("adv", ["adv"]), ("clean", ["adv", "clean"])]
)
def test_clean_images_pass_the_clean_branch_and_adversarial_ones_the_classifiers(encoder, monkeypatch, pool, branches):
    state = start(encoder, "AdvCore", padding=None, pool=pool)
    seen, attacks = branches_of(state), watch(monkeypatch, state)
    pools = note(monkeypatch, "core_tuning", lambda given, *_: (len(given[1]), given[2]))
    parts = adv.finetune_step(state, IMAGES.x[:16], Y)
    assert seen == branches and len(attacks) == 1
    ((size, labels),) = pools
    assert torch.equal(labels, Y.repeat(2) if pool == "both" else Y) and size == len(labels)
    assert ("divergence" in parts) == (pool == "clean")


def test_the_adversarial_pool_adv_is_core_tuning_on_the_attacked_images(encoder, monkeypatch):
    state, twin = (start(encoder, "AdvCore", padding=None, pool="adv") for _ in range(2))
    attacks = watch(monkeypatch, state)
    parts = adv.finetune_step(state, IMAGES.x[:16], Y)
    expected, logits = finetune.core_loss(twin, attacks[0][2], Y)
    for name, part in expected.items():
        torch.testing.assert_close(parts[name], part.detach())
    assert float(parts["accuracy"]) == (logits.argmax(1) == Y).double().mean()


def test_the_pool_clean_adds_trades_divergence(encoder, monkeypatch):
    state, twin = (start(encoder, "AdvCore", padding=None, pool="clean", beta=3.0) for _ in range(2))
    attacks = watch(monkeypatch, state)
    parts = adv.finetune_step(state, IMAGES.x[:16], Y)
    clean, _, attacked, _ = attacks[0]
    model = twin.classifier.train()
    expected = own_kl(model.classify(model.encoder(clean, "clean")), model.classify(model.encoder(attacked, "adv")))
    torch.testing.assert_close(parts["divergence"], 3 * expected.detach(), rtol=1e-4, atol=1e-5)


def test_bare_adversarial_core_tuning_is_cross_entropy_on_clean_and_attacked_images(encoder, monkeypatch):
    bare = {"padding": None, "mixing": False, "eta": 0.0}
    state, twin = (start(encoder, "AdvCore", **bare) for _ in range(2))
    attacks = watch(monkeypatch, state)
    parts = adv.finetune_step(state, IMAGES.x[:16], Y)
    clean, _, attacked, _ = attacks[0]
    model = twin.classifier.train()
    features = [model.encoder(attacked, "adv"), model.encoder(clean, "clean")]
    expected = sum(F.cross_entropy(model.linear(h), Y) for h in features) / 2
    torch.testing.assert_close(parts["loss"], expected.detach(), rtol=1e-5, atol=1e-5)


def test_a_twin_is_a_positive_and_not_preferred_to_a_less_similar_one(encoder, monkeypatch):
    """With epsilon 0 and one branch the twin equals its image: the most similar positive there is."""
    still = adv.Linf(0.0, 0.0, 1, start="none")
    state, mixed, mix = (
        start(encoder, "AdvCore", padding=None, attack=still, branch="clean"),
        [],
        finetune.mix_hard_pairs,
    )
    monkeypatch.setattr(
        finetune, "mix_hard_pairs", lambda h, y, *a, **k: (mixed.append((h, y, mix(h, y, *a, **k))), mixed[0][2])[1]
    )
    adv.finetune_step(state, IMAGES.x[:16], Y)
    features, labels, found = mixed[0]
    torch.testing.assert_close(features[:16], features[16:])
    assert found.has_positive.all()
    twin = (torch.arange(32) + 16) % 32
    lonely = torch.bincount(Y, minlength=10)[labels] == 1
    assert torch.equal(found.hard_positive == twin, lonely)


# Limits and transfer


@pytest.mark.parametrize(
    "labels", [[3] * 16, [0] * 15 + [1], [1, 2], [5, 5]], ids=["one class", "one alone", "two", "pair"]
)
@pytest.mark.parametrize("variant", ["paper", "release"])
@CONTRASTING
def test_hard_batches_train_to_finite_losses(encoder, protocol, variant, labels):
    state = start(encoder, protocol, core_variant=variant)
    parts = adv.finetune_step(state, IMAGES.x[: len(labels)], torch.tensor(labels))
    assert all(value.isfinite() for value in parts.values())
    assert all(tensor.isfinite().all() for tensor in state.classifier.state_dict().values())


def test_a_dead_run_stops_with_advice(encoder):
    with pytest.raises((FloatingPointError, ValueError), match="expected .*finite number.*[Ll]ower the learning rate"):
        list(adv.finetune_epochs(start(encoder, "Core", learning_rate=1e30), IMAGES, every=1))


def test_an_encoder_is_fine_tuned_on_another_set_with_its_own_classes(encoder, tmp_path):
    """As from CIFAR-10 to CIFAR-100: other images, and as many logits as the new set has classes."""
    target = adv.Images(coloured(120, seed=0).x, torch.arange(120) % 100, tuple(map(str, range(100))))
    for protocol in ("SLF", "Core"):
        state = adv.FinetuneState.start(start(encoder, protocol).config, encoder, len(target.classes))
        list(adv.finetune_epochs(state, target))
        again = adv.load(adv.save(state, tmp_path / "transfer.pt"))
        assert again.classifier(adv.to_float(target.x[:2])).shape == (2, 100)


def test_stl10_resized_is_fine_tuned(encoder, stl_root):
    images = adv.load_images("stl10", "train", root=stl_root[0], size=16)
    state = start(encoder, "SLF", batch_size=4)
    rows = list(adv.finetune_epochs(state, images))
    assert len(images.classes) == 10 and rows[-1]["epoch"] == 2 and rows[-1]["loss"] > 0


def test_images_of_other_channels_are_refused(encoder):
    grey = adv.Images(IMAGES.x[:, :1], IMAGES.y, IMAGES.classes)
    with pytest.raises(ValueError, match="images: expected 3 channels, as the model has, got uint8 of shape"):
        next(adv.finetune_epochs(start(encoder), grey))
