"""Hard-pair mixing against the reference's golden values, loops written from the rules, and properties."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import advcl_nb as adv

B, D, C = 8, 5, 4
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])
K = torch.arange(B * D, dtype=torch.float64).view(B, D)
SIGNED = torch.sin(0.9 * K + 0.05 * K**2 + 0.3)
SHARES = (torch.arange(B, dtype=torch.float64) + 0.5) / B
DRAW = adv.MixingDraw((torch.arange(B) + 1) % B, SHARES, SHARES)
GOLDEN = [  # reference 5.2: features, rule, hardest positives, hardest negatives, checksums of features and labels
    ("P", "release", [0, 1, 2, 1, 4, 5, 1, 7], [5, 5, 4, 5, 2, 3, 5, 4], 956.6754638876, 734.2),
    ("P", "paper", [3, 4, 5, 0, 1, 2, 3, 7], [5, 5, 4, 5, 2, 3, 5, 4], 981.8701786643, 706.7625),
    ("S", "release", [6, 4, 2, 1, 1, 5, 6, 7], [1, 0, 3, 5, 2, 3, 5, 0], -3.2239135404, 655.7625),
    ("S", "paper", [6, 4, 5, 0, 1, 2, 0, 7], [1, 0, 3, 5, 2, 3, 5, 0], 7.9985254393, 647.0125),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(seed, n=24, classes=4, d=6, signed=False):
    features = torch.randn(n, d, dtype=torch.float64, generator=seeded(seed))
    labels = torch.randint(classes, (n,), generator=seeded(seed + 1000))
    return features if signed else features.abs(), labels, adv.draw_mixing(n, generator=seeded(seed + 2000))


def cosine(a, b):
    product = float(a.norm() * b.norm())
    return float(a @ b) / product if product else 0.0


def paper_by_loop(features, labels, draw):
    """Reference 1.2 and 1.3 for one row after another."""
    n, rows = len(labels), []
    for i in range(n):
        same = [j for j in range(n) if j != i and labels[j] == labels[i]]
        other = [j for j in range(n) if labels[j] != labels[i]]
        hp = min(same, key=lambda j: cosine(features[i], features[j]), default=i)
        hn = max(other, key=lambda j: cosine(features[i], features[j]), default=hp)
        around = [int(draw.permutation[(i + k) % n]) for k in range(n)]
        rows.append((hp, hn, next((j for j in around if labels[j] != labels[i]), i)))
    return rows


@pytest.mark.parametrize("kind, rule, positives, negatives, feature_sum, label_sum", GOLDEN)
def test_golden_choices_and_checksums(kind, rule, positives, negatives, feature_sum, label_sum):
    mixed = adv.mix_hard_pairs(SIGNED.abs() if kind == "P" else SIGNED, LABELS, DRAW, rule=rule)
    assert mixed.hard_positive.tolist() == positives and mixed.hard_negative.tolist() == negatives
    place = torch.arange(1, 3 * B + 1, dtype=torch.float64)
    assert (place * mixed.features.sum(1)).sum().item() == pytest.approx(feature_sum, abs=1e-9)
    assert (place * (mixed.labels @ torch.arange(1.0, C + 1).double())).sum().item() == pytest.approx(label_sum)
    loss = adv.focal_contrastive(F.normalize(mixed.features, dim=1), mixed.labels, 0.07, normalize="release")
    expected = {"P": (0.156918980241, 0.159097010754), "S": (0.647818764972, 0.643434513585)}[kind][rule == "paper"]
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_paper_rule_equals_a_loop(seed):
    features, labels, draw = batch(seed, signed=seed % 2 == 0, classes=2 + seed % 7)
    mixed = adv.mix_hard_pairs(features, labels, draw, rule="paper", classes=9)
    one_hot = torch.eye(9, dtype=torch.float64)[labels]
    for i, (hp, hn, partner) in enumerate(paper_by_loop(features, labels, draw)):
        assert (mixed.hard_positive[i], mixed.hard_negative[i], mixed.partner[i]) == (hp, hn, partner)
        lam, share = float(draw.positive[i]), max(0.8, float(draw.negative[i]))
        for found, source in ((mixed.features, features), (mixed.labels, one_hot)):
            torch.testing.assert_close(found[i], source[i])
            torch.testing.assert_close(found[len(labels) + i], (1 - share) * source[i] + share * source[partner])
            torch.testing.assert_close(found[2 * len(labels) + i], lam * source[hp] + (1 - lam) * source[hn])


@pytest.mark.parametrize("seed", range(5))
def test_the_random_rule_takes_the_next_rows_of_the_permutation(seed):
    features, labels, draw = batch(seed)
    mixed, n = adv.mix_hard_pairs(features, labels, draw, rule="random"), len(labels)
    for i in range(n):
        around = [int(draw.permutation[(i + k) % n]) for k in range(n)]
        assert mixed.hard_positive[i] == next((j for j in around if labels[j] == labels[i] and j != i), i)
        assert mixed.hard_negative[i] == mixed.partner[i] == next(j for j in around if labels[j] != labels[i])


@pytest.mark.parametrize("seed", range(10))
def test_the_release_rule_equals_a_loop_over_a_zero_masked_matrix(seed):
    features, labels, draw = batch(seed, signed=seed % 2 == 0)
    mixed, n = adv.mix_hard_pairs(features, labels, draw, rule="release"), len(labels)
    for i in range(n):
        same = [cosine(features[i], features[j]) * (labels[j] == labels[i] and j != i) for j in range(n)]
        other = [cosine(features[i], features[j]) * (labels[j] != labels[i]) for j in range(n)]
        lowest = min(range(n), key=lambda j: float(same[j]))
        assert mixed.hard_positive[i] == (lowest or i)
        assert mixed.hard_negative[i] == max(range(n), key=lambda j: float(other[j]))
    assert torch.equal(mixed.partner, draw.permutation)


def test_on_non_negative_features_the_release_never_finds_a_hard_positive():
    """The reference simulated 20 batches of 64 with 10 classes: 0% genuine, 91.8% self, 8.2% of a wrong class."""
    genuine = own = wrong = 0
    for seed in range(20):
        features, labels, draw = batch(seed, n=64, classes=10, d=32)
        found = adv.mix_hard_pairs(features, labels, draw, rule="release").hard_positive
        rows = torch.arange(64)
        own += int((found == rows).sum())
        genuine += int(((labels[found] == labels) & (found != rows)).sum())
        wrong += int((labels[found] != labels).sum())
        truth = adv.mix_hard_pairs(features, labels, draw, rule="paper")
        assert (labels[truth.hard_positive] == labels).all() and (truth.hard_positive != rows)[truth.has_positive].all()
    assert genuine == 0 and 0.85 < own / 1280 < 0.97 and wrong == 1280 - own > 0


def test_zero_masked_argmax_fails_where_all_negatives_point_away():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.05], [-0.9, -0.1]])
    labels, draw = torch.tensor([0, 0, 1, 1]), adv.draw_mixing(4, generator=seeded())
    assert adv.mix_hard_pairs(features, labels, draw, rule="release").hard_negative.tolist() == [0, 0, 2, 2]
    assert adv.mix_hard_pairs(features, labels, draw, rule="paper").hard_negative.tolist() == [3, 2, 1, 0]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 20), classes=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_what_always_holds(n, classes, seed):
    features, labels, draw = batch(seed, n=n, classes=classes)
    rows = torch.arange(n)
    for rule in ("paper", "random"):
        mixed = adv.mix_hard_pairs(features, labels, draw, rule=rule, classes=classes)
        counts = torch.bincount(labels, minlength=classes)[labels]
        assert torch.equal(mixed.has_positive, counts > 1) and torch.equal(mixed.has_negative, counts < n)
        assert (labels[mixed.hard_positive] == labels).all()
        assert torch.equal(mixed.hard_positive != rows, mixed.has_positive)
        assert torch.equal(labels[mixed.hard_negative] != labels, mixed.has_negative)
        assert torch.equal(labels[mixed.partner] != labels, mixed.has_negative)
        assert torch.equal(mixed.features[:n], features) and mixed.features.isfinite().all()
        torch.testing.assert_close(mixed.labels.sum(1), torch.ones(3 * n, dtype=torch.float64))
        group = mixed.groups.view(3, n)
        assert torch.equal(group[0], labels) and torch.equal(group[2], labels)
        if (counts < n).any():
            assert len(group[1].unique()) == n and not torch.isin(group[1], labels).any()


def test_a_joint_permutation_of_rows_changes_nothing_but_for_the_release():
    features, labels, draw = batch(3)
    order = torch.randperm(24, generator=seeded(9))
    place = order.argsort()  # where each old row is now

    def loss(features, labels, draw, rule):
        mixed = adv.mix_hard_pairs(features, labels, draw, rule=rule, classes=4)
        return adv.focal_contrastive(F.normalize(mixed.features, dim=1), mixed.labels, 0.07).item()

    def moved(rule):  # the partner of each row moves with it
        partner = adv.mix_hard_pairs(features, labels, draw, rule=rule, classes=4).partner
        there = adv.MixingDraw(place[partner[order]], draw.negative[order], draw.positive[order])
        return loss(features[order], labels[order], there, rule)

    assert moved("paper") == pytest.approx(loss(features, labels, draw, "paper"), rel=1e-9)
    assert moved("release") != pytest.approx(loss(features, labels, draw, "release"), rel=1e-6)  # it depends on row 0


def test_all_rows_carry_gradient():
    features = SIGNED.clone().requires_grad_()
    adv.mix_hard_pairs(features, LABELS, DRAW, rule="paper").features[:B].sum().backward()
    assert torch.equal(features.grad, torch.ones_like(features))


# The limits


def test_a_batch_of_one_and_a_batch_of_one_class_mix_nothing_in():
    draw = adv.draw_mixing(1, generator=seeded())
    one = adv.mix_hard_pairs(SIGNED[:1], LABELS[:1], draw)
    assert torch.equal(one.features, SIGNED[:1].repeat(3, 1)) and torch.equal(one.labels, torch.ones(3, 1).double())
    same = adv.mix_hard_pairs(SIGNED, torch.ones(B, dtype=torch.int64), DRAW)
    torch.testing.assert_close(same.features[B : 2 * B], SIGNED)
    torch.testing.assert_close(same.features[2 * B :], SIGNED[same.hard_positive])
    assert not same.has_negative.any() and (same.groups == 1).all()
    assert torch.equal(same.labels, torch.tensor([0.0, 1.0]).double().expand(3 * B, 2))


def test_a_dead_encoder_gives_no_nan():
    for rule in ("paper", "release", "random"):
        mixed = adv.mix_hard_pairs(torch.zeros(B, D), LABELS, DRAW, rule=rule)
        assert torch.equal(mixed.features, torch.zeros(3 * B, D)) and mixed.labels.isfinite().all()


# The draw


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_coefficients_follow_the_beta_distribution(alpha):
    draw = adv.draw_mixing(4000, alpha, generator=seeded(5))
    for values in (draw.negative, draw.positive):
        assert stats.kstest(values.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert abs(torch.corrcoef(torch.stack([draw.negative, draw.positive]))[0, 1]) < 0.08
    assert torch.equal(draw.permutation.sort().values, torch.arange(4000))


def test_a_tiny_alpha_is_a_coin_and_a_draw_depends_on_its_generator_alone():
    draw = adv.draw_mixing(2000, 1e-4, generator=seeded())
    assert draw.positive.isfinite().all() and 0.4 < draw.positive.mean() < 0.6
    assert ((draw.positive < 0.01) | (draw.positive > 0.99)).float().mean() > 0.99
    assert adv.draw_mixing(50, 1e-310, generator=seeded()).positive.isfinite().all()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = adv.draw_mixing(2000, 1e-4, generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(draw, again, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def unchecked(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_alpha_raises(alpha):
    with pytest.raises(ValueError, match="alpha: expected a positive number"):
        adv.draw_mixing(4, alpha, generator=seeded())


@pytest.mark.parametrize(
    "change, message",
    [({"features": SIGNED.index_fill(0, torch.tensor([3]), torch.nan)}, "features: expected finite numbers"),
     ({"labels": LABELS - 1}, "labels: expected class numbers from 0"),
     ({"classes": 3}, "labels: expected class numbers from 0 to 2"),
     ({"labels": LABELS[:5]}, "labels: expected int64, one class number for each of 8"),
     ({"labels": LABELS.int()}, "labels: expected int64"),
     ({"features": SIGNED[0]}, "features: expected floats of shape"),
     ({"draw": DRAW._replace(negative=SHARES[:1])}, "draw: expected a draw of 8 rows"),
     ({"draw": adv.MixingDraw(*(part[:4] for part in DRAW))}, "draw: expected a draw of 8 rows"),
     ({"rule": "published"}, "rule: expected one of paper, release, random")],
)  # fmt: skip
def test_wrong_input_raises(change, message, unchecked):
    given = {"features": SIGNED, "labels": LABELS, "draw": DRAW} | change
    with pytest.raises(ValueError, match=message):
        adv.mix_hard_pairs(given.pop("features"), given.pop("labels"), given.pop("draw"), **given)
