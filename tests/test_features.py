"""Features of a frozen encoder."""

from __future__ import annotations

import pytest
import torch

import advcl_nb as adv
from advcl_nb import features

MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(40, size=16)


@pytest.fixture
def encoder():
    """An encoder whose branches' statistics differ, in train mode but for one part; its own branch is "adv"."""
    encoder = adv.build_model(MODEL, generator=torch.Generator().manual_seed(0)).encoder.train()
    for k, branch in enumerate(adv.BRANCHES):
        for _ in range(5):
            encoder(adv.to_float(IMAGES.x[10 * k : 10 * k + 10]), branch)
    encoder.branch = "adv"
    encoder.stem_norm.eval()
    return encoder


def forward(encoder, branch):
    with torch.no_grad():
        return encoder.copy().eval()(IMAGES.x.float() / 255, branch)


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_features_are_the_encoders_in_eval_mode(encoder, branch):
    expected = forward(encoder, branch)
    found = adv.extract_features(encoder, IMAGES.x, branch=branch)
    assert torch.equal(found, expected) and found.shape == (40, 8)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert all(not torch.equal(found, forward(encoder, other)) for other in adv.BRANCHES if other != branch)


def test_without_a_branch_the_encoders_own_is_used(encoder):
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), forward(encoder, "adv"))
    encoder.branch = "clean"
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), forward(encoder, "clean"))
    with pytest.raises(ValueError, match="branch: expected one of clean, adv, adv_pseudo, got 'pgd'"):
        adv.extract_features(encoder, IMAGES.x, branch="pgd")


def test_the_encoder_comes_back_as_it_was(encoder):
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    for branch in ("clean", "pgd"):  # the second fails half-way
        try:
            adv.extract_features(encoder, IMAGES.x, branch=branch)
        except ValueError:
            assert branch == "pgd"
        assert [module.training for module in encoder.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert encoder.branch == "adv" and torch.is_grad_enabled()


def test_uint8_and_float_images_agree(encoder):
    floats = IMAGES.x.float() / 255
    assert torch.equal(adv.extract_features(encoder, floats), adv.extract_features(encoder, IMAGES.x))
    assert torch.equal(floats, IMAGES.x.float() / 255)


def test_the_batch_size_does_not_matter(encoder, monkeypatch):
    whole = adv.extract_features(encoder, IMAGES.x)
    monkeypatch.setattr(features, "BATCH", 7)
    torch.testing.assert_close(adv.extract_features(encoder, IMAGES.x), whole, rtol=1e-6, atol=1e-6)


def test_features_are_in_float32_whatever_the_pretraining(encoder):
    expected = forward(encoder, "adv")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adv.extract_features(encoder, IMAGES.x), expected)
    encoder.precision = torch.bfloat16
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), expected)
    assert encoder.precision == torch.bfloat16
    with torch.no_grad():
        assert not torch.equal(encoder.eval()(IMAGES.x.float() / 255), expected)  # precision makes a difference


def test_the_global_generator_is_not_touched(encoder):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    adv.extract_features(encoder, IMAGES.x)
    assert torch.equal(torch.rand(2), expected)


# Scatter and places


def clouds(n=60, classes=3, d=5, spread=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, dtype=torch.float64, generator=generator)
    return centres[labels] + spread * torch.randn(n, d, dtype=torch.float64, generator=generator), labels


def test_scatter_equals_loops():
    features, labels = clouds()
    unit = [row / row.norm() for row in features]
    means = {c: sum(z for z, y in zip(unit, labels, strict=True) if y == c) / 20 for c in range(3)}
    within = sum(float((z - means[int(y)]).square().sum()) for z, y in zip(unit, labels, strict=True)) / 60
    between = sum(float((means[a] - means[b]).square().sum()) for a, b in ((0, 1), (0, 2), (1, 2))) / 3
    found = adv.class_scatter(features, labels)
    assert found == pytest.approx((within, between), rel=1e-12) and found.ratio == pytest.approx(between / within)
    assert repr(found) == f"within {within:.3f}, between {between:.3f}, ratio {between / within:.2f}"


def test_scatter_within_is_one_minus_the_mean_cosine_with_the_class():
    """The identity in section 3 of the reference on Core-tuning, self-pairs included."""
    features, labels = clouds(n=77, spread=1.0)
    unit = torch.nn.functional.normalize(features, dim=1)
    same = (labels[:, None] == labels).double()
    alignment = -((unit @ unit.T * same).sum(1) / same.sum(1)).mean()
    assert float(alignment) == pytest.approx(adv.class_scatter(features, labels).within - 1, abs=1e-12)


def test_scatter_does_not_see_lengths_class_numbers_or_order():
    features, labels = clouds()
    expected = adv.class_scatter(features, labels)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    lengths = torch.rand(60, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    assert adv.class_scatter((lengths * features)[order], 100 - 7 * labels[order]) == pytest.approx(expected)
    tight = adv.class_scatter(clouds(spread=0.0)[0], labels)
    assert tight.within == pytest.approx(0, abs=1e-12) and adv.class_scatter(torch.eye(2), torch.arange(2)).ratio > 1e9


@pytest.mark.parametrize("method", ["pca", "umap", "tsne"])
def test_separate_clouds_stay_separate_in_the_plane(method):
    features, labels = clouds(n=90, spread=0.05)
    points = adv.embed_2d(features.float(), method=method, seed=0)
    assert points.shape == (90, 2) and points.isfinite().all()
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert (labels[nearest] == labels).float().mean() > 0.95
    assert torch.equal(points, adv.embed_2d(features.float(), method=method, seed=0))


@pytest.mark.parametrize("method", ["pca", "umap"])
def test_more_rows_find_their_place_in_the_same_map(method):
    features, labels = clouds(n=90, spread=0.05)
    points, places = adv.embed_2d(features.float(), method=method, seed=0, also=features[:10].float() + 1e-4)
    nearest = torch.cdist(places, points).argmin(1)
    assert places.shape == (10, 2) and (labels[nearest] == labels[:10]).all()
    if method == "pca":
        torch.testing.assert_close(places, points[:10], rtol=0, atol=1e-2)


def test_wrong_features_and_methods_are_told():
    features, labels = clouds()
    with pytest.raises(ValueError, match="also: expected None for t-SNE, got .*umap"):
        adv.embed_2d(features, method="tsne", seed=0, also=features)
    with pytest.raises(ValueError, match="method: expected one of pca, umap, tsne, got 'mds'"):
        adv.embed_2d(features, method="mds", seed=0)
    with pytest.raises(ValueError, match="labels: expected two classes or more"):
        adv.class_scatter(features, torch.zeros(60, dtype=torch.int64))
    with pytest.raises(ValueError, match="features: expected 60 rows"):
        adv.class_scatter(features[:50], labels)


def test_features_without_direction_have_no_scatter_to_boast_of():
    assert adv.class_scatter(torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])).ratio == 0
    with pytest.raises(ValueError, match="features: expected finite numbers"):
        adv.class_scatter(torch.full((4, 3), torch.nan), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="also: expected rows of width 5"):
        adv.embed_2d(clouds()[0], method="pca", seed=0, also=torch.zeros(3, 4))
