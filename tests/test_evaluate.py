"""Scores: their interval and text, what they count, and that the model comes back as it was."""

from __future__ import annotations

import foolbox
import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import nn

import advcl_nb as adv
from advcl_nb import _batched

MODEL = adv.ModelConfig(width=8, blocks=(1, 1), stem=(4, 2), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(120, size=16)
WEAK = adv.Linf(4 / 255, 1 / 255, 5, start="none")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained():
    """A small classifier that is right on most of IMAGES, and under WEAK on some."""
    encoder = adv.build_model(MODEL, generator=seeded()).encoder
    model = adv.Classifier(encoder, 10, generator=seeded(1), branch="clean").train()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(adv.to_float(IMAGES.x)), IMAGES.y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


# The score


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (1, 7), (432, 1000), (9999, 10000)])
def test_the_interval_is_wilsons(correct, n):
    score = adv.Score("SA", correct, n)
    oracle = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert score.value == correct / n
    assert score.low == pytest.approx(oracle.low, abs=1e-12) and score.high == pytest.approx(oracle.high, abs=1e-12)
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_the_text_names_attack_count_and_interval():
    score = adv.Score("RA", 432, 1000, "PGD-20, 8/255")
    assert repr(score) == str(score) == "RA[PGD-20, 8/255] 43.2% (432/1000, 95% 40.2-46.3)"
    assert repr(adv.Score("SA", 3, 3)) == "SA 100.0% (3/3, 95% 43.9-100.0)"


def test_an_impossible_score_is_refused():
    for correct, n in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match=f"correct: expected a count of {n} images, got {correct}"):
            adv.Score("SA", correct, n)
    with pytest.raises(ValueError, match="metric: expected one of SA, RA, AA, CA, got 'accuracy'"):
        adv.Score("accuracy", 1, 2)


# Clean accuracy


def test_standard_accuracy_counts_as_a_loop_does(trained):
    twin = trained.eval()
    with torch.no_grad():
        answers = [int(twin(x[None].float() / 255).argmax()) for x in IMAGES.x]
    right = sum(answer == int(y) for answer, y in zip(answers, IMAGES.y, strict=True))
    score = adv.standard_accuracy(trained, IMAGES.x, IMAGES.y)
    assert (score.metric, score.correct, score.n, score.attack) == ("SA", right, 120, None)
    assert 0.5 < score.value < 1  # a count that a constant answer would not give


def test_a_model_of_known_answers_gets_a_known_score():
    answers = torch.arange(600) % 3  # three batches, the last one partly filled
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    model[1].weight.data = torch.eye(3)
    images = F.one_hot(answers, 3).float()[:, :, None, None]
    labels = answers.clone()
    labels[::4] = (labels[::4] + 1) % 3
    assert adv.standard_accuracy(model, images, labels).correct == 450


# Accuracy under attack


def binary_linear(seed=0, n=300):
    """A linear model of two classes on mid-grey images, where the worst perturbation is known in closed form."""
    generator = seeded(seed)
    images = 0.3 + 0.4 * torch.rand(n, 1, 4, 4, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    weight = torch.randn(2, 16, generator=generator)
    model[1].weight.data, model[1].bias.data = weight, -weight.sum(1) / 2
    logits = model(images).detach()
    wrong = torch.rand(n, generator=generator) < 0.1
    labels = logits.argmax(1) ^ wrong
    margin = logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, 1 - labels[:, None])[:, 0]
    return model, images, labels, margin, (weight[1] - weight[0]).abs().sum()


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_against_a_linear_model_the_attack_is_the_closed_form(start):
    model, images, labels, margin, norm = binary_linear()
    counts = []
    for epsilon in (0.0, 0.005, 0.02, 0.05, 0.2):
        threat = adv.Linf(epsilon, epsilon, 3, start=start)
        score = adv.robust_accuracy(model, images, labels, threat, generator=seeded())
        assert score.correct == int((margin - epsilon * norm > 0).sum()), epsilon
        counts.append(score.correct)
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 5
    assert counts[0] == adv.standard_accuracy(model, images, labels).correct


def test_pgd_20_is_the_score_that_the_field_reports(trained):
    threat = adv.Linf(8 / 255, 2 / 255, 20)
    score = adv.robust_accuracy(trained, IMAGES.x[:20], IMAGES.y[:20], threat, generator=seeded())
    assert (score.metric, score.n, score.attack) == ("RA", 20, "PGD-20, 8/255")
    assert repr(score).startswith("RA[PGD-20, 8/255] ")
    l2 = adv.robust_accuracy(trained, IMAGES.x[:4], IMAGES.y[:4], adv.L2(0.5, 0.1, 2), generator=seeded())
    assert l2.attack == "PGD-2, L2 0.5"


def test_the_score_is_foolboxes(trained):
    reference = foolbox.PyTorchModel(trained.eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=WEAK.alpha, steps=WEAK.steps, random_start=False)
    _, _, fooled = attack(reference, adv.to_float(IMAGES.x), IMAGES.y, epsilons=WEAK.epsilon)
    score = adv.robust_accuracy(trained, IMAGES.x, IMAGES.y, WEAK, generator=seeded())
    assert score.correct == int((~fooled).sum())
    assert 10 < score.correct < adv.standard_accuracy(trained, IMAGES.x, IMAGES.y).correct - 10


def test_an_attack_of_epsilon_zero_leaves_the_clean_accuracy(trained):
    clean = adv.standard_accuracy(trained, IMAGES.x, IMAGES.y)
    for start in ("none", "uniform", "gaussian"):
        threat = adv.Linf(0.0, 1 / 255, 3, start=start)
        assert adv.robust_accuracy(trained, IMAGES.x, IMAGES.y, threat, generator=seeded()).correct == clean.correct


def test_an_image_counts_where_every_restart_leaves_it_right():
    """A first pixel of 1/2 and noise without ascent: each restart is right with probability 1/2 for each image."""
    images, labels = torch.full((240, 1, 2, 2), 0.5), torch.zeros(240, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    model[1].bias.data = torch.tensor([-0.5, 0.5])
    threat, correct = adv.Linf(0.1, 0.0, 0), []
    for restarts in (1, 2, 4):
        score = adv.robust_accuracy(model, images, labels, threat, generator=seeded(), restarts=restarts)
        correct.append(score.correct)
        assert score.attack == "PGD-0, 25.5/255" + (f", {restarts} restarts" if restarts > 1 else "")
        assert binomtest(score.correct, 240, 0.5**restarts).pvalue > 0.001
    assert correct[0] > correct[1] > correct[2]
    with pytest.raises(ValueError, match="restarts: expected a whole number from 1, got 0"):
        adv.robust_accuracy(model, images, labels, threat, generator=seeded(), restarts=0)


def test_restarts_only_lower_the_score_of_a_trained_model(trained):
    threat, xy = adv.Linf(4 / 255, 1 / 255, 2), (IMAGES.x, IMAGES.y)
    scores = [adv.robust_accuracy(trained, *xy, threat, generator=seeded(), restarts=r) for r in (1, 2, 4)]
    correct = [score.correct for score in scores]
    assert correct == sorted(correct, reverse=True)


def test_the_generator_alone_decides(trained):
    threat = adv.Linf(2 / 255, 1 / 255, 1)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    a, b = (adv.robust_accuracy(trained, IMAGES.x, IMAGES.y, threat, generator=seeded(3)) for _ in range(2))
    assert a == b and torch.equal(torch.rand(2), expected)


# Inputs


def test_uint8_and_float_images_get_the_same_score(trained):
    threat = adv.Linf(2 / 255, 1 / 255, 3)
    floats = IMAGES.x.float() / 255
    assert adv.standard_accuracy(trained, floats, IMAGES.y) == adv.standard_accuracy(trained, IMAGES.x, IMAGES.y)
    a = adv.robust_accuracy(trained, floats, IMAGES.y, threat, generator=seeded())
    assert a == adv.robust_accuracy(trained, IMAGES.x, IMAGES.y, threat, generator=seeded())
    assert torch.equal(floats, IMAGES.x.float() / 255)  # and stay as they were


def test_the_batch_size_does_not_matter(trained, monkeypatch):
    model = adv.Classifier(trained.encoder.copy(), 10, generator=seeded(), branch="clean")
    model.load_state_dict(trained.state_dict())
    x = IMAGES.x.double() / 255  # in float64, so that a kernel's rounding cannot turn a sign
    scores = set()
    for size in (7, 120, 250):
        monkeypatch.setattr(_batched, "BATCH", size)
        robust = adv.robust_accuracy(model.double(), x, IMAGES.y, WEAK, generator=seeded())
        scores.add((adv.standard_accuracy(model, x, IMAGES.y).correct, robust.correct))
    assert len(scores) == 1


def test_a_label_for_each_image_is_required(trained):
    for n, words in (
        (119, "labels: expected 120 int64 class numbers"),
        (0, "images: expected one uint8"),
    ):
        x, y = IMAGES.x[: n and 120], IMAGES.y[:n]
        with pytest.raises(ValueError, match=words):
            adv.standard_accuracy(trained, x, y)
        with pytest.raises(ValueError, match=words):
            adv.robust_accuracy(trained, x, y, WEAK, generator=seeded())


# The model comes back as it was


class Watched(nn.Module):
    """A model with batch norm and dropout that notes how it was called, and can fail."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 10)
        self.calls, self.fails = [], False

    def forward(self, x):
        if self.fails:
            raise RuntimeError("out of order")
        logits = self.linear(self.drop(self.norm(x)).flatten(1))
        self.calls.append((any(module.training for module in self.modules()), x.dtype, logits.dtype))
        return logits


def condition(model):
    modes = [module.training for module in model.modules()]
    return modes, [p.requires_grad for p in model.parameters()], {k: v.clone() for k, v in model.state_dict().items()}


def same_condition(a, b):
    return a[:2] == b[:2] and all(torch.equal(t, b[2][name]) for name, t in a[2].items())


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_comes_back_as_it_was(fails):
    model = Watched().train()
    model.norm.eval()  # a frozen part of a model in training
    model.norm.weight.requires_grad_(False)
    model.fails = fails
    before = condition(model)
    for score in (
        lambda: adv.standard_accuracy(model, IMAGES.x, IMAGES.y),
        lambda: adv.robust_accuracy(model, IMAGES.x, IMAGES.y, adv.Linf(8 / 255, 2 / 255, 2), generator=seeded()),
    ):
        if fails:
            with pytest.raises(ValueError, match="out of order"):
                score()
        else:
            score()
            assert not any(training for training, *_ in model.calls)
        assert same_condition(before, condition(model))
        assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()


def test_gradients_already_there_are_kept():
    model = Watched().eval()
    model(torch.rand(2, 3, 16, 16, generator=seeded())).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    adv.robust_accuracy(model, IMAGES.x, IMAGES.y, WEAK, generator=seeded())
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))


def test_evaluation_is_in_float32_under_autocast_too():
    model = Watched()
    plain = adv.standard_accuracy(model, IMAGES.x, IMAGES.y)
    robust = adv.robust_accuracy(model, IMAGES.x, IMAGES.y, WEAK, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert adv.standard_accuracy(model, IMAGES.x, IMAGES.y) == plain
        assert adv.robust_accuracy(model, IMAGES.x, IMAGES.y, WEAK, generator=seeded()) == robust
        assert model(torch.rand(1, 3, 16, 16)).dtype == torch.bfloat16  # which is on again afterwards
    assert {call[1:] for call in model.calls[:-1]} == {(torch.float32, torch.float32)}


def test_a_bfloat16_encoder_is_evaluated_in_float32(trained):
    full = adv.Classifier(trained.encoder.copy(), 10, generator=seeded(), branch="clean")
    full.load_state_dict(trained.state_dict())
    half, logits = adv.Classifier(trained.encoder.copy(), 10, generator=seeded(), branch="clean"), []
    half.load_state_dict(trained.state_dict())
    half.encoder.precision = torch.bfloat16
    half.register_forward_hook(lambda *call: logits.append(call[2].detach()))
    adv.standard_accuracy(half, IMAGES.x, IMAGES.y)
    with torch.no_grad():
        assert torch.equal(torch.cat(logits[1:]), full.eval()(IMAGES.x.float() / 255))
        assert not torch.equal(
            half.eval()(IMAGES.x.float() / 255), torch.cat(logits[1:])
        )  # precision makes a difference
    assert half.encoder.precision == torch.bfloat16


@pytest.mark.parametrize(("scale", "label", "text"), [(255.0, 0, "floats in"), (1.0, -1, "class numbers from 0")])
def test_what_would_give_a_silent_wrong_accuracy_is_refused(scale, label, text):
    images, labels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * scale, torch.full((4,), label)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    with pytest.raises(ValueError, match=text):
        adv.standard_accuracy(model, images, labels)


def test_an_encoder_is_no_classifier():
    with pytest.raises(
        ValueError, match="model: expected a model that gives logits, got .*Encoder.*Fine-tune one first"
    ):
        adv.standard_accuracy(adv.Encoder(adv.preset("smoke").model), IMAGES.x, IMAGES.y)


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x.float() / 255 - 0.5, y), "images: expected uint8, or floats in"),
        (lambda x, y: (x[0], y[:3]), "images: expected one uint8 or float image"),
        (lambda x, y: (x, y + 5), "labels: expected numbers of 10 classes"),
        (lambda x, y: (x, y[:, None]), "labels: expected 120 int64 class numbers"),
        (lambda x, y: (x, y.float()), "labels: expected 120 int64 class numbers"),
        (lambda x, y: (x.numpy(), y), "images: expected a tensor, got <class 'numpy.ndarray'>"),
        (lambda x, y: (adv.Images(x, y, tuple("abcdefghij")), y), "Write images.x and images.y"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(unchecked, trained, change, words):
    x, y = change(IMAGES.x, IMAGES.y)
    with pytest.raises(ValueError, match=words):
        adv.standard_accuracy(trained, x, y)
    with pytest.raises(ValueError, match=words):
        adv.robust_accuracy(trained, x, y, WEAK, generator=seeded())


def test_a_model_that_gives_no_logits_is_refused(trained):
    class Pair(nn.Module):
        def forward(self, x):
            return trained(x), x

    for model in (Pair(), adv.build_model(MODEL, generator=seeded())):
        with pytest.raises(ValueError, match="model: expected"):
            adv.standard_accuracy(model, IMAGES.x, IMAGES.y)


def test_images_that_the_model_cannot_take_are_told_with_the_models_own_words(trained):
    with pytest.raises(ValueError, match=r"\(1, 16, 16, 3\).*expected input.*images\.permute\(0, 3, 1, 2\)") as error:
        adv.standard_accuracy(trained, IMAGES.x.permute(0, 2, 3, 1), IMAGES.y)
    assert isinstance(error.value.__cause__, RuntimeError)
