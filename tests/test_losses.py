"""Losses against loops written from their formulas and the golden values of the AdvCL release."""

import math

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import advcl_nb as adv

RELEASE = 0.5 / 0.07  # the release's loss is this constant times ours
GOLDEN = [  # images, views: the release's SupConLoss without labels, with labels i mod 2, norm of grad, grad[0, 0, 0]
    (4, 2, 3.8428075127, 22.2433554699, 4.0345577537, 0.1791225693),
    (4, 3, 9.0304045474, 12.9577169986, 3.0646144879, 0.0112725906),
    (4, 4, 12.6561334902, 14.4968587206, 2.2856745030, -0.2237452323),
    (8, 4, 16.1982719402, 23.3265879490, 1.8231660686, -0.0785362893),
]


def golden_features(b: int, v: int, d: int = 16) -> Tensor:
    """The reference's input, ``(b, v, d)``."""
    n = torch.arange(b * v * d, dtype=torch.float64).reshape(b, v, d)
    return F.normalize(torch.sin(0.731 * n + torch.arange(v)[None, :, None]), dim=2)


def unit_vectors(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def contrastive_by_loop(rows: list[Tensor], groups: list[int], temperature: float) -> float:
    """Mean over anchors that have a positive of the mean over positives of -log softmax, from the formula."""
    losses = []
    for a, anchor in enumerate(rows):
        others = [k for k in range(len(rows)) if k != a]
        positives = [k for k in others if groups[k] == groups[a]]
        total = sum(math.exp(float(anchor @ rows[k]) / temperature) for k in others)
        terms = [float(anchor @ rows[p]) / temperature - math.log(total) for p in positives]
        if terms:
            losses.append(-sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("b, v, value, _, norm, entry", GOLDEN)
def test_nt_xent_golden_values_and_gradients(b, v, value, _, norm, entry):
    z = golden_features(b, v).requires_grad_()
    loss = RELEASE * adv.multi_view_nt_xent(z.transpose(0, 1), 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-9)
    assert z.grad.norm().item() == pytest.approx(norm, abs=1e-9)
    assert z.grad[0, 0, 0].item() == pytest.approx(entry, abs=1e-9)


@pytest.mark.parametrize("b, v, _, value, norm, entry", GOLDEN)
def test_supervised_golden_values(b, v, _, value, norm, entry):
    views = golden_features(b, v).transpose(0, 1)
    assert RELEASE * adv.supervised_contrastive(views, torch.arange(b) % 2, 0.5).item() == pytest.approx(
        value, abs=1e-9
    )


@pytest.mark.parametrize("v, n", [(2, 1), (2, 5), (3, 4), (4, 3), (5, 2)])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_nt_xent_equals_a_loop(v, n, temperature):
    z = unit_vectors(v, n, 6)
    expected = contrastive_by_loop(list(z.flatten(0, 1)), list(range(n)) * v, temperature)
    assert adv.multi_view_nt_xent(z, temperature).item() == pytest.approx(expected, abs=1e-12)


def test_two_views_are_simclrs_nt_xent():
    first, second = unit_vectors(2, 7, 5)
    rows = torch.cat([first, second])
    logits = (rows @ rows.T / 0.5).masked_fill(torch.eye(14, dtype=torch.bool), -torch.inf)
    expected = F.cross_entropy(logits, torch.arange(14).roll(7))
    torch.testing.assert_close(adv.multi_view_nt_xent([first, second], 0.5), expected)


def test_a_sequence_and_a_stack_give_the_same_and_the_order_of_views_does_not_matter():
    z = unit_vectors(4, 5, 8)
    stacked = adv.multi_view_nt_xent(z, 0.5)
    for sequence in (list(z), tuple(z), [z[2], z[0], z[3], z[1]]):
        torch.testing.assert_close(adv.multi_view_nt_xent(sequence, 0.5), stacked)


@pytest.mark.parametrize("b", [2, 8, 512])
def test_a_collapsed_embedding_costs_the_log_of_the_number_of_others(b):
    z = torch.zeros(4, b, 3)
    z[..., 0] = 1
    loss = adv.multi_view_nt_xent(z, 0.5).item()
    assert loss == pytest.approx(math.log(4 * b - 1), abs=1e-5)
    assert b != 512 or loss * RELEASE == pytest.approx(54.458, abs=1e-3)


def test_nt_xent_stays_finite_in_float32_at_low_temperature():
    z = unit_vectors(4, 64, 16).float().requires_grad_()
    loss = adv.multi_view_nt_xent(z, 0.01)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    torch.testing.assert_close(loss.double(), adv.multi_view_nt_xent(z.detach().double(), 0.01), rtol=1e-5, atol=0)


def test_gradients_are_the_derivatives():
    z, labels = unit_vectors(3, 4, 5).requires_grad_(), torch.tensor([0, 1, 0, 2])
    assert torch.autograd.gradcheck(lambda z: adv.multi_view_nt_xent(z, 0.5), z)
    assert torch.autograd.gradcheck(lambda z: adv.supervised_contrastive(z, labels, 0.5), z)
    assert torch.autograd.gradcheck(
        lambda z: adv.supervised_contrastive(z, labels, 0.5), z[0].detach().requires_grad_()
    )


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 1, 2, 3, 4], [3, 3, 3, 3, 3], [0, 0, 0, 1, 7]])
@pytest.mark.parametrize("v", [1, 2, 3])
def test_supervised_equals_a_loop_that_leaves_lonely_anchors_out(labels, v):
    z = unit_vectors(v, 5, 6)
    expected = contrastive_by_loop(list(z.flatten(0, 1)), labels * v, 0.3)
    forms = [z] if v > 1 else [z, z[0]]
    for form in forms:
        assert adv.supervised_contrastive(form, torch.tensor(labels), 0.3).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_supervised_without_any_positive_is_zero_and_has_a_zero_gradient(n):
    z = unit_vectors(n, 4).requires_grad_()
    loss = adv.supervised_contrastive(z, torch.arange(n), 0.5)
    loss.backward()
    assert loss.item() == 0 and torch.equal(z.grad, torch.zeros(n, 4, dtype=torch.float64))


def test_numbers_that_are_not_finite_are_refused():
    for z in (torch.full((3, 4), torch.nan), torch.full((3, 4), torch.inf)):
        with pytest.raises(ValueError, match="embeddings: expected finite numbers"):
            adv.supervised_contrastive(z, torch.zeros(3, dtype=torch.int64), 0.5)


def test_supervised_with_one_label_per_image_is_nt_xent():
    z = unit_vectors(3, 6, 8)
    torch.testing.assert_close(adv.supervised_contrastive(z, torch.arange(6), 0.5), adv.multi_view_nt_xent(z, 0.5))


# The reference's golden values of Core-tuning's release: focal loss, norm of its gradient, grad[0, 0]; then the mean
# over positives and the plain supervised contrastive loss, each with the norm of its gradient.
SOFT = "soft"
FOCAL = [
    ((8, 4), [0, 1] * 4, (4.612204432464, 4.085405233843, -0.261528166998), (12.299211819905, 10.894413956915),
     (12.338946102102, 10.861791043506)),
    ((12, 6), [0, 1, 2] * 4, (2.674708491230, 2.171003633604, -0.092858097053), (10.698833964920, 8.684014534416),
     (10.743166719313, 8.664890067672)),
    ((9, 5), [0, 0, 0, 1, 1, 1, 2, 2, 3], (1.513971969748, 1.835130533664, -0.198793769078),
     (8.300471536164, 10.730163009824), (8.390572895968, 10.643448180413)),
    ((18, 6), SOFT, (0.981669865822, 1.109123622402, 0.041061339259), (11.691152734149, 12.749222371408), None),
]  # fmt: skip


def focal_input(n: int, d: int) -> Tensor:
    k = torch.arange(n * d, dtype=torch.float64).view(n, d)
    return F.normalize(torch.sin(0.731 * k + 0.013 * k**2 + 0.4), dim=1).requires_grad_()


def soft_labels() -> Tensor:
    """Case D of the reference: rows 6 and 11 are one-hot again and join classes 0 and 2."""
    i, e = torch.arange(6), torch.eye(4, dtype=torch.float64)
    share = ((i + 0.5) / 6).double()[:, None]
    return torch.cat([e[i % 3], 0.2 * e[i % 3] + 0.8 * e[i // 2 % 3], share * e[i % 3] + (1 - share) * e[3]])


def focal_by_loop(rows: Tensor, labels: list, temperature: float, release: bool, gamma: float = 1.0) -> float:
    """Section 1.5 of the reference, written as loops."""
    n, total, anchors = len(rows), 0.0, 0
    for i in range(n):
        exps = [0.0 if k == i else math.exp(float(rows[i] @ rows[k]) / temperature) for k in range(n)]
        positives = [j for j in range(n) if j != i and labels[j] == labels[i]]
        shares = [exps[j] / sum(exps) for j in positives]
        if positives:
            anchors += 1
            total += sum(-((1 - p) ** gamma) * math.log(p) for p in shares) / (n if release else len(positives))
    return total / anchors if anchors else 0.0


@pytest.mark.parametrize("shape, labels, release, positives, plain", FOCAL)
def test_focal_golden_values_and_gradients(shape, labels, release, positives, plain):
    given = soft_labels() if labels == SOFT else torch.tensor(labels)
    for options, expected in (({"normalize": "release"}, release), ({"normalize": "positives"}, positives),
                              ({"normalize": "positives", "gamma": 0.0}, plain)):  # fmt: skip
        if expected:
            z = focal_input(*shape).detach().requires_grad_()
            loss = adv.focal_contrastive(z, given, 0.07, **options)
            loss.backward()
            found = [loss.item(), z.grad.norm().item(), z.grad[0, 0].item()]
            assert found[: len(expected)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 1, 2, 3, 4], [3, 3, 3, 3, 3], [0, 0, 0, 1, 7]])
@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_equals_a_loop(labels, release, gamma):
    z = unit_vectors(5, 4)
    loss = adv.focal_contrastive(
        z, torch.tensor(labels), 0.3, normalize="release" if release else "positives", gamma=gamma
    )
    assert loss.item() == pytest.approx(focal_by_loop(z, labels, 0.3, release, gamma), abs=1e-12)


@pytest.mark.parametrize("normalize", ["release", "positives"])
def test_focal_gradient_equals_finite_differences_through_the_weight_too(normalize):
    z, labels = unit_vectors(6, 4).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda z: adv.focal_contrastive(z, labels, 0.3, normalize=normalize), z)


def test_focal_closed_forms():
    collapsed, classes = F.normalize(torch.ones(6, 3, dtype=torch.float64), dim=1), torch.tensor([0, 0, 0, 1, 1, 1])
    loss = adv.focal_contrastive(collapsed, classes, 0.07, normalize="release")
    assert loss.item() == pytest.approx(2 * 0.8 * math.log(5) / 6, abs=1e-12)
    clusters = torch.eye(2, dtype=torch.float64)[classes]
    assert adv.focal_contrastive(clusters, classes, 0.07, normalize="release").item() == pytest.approx(
        0.1155247946, abs=1e-10
    )


@pytest.mark.parametrize("n, labels", [(1, [0]), (2, [0, 0]), (3, [0, 1, 2])])
@pytest.mark.parametrize("normalize", ["release", "positives"])
def test_focal_is_zero_and_never_nan_in_its_limits(n, labels, normalize):
    z = unit_vectors(n, 4).requires_grad_()
    loss = adv.focal_contrastive(z, torch.tensor(labels), 0.07, normalize=normalize)
    loss.backward()
    assert loss.item() == 0 and torch.equal(z.grad, torch.zeros_like(z))


def test_soft_labels_of_a_hundred_classes_are_told_apart_exactly():
    one_hot = torch.eye(100)
    z = unit_vectors(100, 8).float()
    assert adv.focal_contrastive(z, one_hot, 0.07).item() == 0  # no two classes are taken for one
    nearly = torch.cat([one_hot[:1] * 0.2 + one_hot[9:10] * 0.8, one_hot[1:2] * 0.2 + one_hot[9:10] * 0.8])
    assert adv.focal_contrastive(z[:2], nearly, 0.07).item() == 0  # the release's hash takes these two for one
    twice = torch.cat([one_hot, one_hot])
    rows = unit_vectors(200, 8).float()
    by_number = adv.focal_contrastive(rows, torch.arange(100).repeat(2), 0.07)
    assert torch.equal(adv.focal_contrastive(rows, twice, 0.07), by_number) and by_number > 0


@pytest.mark.parametrize(
    "change, message",
    [({"temperature": 0.0}, "temperature: expected a positive number"), ({"gamma": 0.5}, "gamma: expected 0, or"),
     ({"normalize": "mean"}, "normalize: expected one of positives, release"),
     ({"labels": torch.arange(4)}, "labels: expected .* with one for each of 3"),
     ({"embeddings": torch.full((3, 4), torch.nan)}, "embeddings: expected finite numbers")],
)  # fmt: skip
def test_wrong_input_of_the_focal_loss_raises(change, message, unchecked):
    given = {
        "embeddings": unit_vectors(3, 4),
        "labels": torch.zeros(3, dtype=torch.int64),
        "temperature": 0.07,
    } | change
    with pytest.raises(ValueError, match=message):
        adv.focal_contrastive(given.pop("embeddings"), given.pop("labels"), given.pop("temperature"), **given)


def test_pseudo_label_loss_equals_loops_over_images_and_heads():
    counts, n = (2, 5, 10), 7
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(n, k, dtype=torch.float64, generator=generator) for k in counts]
    labels = torch.stack([torch.randint(k, (n,), generator=generator) for k in counts], 1)
    terms = [
        math.log(sum(math.exp(value) for value in logits[j][i].tolist())) - logits[j][i, labels[i, j]].item()
        for i in range(n)
        for j in range(len(counts))
    ]
    assert adv.pseudo_label_loss(logits, labels).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_pseudo_label_loss_of_flat_logits_is_the_mean_log_count():
    counts = (2, 10, 50, 100, 500)
    loss = adv.pseudo_label_loss([torch.zeros(4, k) for k in counts], torch.zeros(4, 5, dtype=torch.int64))
    assert loss.item() == pytest.approx(sum(map(math.log, counts)) / 5, abs=1e-6)
    assert 0.2 * loss.item() == pytest.approx(0.709, abs=1e-3)  # the reference's value for the release


def test_trades_loss_is_as_trades_writes_it():
    generator = torch.Generator().manual_seed(0)
    clean, adversarial = torch.randn(2, 9, 10, dtype=torch.float64, generator=generator)
    labels = torch.randint(10, (9,), generator=generator)
    divergence = F.kl_div(F.log_softmax(adversarial, 1), F.softmax(clean, 1), reduction="sum") / 9
    torch.testing.assert_close(adv.kl_divergence(clean, adversarial), divergence)
    expected = F.cross_entropy(clean, labels) + 6.0 * divergence
    torch.testing.assert_close(adv.trades_loss(clean, adversarial, labels, 6.0), expected)
    assert adv.kl_divergence(clean, clean).item() == pytest.approx(0, abs=1e-15)
    assert adv.kl_divergence(clean, adversarial) != adv.kl_divergence(adversarial, clean)


def test_trades_stays_finite_where_a_probability_underflows():
    clean, adversarial = torch.tensor([[0.0, -200.0]]), torch.tensor([[-200.0, 0.0]]).requires_grad_()
    loss = adv.trades_loss(clean, adversarial, torch.tensor([0]), 6.0)
    loss.backward()
    assert loss.item() == pytest.approx(6 * 200, rel=1e-6) and adversarial.grad.isfinite().all()


def test_errors_name_the_argument(unchecked):
    z = unit_vectors(2, 4, 3)
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        adv.multi_view_nt_xent(z, 0)
    with pytest.raises(ValueError, match="embeddings: expected two views or more"):
        adv.multi_view_nt_xent(z[:1], 0.5)
    with pytest.raises(
        ValueError, match=r"embeddings: expected views of shape \(v, n, d\), got float64 of shape \(4, 3\)"
    ):
        adv.multi_view_nt_xent(z[0], 0.5)
    with pytest.raises(ValueError, match="labels: expected one label for each of 4 images, got int64 of shape"):
        adv.supervised_contrastive(z, torch.arange(3), 0.5)
    with pytest.raises(ValueError, match="labels: expected 2 columns, one for each head.*cluster_counts"):
        adv.pseudo_label_loss([torch.zeros(4, 2)] * 2, torch.zeros(4, 3, dtype=torch.int64))
