"""Features of a frozen encoder: what they are, how they lie, layer by layer, and back to images."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from torch.backends import cudnn

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


def convolves_in_float32():
    return cudnn.conv.fp32_precision == "ieee" if hasattr(cudnn, "conv") else not cudnn.allow_tf32


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_gpu_convolves_in_float32_for_features_and_then_as_before(encoder, error):
    seen = []
    assert not convolves_in_float32(), "expected torch's default, TF32: then the test can tell"

    def look(*_):
        seen.append(convolves_in_float32())
        if error:
            raise error

    encoder.register_forward_hook(look)
    with pytest.raises(error) if error else nullcontext():
        adv.extract_features(encoder, IMAGES.x)
    assert seen == [True] and not convolves_in_float32()


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
    with pytest.raises(ValueError, match="labels: expected 50 class numbers"):
        adv.class_scatter(features[:50], labels)


def test_features_without_direction_have_no_scatter_to_boast_of():
    assert adv.class_scatter(torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])).ratio == 0
    with pytest.raises(ValueError, match="features: expected finite numbers"):
        adv.class_scatter(torch.full((4, 3), torch.nan), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="also: expected finite rows of width 5"):
        adv.embed_2d(clouds()[0], method="pca", seed=0, also=torch.zeros(3, 4))


# Neighbours, similarity, alignment and uniformity


@pytest.mark.parametrize("k", [1, 4, 7, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_knn_is_scikit_learns_on_unit_rows(k, dtype, monkeypatch):
    monkeypatch.setattr(features, "PAIRS", 7 * 60)  # seven rows at a time
    train, labels = clouds(n=60, spread=2.0)
    rows, wanted = clouds(n=45, spread=2.0, seed=0)
    rows = rows + torch.randn(rows.shape, dtype=rows.dtype, generator=torch.Generator().manual_seed(1))
    train, rows, labels, wanted = train.to(dtype), 30 * rows.to(dtype), 5 * labels + 2, 5 * wanted + 2
    oracle = KNeighborsClassifier(k, algorithm="brute").fit(normalize(train.numpy()), labels.numpy())
    expected = oracle.score(normalize(rows.numpy()), wanted.numpy())
    assert 0 < expected < 1
    assert adv.knn_accuracy(train, labels, rows, wanted, k=k) == expected


def test_a_knn_tie_goes_to_the_smallest_class_and_length_does_not_count():
    train = torch.tensor([[1.0, 0.1], [100.0, 0.0], [-1.0, 0.0]])
    one = torch.tensor([[1.0, 0.0]])
    for labels, said in (([4, 2, 0], 2), ([2, 4, 0], 2), ([4, 4, 0], 4)):
        assert adv.knn_accuracy(train, torch.tensor(labels), one, torch.tensor([said]), k=2) == 1
        assert adv.knn_accuracy(train, torch.tensor(labels), one, torch.tensor([9]), k=2) == 0


def hsic_cka(a, b):
    """Equation 3 of Kornblith et al. 2019, with the centring matrix written out."""
    n = len(a)
    centre = np.eye(n) - np.ones((n, n)) / n
    hsic = lambda k, m: np.trace(k @ centre @ m @ centre)  # noqa: E731
    k, m = a @ a.T, b @ b.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize(("n", "d1", "d2"), [(30, 4, 6), (30, 4, 80), (30, 50, 6), (12, 40, 40), (2, 1, 3)])
def test_cka_is_the_formula_on_either_side_of_the_gram_matrix(n, d1, d2):
    generator = torch.Generator().manual_seed(n + d1)
    a = torch.randn(n, d1, dtype=torch.float64, generator=generator) + 3
    b = torch.randn(n, d2, dtype=torch.float64, generator=generator) + a[:, :1].abs()
    assert adv.linear_cka(a, b) == pytest.approx(hsic_cka(a.numpy(), b.numpy()), rel=1e-9)
    assert adv.linear_cka(b, a) == pytest.approx(adv.linear_cka(a, b), rel=1e-12)
    assert adv.linear_cka(a.float(), b.float()) == pytest.approx(adv.linear_cka(a, b), abs=1e-5)


@pytest.mark.parametrize("d", [5, 70])
def test_cka_does_not_see_rotation_scale_or_shift_but_sees_other_features(d):
    generator = torch.Generator().manual_seed(d)
    a, b = torch.randn(2, 40, d, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    assert adv.linear_cka(a, 1e-20 * a @ rotation + 7e-20) == pytest.approx(1, abs=1e-12)
    assert adv.linear_cka(1e8 * a @ rotation, b + 1e3) == pytest.approx(adv.linear_cka(a, b), rel=1e-9)
    assert adv.linear_cka(a, b) < 0.8
    assert adv.linear_cka((1e-15 * a).float(), (1e15 * a).float()) == pytest.approx(1, abs=1e-5)


def test_cka_is_not_lost_beside_a_large_constant_column():
    a, b = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    heavy = torch.cat([a, torch.full((50, 1), 3e7)], dim=1)
    assert adv.linear_cka(heavy, b) == pytest.approx(adv.linear_cka(a, b), rel=1e-4)


def test_alignment_and_uniformity_are_their_loops(monkeypatch):
    monkeypatch.setattr(features, "PAIRS", 3 * 20)  # three rows at a time
    a, b = (3 * torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    unit, other = ([[v / math.hypot(*row) for v in row] for row in x.tolist()] for x in (a, b))
    square = lambda x, y: sum((p - q) ** 2 for p, q in zip(x, y, strict=True))  # noqa: E731
    expected = sum(square(x, y) for x, y in zip(unit, other, strict=True)) / 20
    assert adv.alignment(a, b) == pytest.approx(expected, rel=1e-12)
    for t in (2.0, 0.5):
        kernel = [math.exp(-t * square(unit[i], unit[j])) for i in range(20) for j in range(20) if i != j]
        expected = math.log(sum(kernel) / len(kernel))
        assert adv.uniformity(a, t=t) == pytest.approx(expected, rel=1e-12)
    assert adv.uniformity(a) == pytest.approx(adv.uniformity(a, t=2.0))
    assert adv.uniformity(a.float()) == pytest.approx(adv.uniformity(a), abs=1e-5)


def test_alignment_and_uniformity_at_their_ends():
    opposite = torch.tensor([[1.0, 0.0], [-5.0, 0.0]])
    assert adv.alignment(opposite, 2 * opposite) == 0 and adv.alignment(opposite, -opposite) == 4
    assert adv.uniformity(opposite) == pytest.approx(-8) and adv.uniformity(opposite, t=1000) == pytest.approx(-4000)
    assert adv.uniformity(torch.ones(30, 3)) == pytest.approx(0, abs=1e-6)


ROWS, NAMES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6)
NAN = ROWS.clone().index_fill_(0, torch.tensor([2]), torch.nan)
BAD_ROWS = {
    "knn, width": (lambda: adv.knn_accuracy(ROWS, NAMES, ROWS[:, :2], NAMES, k=1), "features: .*rows of width 3"),
    "knn, dtype": (
        lambda: adv.knn_accuracy(ROWS, NAMES, ROWS.double(), NAMES, k=1),
        "features: expected torch.float32",
    ),
    "knn, labels": (lambda: adv.knn_accuracy(ROWS, NAMES, ROWS, NAMES[:5], k=1), "labels: expected 6 class numbers"),
    "knn, train labels": (lambda: adv.knn_accuracy(ROWS, NAMES[:5], ROWS, NAMES, k=1), "train_labels: expected 6"),
    "knn, unlabelled": (lambda: adv.knn_accuracy(ROWS, NAMES - 1, ROWS, NAMES, k=1), "train_labels: .*from 0"),
    "knn, k too large": (lambda: adv.knn_accuracy(ROWS, NAMES, ROWS, NAMES, k=7), "k: expected at most the 6 rows"),
    "knn, k zero": (lambda: adv.knn_accuracy(ROWS, NAMES, ROWS, NAMES, k=0), "k: expected a whole number from 1"),
    "knn, nan": (lambda: adv.knn_accuracy(ROWS, NAMES, NAN, NAMES, k=1), "features: expected finite"),
    "knn, nan in training": (lambda: adv.knn_accuracy(NAN, NAMES, ROWS, NAMES, k=1), "train_features: .*finite"),
    "knn, none": (lambda: adv.knn_accuracy(ROWS, NAMES, ROWS[:0], NAMES[:0], k=1), "features: expected 1 or more"),
    "cka, lengths": (lambda: adv.linear_cka(ROWS, ROWS[:5]), "b: expected 6 rows .*same images"),
    "cka, dtypes": (lambda: adv.linear_cka(ROWS, ROWS.double()), "b: expected 6 rows of torch.float32"),
    "cka, one row": (lambda: adv.linear_cka(ROWS[:1], ROWS[:1]), "a: expected 2 or more rows"),
    "cka, nan": (lambda: adv.linear_cka(ROWS, NAN), "b: expected finite numbers"),
    "cka, constant": (lambda: adv.linear_cka(ROWS, torch.full((6, 2), 0.1)), "b: expected rows that differ.*collapsed"),
    "cka, integers": (lambda: adv.linear_cka(NAMES[:, None], ROWS), "a: expected 2 or more rows .*floats"),
    "alignment, shapes": (lambda: adv.alignment(ROWS, ROWS[:, :2]), r"b: expected shape \(6, 3\).*positive pair"),
    "alignment, nan": (lambda: adv.alignment(NAN, ROWS), "a: expected finite"),
    "alignment, empty": (lambda: adv.alignment(ROWS[:0], ROWS[:0]), "a: expected 1 or more rows"),
    "uniformity, one row": (lambda: adv.uniformity(ROWS[:1]), "features: expected 2 or more rows"),
    "uniformity, nan": (lambda: adv.uniformity(NAN), "features: expected finite"),
    "uniformity, t": (lambda: adv.uniformity(ROWS, t=0.0), "t: expected a finite number above 0"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_told(name):
    call, message = BAD_ROWS[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert ", got " in str(error.value)


# Layers


@pytest.mark.parametrize("branch", ["clean", None])
def test_layers_are_the_encoders_own_from_stem_to_features(encoder, branch, monkeypatch):
    monkeypatch.setattr(features, "BATCH", 17)
    twin, seen, x = encoder.copy().eval(), {}, IMAGES.x.float() / 255
    for number, block in enumerate(twin.blocks, start=1):  # the oracle hooks a copy
        block.register_forward_pre_hook(lambda _, inputs, n=number: seen.update({f"into {n}": inputs[0]}))
        block.register_forward_hook(lambda *values, n=number: seen.update({f"block {n}": values[-1]}))
    with torch.no_grad():
        h = twin(x, branch)
    found = adv.layer_features(encoder, IMAGES.x, branch=branch)
    assert list(found) == ["stem", "block 1", "block 2", "features"]
    for name, expected in zip(found, (seen["into 1"], seen["block 1"], seen["block 2"], h), strict=True):
        torch.testing.assert_close(found[name], expected.flatten(1), rtol=1e-5, atol=1e-6)
        assert found[name].dtype == torch.float32 and not found[name].requires_grad
    pooled = found["block 2"].view(40, 8, -1).mean(2)
    torch.testing.assert_close(pooled, adv.extract_features(encoder, IMAGES.x, branch=branch))
    for name, rows in adv.layer_features(encoder, x, branch=branch).items():
        assert torch.equal(rows, found[name])


def test_layers_are_float32_whatever_the_surroundings(encoder):
    expected = adv.layer_features(encoder, IMAGES.x)
    encoder.precision = torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        found = adv.layer_features(encoder, IMAGES.x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# Inversion


def start_at(n=6, seed=0):
    return (0.5 + 0.1 * torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def test_inversion_makes_the_features_match_inside_the_pixels_range(encoder):
    wanted = adv.extract_features(encoder, IMAGES.x[:6])
    away = lambda x: (adv.extract_features(encoder, x) - wanted).norm(dim=1) / wanted.norm(dim=1)  # noqa: E731
    start = start_at()
    before = start.clone()
    found = adv.invert_features(encoder, wanted, start, steps=60)
    assert (away(found) < 0.1 * away(start)).all()
    assert found.shape == start.shape and found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert torch.equal(start, before)
    few = adv.invert_features(encoder, wanted, start, steps=5)
    assert torch.equal(few, adv.invert_features(encoder, wanted, start, steps=5))  # nothing is drawn
    alone = adv.invert_features(encoder, wanted[2:3], start[2:3], steps=5)
    torch.testing.assert_close(alone, few[2:3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("branch", ["clean", None])
def test_a_step_of_inversion_goes_alpha_down_the_gradient_of_the_distance(encoder, branch):
    wanted = adv.extract_features(encoder, IMAGES.x[:2], branch=branch)
    start = torch.full((2, 3, 16, 16), 0.5)
    x = start.clone().requires_grad_()
    distance = (encoder.copy().eval()(x, branch) - wanted).square().sum(1).sqrt()
    (gradient,) = torch.autograd.grad(distance.sum(), x)
    expected = start - 0.05 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    found = adv.invert_features(encoder, wanted, start, steps=1, alpha=0.05, branch=branch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(adv.invert_features(encoder, wanted, start, steps=0, branch=branch), start)


def test_layers_and_inversion_leave_everything_as_it_was(encoder):
    wanted = adv.extract_features(encoder, IMAGES.x[:2])
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    encoder.stem.weight.requires_grad_(False)
    flags = [p.requires_grad for p in encoder.parameters()]
    encoder.precision = torch.bfloat16
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    for branch in ("adv", "pgd"):  # the second fails
        for call in (
            lambda b: adv.layer_features(encoder, IMAGES.x, branch=b),
            lambda b: adv.invert_features(encoder, wanted, start_at(2), steps=2, branch=b),
        ):
            try:
                call(branch)
            except ValueError:
                assert branch == "pgd"
            assert [module.training for module in encoder.modules()] == modes
            assert [p.requires_grad for p in encoder.parameters()] == flags
            assert all(p.grad is None for p in encoder.parameters())
            assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
            assert encoder.precision == torch.bfloat16 and torch.is_grad_enabled()
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(2, 7)}, r"features: expected shape \(2, 8\): a row for each start"),
        ({"features": torch.ones(3, 8)}, r"features: expected shape \(2, 8\)"),
        ({"features": torch.full((2, 8), torch.nan)}, "features: expected finite"),
        ({"features": torch.zeros(2, 8)}, "features: expected rows that are not all zero"),
        ({"start": IMAGES.x[:2]}, r"start: expected floats in \[0, 1\].*to_float"),
        ({"start": start_at(2) + 1}, r"start: expected values in \[0, 1\]"),
        ({"start": start_at(2)[0]}, r"start: expected a tensor of shape \(n, c, h, w\)"),
        ({"steps": -1}, "steps: expected a whole number from 0"),
        ({"alpha": float("nan")}, "alpha: expected a finite norm"),
        ({"branch": "pgd"}, "branch: expected one of clean, adv, adv_pseudo"),
    ],
)
def test_what_cannot_be_inverted_is_told(encoder, change, message):
    settings = {"features": torch.ones(2, 8), "start": start_at(2), "steps": 1} | change
    with pytest.raises(ValueError, match=message):
        adv.invert_features(encoder, **settings)


def test_what_has_no_layers_is_told(encoder):
    with pytest.raises(ValueError, match=r"images: expected one uint8 or float image or more, \(n, c, h, w\), got "):
        adv.layer_features(encoder, IMAGES.x[0])
    with pytest.raises(ValueError, match="images: expected one uint8 or float image or more"):
        adv.layer_features(encoder, IMAGES.x[:0])
    with pytest.raises(ValueError, match="branch: expected one of clean, adv, adv_pseudo, got 'pgd'"):
        adv.layer_features(encoder, IMAGES.x, branch="pgd")
