"""The robustness report: its numbers against attacks called directly; masked models caught, honest ones not."""

from __future__ import annotations

import foolbox
import pytest
import torch
import torch.nn.functional as F
from defences import Changed, Dynamic
from torch import nn

import advcl_nb as adv
from advcl_nb._masking import Outputs, Point, signs_in_attacks, signs_in_curves, signs_in_outputs

MODEL = adv.ModelConfig(width=8, blocks=(1, 1), stem=(4, 2), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(120, size=16)
EPSILON = 4 / 255
FAST = adv.ReportSettings(steps=10, restarts=2, queries=60, noises=5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(seed):
    encoder = adv.build_model(MODEL, generator=seeded(seed)).encoder
    model = adv.Classifier(encoder, 10, generator=seeded(1), branch="clean").train()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES.x / 255), IMAGES.y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


@pytest.fixture(scope="module")
def model():
    return trained(0)


@pytest.fixture(scope="module")
def other():
    return trained(5)


def report_of(model, images=IMAGES, epsilon=EPSILON, settings=FAST, **options):
    return adv.robustness_report(
        model, images.x, images.y, epsilon=epsilon, generator=seeded(), settings=settings, **options
    )


@pytest.fixture(scope="module")
def report(model, other):
    return report_of(model, transfer_from=other)


def test_every_part_of_the_checklist_is_there(report):
    assert list(report.survived) == ["clean", *report.attacks]
    assert set(report.attacks) == {
        "PGD-20", "PGD-20, 2 restarts", "PGD-10", "FGSM", "APGD-CE", "APGD-DLR", "Square, 60 queries",
        "transfer PGD-20", "noise, 5 draws", "PGD-20 through adv", "PGD-20 through adv_pseudo",
    }  # fmt: skip
    assert report.by_epsilon[0].score == report.clean
    assert report.by_epsilon[-1].score.correct == 0  # until it is 0
    assert [point.at for point in report.by_epsilon[1:4]] == pytest.approx([EPSILON / 2, EPSILON, 2 * EPSILON])
    assert [point.at for point in report.by_steps] == [1, 2, 5, 10]
    assert [point.at for point in report.by_restarts] == [1, 2]
    losses = [point.loss for point in report.by_steps]
    assert losses == sorted(losses)


def test_single_attacks_are_those_called_directly(model, report):
    right = report.survived["clean"]
    x, y = IMAGES.x[right].float() / 255, IMAGES.y[right]
    model.eval()
    fgsm = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, moved, _ = fgsm(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=EPSILON)
    assert torch.equal(report.survived["FGSM"][right], model(moved).argmax(1) == y)
    pyautoattack = pytest.importorskip("pyautoattack")
    with torch.random.fork_rng():
        for loss in ("ce", "dlr"):
            apgd = pyautoattack.autopgd_base.APGDAttack(model, eps=EPSILON, loss=loss, seed=1, device="cpu")
            moved = apgd.perturb(x, y)
            ours = int(report.survived[f"APGD-{loss.upper()}"].sum())
            assert abs(ours - int((model(moved).argmax(1) == y).sum())) <= 3  # other random starts
    model.train()


def test_the_worst_case_is_taken_image_by_image(report):
    alive = [all(bool(right[k]) for right in report.survived.values()) for k in range(len(IMAGES))]
    assert report.worst.correct == sum(alive) <= min(score.correct for score in report.attacks.values())
    for name, score in report.attacks.items():
        assert score.correct == int(report.survived[name].sum()) and score.n == 120
        assert not (report.survived[name] & ~report.survived["clean"]).any()
    assert report.attacks["PGD-20, 2 restarts"].attack == "PGD-20, 4/255, 2 restarts"
    assert report.worst.attack == "worst case, 4/255"


def test_nothing_is_left_changed_and_the_generator_decides(model, other, report):
    model.zero_grad()
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    again = report_of(model, transfer_from=other)
    assert again == report and torch.equal(torch.get_rng_state(), random)
    assert model.training and other.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_twenty_steps_leave_the_first_restart_in_place(model):
    settings = adv.ReportSettings(steps=20, restarts=3, queries=1, noises=1)
    report = report_of(model, IMAGES[:40], epsilon=8 / 255, settings=settings)
    assert not (report.survived["PGD-20, 3 restarts"] & ~report.survived["PGD-20"]).any()


def test_an_honest_model_has_no_sign(report):
    assert report.signs == ()
    assert "signs of gradient masking\n  none found" in repr(report)


MASKS = {
    "quantised logits": (lambda z: (z / 2).round() * 2 + 0 * z, "gradient of exactly zero"),
    "saturated logits": (lambda z: 3000 * z, "gradient of exactly zero"),
    "probabilities": (lambda z: (50 * z).softmax(1), "probabilities, not logits"),
    "random logits": (lambda z: z + 0.3 * torch.randn_like(z), "other outputs the second time"),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_masked_model_is_caught(model, name):
    change, words = MASKS[name]
    masked = report_of(Changed(model, change), IMAGES[:60])
    assert any(words in sign for sign in masked.signs), masked.signs
    assert words in repr(masked)


def test_gradients_that_mislead_are_caught_though_none_is_zero(model):
    """Quantised logits with a small wave on them, whose slope tells nothing of where the logits change."""
    hidden = Changed(model, lambda z: (z / 4).round() * 4 + 1e-3 * torch.sin(1e4 * z))
    signs = report_of(hidden, IMAGES[:60], epsilon=16 / 255).signs
    assert not any("exactly zero" in sign for sign in signs)
    assert any("PGD's loss or step does not suit this model" in sign for sign in signs), signs


def score(correct, n=100):
    return adv.Score("RA", correct, n, "x")


def points(*pairs, loss=None):
    return [Point(at, score(correct), loss and loss(at)) for at, correct in pairs]


STEPS, RESTARTS = points((1, 80), (50, 41), (100, 40), loss=float), points((1, 50), (5, 45), (10, 44))


@pytest.mark.parametrize(
    ("epsilons", "steps", "restarts", "words"),
    [
        (points((0, 90), (1, 20)), STEPS, RESTARTS, "20.0% survive an epsilon of 1"),
        (points((0, 90), (0.1, 20), (0.2, 30), (1, 0)), STEPS, RESTARTS, "accuracy rises with epsilon, at 0.2"),
        (points((0, 90), (1, 0)), points((1, 40), (100, 40), loss=lambda at: -at), RESTARTS, "the loss does not rise"),
        (points((0, 90), (1, 0)), points((1, 9), (50, 9), (100, 4), loss=float), RESTARTS, "from 50 to 100 steps"),
        (points((0, 90), (1, 0)), STEPS, points((1, 50), (5, 45), (10, 40)), "from 5 to 10 restarts"),
    ],
)
def test_each_sign_in_a_curve(epsilons, steps, restarts, words):
    (sign,) = signs_in_curves(epsilons, steps, restarts)
    assert words in sign
    assert not list(signs_in_curves(points((0, 90), (1, 0)), STEPS, RESTARTS))


def test_each_sign_among_attacks():
    def alive(*numbers):
        return torch.isin(torch.arange(100), torch.tensor(numbers or (100,)))

    honest = {"clean": alive(*range(90)), "FGSM": alive(*range(60)), "PGD-20": alive(*range(50))}
    honest |= {"APGD-DLR": alive(*range(45)), "Square, 9 queries": alive(*range(70))}
    assert not list(signs_in_attacks(honest))
    for change, words in (
        ({"Square, 9 queries": alive(*range(3, 90))}, "Square, 9 queries breaks 3 images that no white-box"),
        ({"PGD-20 through adv": alive(*range(40))}, "PGD-20 through adv breaks 5 images"),
        ({"FGSM": alive(*range(46))}, "FGSM is stronger than PGD-20 (46.0% against 50.0%)"),
        ({"APGD-DLR": alive(*range(30))}, "PGD leaves 50.0% right and APGD 30.0%"),
    ):
        (sign,) = signs_in_attacks(honest | change)
        assert words in sign


def test_outputs_that_are_honest_have_no_sign():
    logits = torch.randn(20, 10, generator=seeded())
    assert not list(signs_in_outputs(Outputs(logits, logits, 0), 20))
    assert not list(signs_in_outputs(Outputs(logits, logits + 1e-6, 2), 20))


def test_few_images_give_no_false_alarm():
    def alive(count, n=20):
        return torch.arange(n) < count

    honest = {"clean": alive(18), "FGSM": alive(9), "PGD-20": alive(10), "APGD-CE": alive(8), "APGD-DLR": alive(8)}
    assert not list(signs_in_attacks(honest))
    assert list(signs_in_attacks(honest | {"FGSM": alive(6)}))


def test_convergence_is_judged_over_twice_the_steps():
    falling = points((1, 80), (20, 60), (50, 40), (60, 39), loss=float)
    (sign,) = signs_in_curves(points((0, 90), (1, 0)), falling, RESTARTS)
    assert "from 20 to 60 steps" in sign


def test_outputs_without_a_number_are_a_sign():
    logits = torch.randn(20, 10, generator=seeded())
    logits[3, 4] = torch.nan
    assert any("not finite" in sign for sign in signs_in_outputs(Outputs(logits, logits, 0), 20))
    nowhere = points((1, 40), (100, 40), loss=lambda at: float("nan"))
    assert any("does not rise" in sign for sign in signs_in_curves(points((0, 90), (1, 0)), nowhere, RESTARTS))


def test_a_model_that_optimises_inside_is_caught(model):
    assert any("optimisation inside the forward pass" in sign for sign in report_of(Dynamic(model), IMAGES[:20]).signs)


def test_the_model_to_transfer_from_is_checked(model):
    for wrong, words in (
        (model.encoder, "model: expected a model that gives logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), "labels: expected numbers of 3 classes"),
    ):
        with pytest.raises(ValueError, match=words):
            report_of(model, transfer_from=wrong)


def test_l2_and_a_card(model, tmp_path):
    report = report_of(model, IMAGES[:40], epsilon=0.3, norm="L2")
    assert report.ball == "L2 0.3" and report.attacks["PGD-20"].attack == "PGD-20, L2 0.3"
    assert "against epsilon: 0: " in repr(report)
    card = adv.make_card(adv.preset("smoke"), "SLF", report, seconds=1.0, checkpoint=None, note="report")
    adv.write_card(card, tmp_path)
    (read,) = adv.read_cards(tmp_path)
    assert read.scored == report.scores


def test_a_plain_module_has_no_branches_and_few_classes_no_dlr():
    labels = IMAGES.y[:40] % 2
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with torch.no_grad():
        labels = net(IMAGES.x[:40] / 255).argmax(1)
    report = adv.robustness_report(net, IMAGES.x[:40], labels, epsilon=EPSILON, generator=seeded(), settings=FAST)
    assert "APGD-DLR" not in report.attacks and not any("through" in name for name in report.attacks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 8}, "For 8 grey levels write 8 / 255"),
        ({"norm": "L1"}, "norm: expected one of Linf, L2, got 'L1'"),
    ],
)
def test_bad_settings_are_refused(model, options, words):
    with pytest.raises(ValueError, match=words):
        report_of(model, **options)
    with pytest.raises(ValueError, match="steps: expected a whole number from 1, got 0"):
        adv.ReportSettings(steps=0)


def test_a_model_that_is_never_right_is_refused(model):
    wrong = (model.eval()(IMAGES.x / 255).argmax(1) + 1) % 10
    model.train()
    with pytest.raises(ValueError, match="model: expected one that is right on some of the images"):
        adv.robustness_report(model, IMAGES.x, wrong, epsilon=EPSILON, generator=seeded(), settings=FAST)


def test_the_figure_says_what_was_found(model, report):
    picture = adv.show_report(report, name="SimCLR")
    assert picture.get_suptitle().startswith("SimCLR: no sign of gradient masking; worst case ")
    words = [text.get_text() for axes in picture.axes for text in axes.texts]
    assert f"{100 * report.worst.value:.1f}" in words and len(picture.axes) == 5
    masked = report_of(Changed(model, MASKS["quantised logits"][0]), IMAGES[:20])
    picture = adv.show_report(masked)
    assert "signs of gradient masking" in picture.get_suptitle() and picture.get_supxlabel().startswith("- ")
    assert picture._repr_png_()[:4] == b"\x89PNG"
