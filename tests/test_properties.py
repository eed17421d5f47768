"""Searches for input on which the maths breaks: odd sizes, single images, single channels, extreme numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import advcl_nb as adv
from advcl_nb.config import FinetuneConfig, PretrainConfig

search = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
heights, widths, numbers, seeds = st.integers(1, 17), st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6)
channels, colours = st.integers(1, 4), st.sampled_from((1, 3))
dtypes = st.sampled_from((torch.float32, torch.float64))
pixels = st.sampled_from(("any", "black", "white", "grey levels"))


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(n, c, h, w, seed=0, dtype=torch.float32, kind="any") -> torch.Tensor:
    """Images in [0, 1]: random, of one extreme, or of few values, so that maxima and minima tie."""
    x = torch.rand(n, c, h, w, generator=gen(seed), dtype=dtype)
    return {"any": x, "black": 0 * x, "white": 0 * x + 1, "grey levels": (3 * x).round() / 3}[kind]


def unit(v, n, d, seed) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(v, n, d, generator=gen(seed), dtype=torch.float64), dim=-1)


class untouched:
    """Assert that the global random numbers are the same after a ``with`` as before."""

    def __enter__(self) -> None:
        self.before = self.now()

    def __exit__(self, *_: object) -> None:
        assert self.now() == self.before

    def now(self) -> tuple:  # not Python's own, which the run-time type checks of these tests draw from
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()


# Frequencies


@search
@given(n=numbers, c=channels, h=heights, w=widths, radius=st.floats(0, 30), dtype=dtypes, seed=seeds, kind=pixels)
def test_the_parts_of_a_spectrum_add_up(n, c, h, w, radius, dtype, seed, kind):
    x = picture(n, c, h, w, seed, dtype, kind)
    high, low = adv.high_pass(x, radius), adv.low_pass(x, radius)
    assert high.shape == low.shape == x.shape and high.dtype == low.dtype == dtype
    atol = 1e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(high + low, x, rtol=0, atol=atol)
    torch.testing.assert_close(adv.high_pass(high, radius), high, rtol=0, atol=atol)  # a projection
    assert radius == 0 or high.mean((2, 3)).abs().max() < atol  # the constant part is always below the radius
    assert high.square().sum() <= x.square().sum() * (1 + 1e-5) + atol
    energy = adv.radial_spectrum(x)
    torch.testing.assert_close(energy.sum(1), x.square().sum((2, 3)).mean(1), rtol=1e-4, atol=1e-5)
    assert (energy >= 0).all()


@search
@given(h=heights, w=widths, data=st.data())
def test_a_wave_has_unit_norm_and_one_frequency(h, w, data):
    k1, k2 = data.draw(st.integers(-h, h)), data.draw(st.integers(-w, w))
    wave = adv.fourier_basis(h, w, k1, k2)
    assert wave.shape == (h, w) and wave.isfinite().all()
    assert math.isclose(wave.norm(), 1, rel_tol=1e-5)
    spectrum = torch.fft.fft2(wave.double()).abs()
    spectrum[k1 % h, k2 % w] = spectrum[-k1 % h, -k2 % w] = 0
    assert spectrum.max() < 1e-4 * math.sqrt(h * w)


# Views and corruptions


@search
@given(n=numbers, c=colours, h=heights, w=widths, padding=st.integers(0, 5), seed=seeds, kind=pixels, dtype=dtypes)
def test_views_are_pictures_of_the_same_shape(n, c, h, w, padding, seed, kind, dtype):
    x = picture(n, c, h, w, seed, dtype, kind)
    kept = x.clone()
    chosen = adv.ViewSettings(padding=padding, jitter=1.0, radius=2.0)
    with untouched():
        draw = adv.draw_views(n, h, w, chosen, generator=gen(seed))
        views = adv.make_views(x, draw)
    top, left, high, wide = draw.boxes.unbind(-1)
    assert (top >= 0).all() and (left >= 0).all() and (high >= 1).all() and (wide >= 1).all()
    assert (top + high <= h).all() and (left + wide <= w).all()
    assert all(view.shape == x.shape and view.dtype == dtype and view.isfinite().all() for view in views)
    for view in views[:3]:
        assert view.min() >= -1e-6 and view.max() <= 1 + 1e-6
    assert torch.equal(x, kept), "the images came back changed"
    again = adv.make_views(x, adv.draw_views(n, h, w, chosen, generator=gen(seed)))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


@search
@given(n=numbers, c=channels, h=heights, w=widths, seed=seeds, kind=pixels)
def test_flips_and_crops_move_pixels_and_make_none(n, c, h, w, seed, kind):
    x = picture(n, c, h, w, seed, kind=kind)
    flips = torch.rand(n, generator=gen(seed)) < 0.5
    assert torch.equal(adv.flip(adv.flip(x, flips), flips), x)
    whole = torch.tensor([0, 0, h, w]).repeat(n, 1)
    torch.testing.assert_close(adv.resized_crop(x, whole), x, rtol=0, atol=2e-6)
    padding = seed % 4
    middle = torch.full((n, 2), padding)
    assert torch.equal(adv.padded_crop(x, middle, padding), x)
    offsets = torch.randint(2 * padding + 1, (n, 2), generator=gen(seed))
    assert set(adv.padded_crop(x, offsets, padding).flatten().tolist()) <= {*x.flatten().tolist(), 0.0}


@search
@given(
    n=numbers, c=channels, h=heights, w=widths, seed=seeds, kind=pixels, dtype=dtypes,
    name=st.sampled_from(adv.CORRUPTIONS), severity=st.integers(1, 5),
)  # fmt: skip
def test_a_corrupted_picture_is_one(n, c, h, w, seed, kind, dtype, name, severity):
    x = picture(n, c, h, w, seed, dtype, kind)
    with untouched():
        made = adv.corrupt(x, name, severity, generator=gen(seed))
    assert made.shape == x.shape and made.dtype == dtype
    assert made.min() >= 0 and made.max() <= 1  # NaN is neither
    assert torch.equal(made, adv.corrupt(x, name, severity, generator=gen(seed)))


# Losses


@search
@given(v=st.integers(2, 4), n=numbers, d=st.integers(1, 6), temperature=st.floats(0.05, 5), seed=seeds)
def test_contrastive_losses_are_finite_positive_and_blind_to_order(v, n, d, temperature, seed):
    rows = unit(v, n, d, seed).requires_grad_()
    loss = adv.multi_view_nt_xent(rows, temperature)
    (gradient,) = torch.autograd.grad(loss, rows)
    rows, loss = rows.detach(), loss.detach()
    assert loss >= 0 and loss.isfinite() and gradient.isfinite().all() and loss.dtype == torch.float64
    highest = 2 / temperature + math.log(v * n - 1)  # every similarity lies in [-1, 1]
    assert loss <= highest + 1e-9
    assert math.isclose(loss, adv.multi_view_nt_xent(list(rows.flip(1)), temperature), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(loss, adv.multi_view_nt_xent(rows.flip(0), temperature), rel_tol=1e-9, abs_tol=1e-9)


@search
@given(n=st.integers(1, 8), d=st.integers(1, 6), classes=numbers, temperature=st.floats(0.05, 5), seed=seeds)
def test_losses_with_labels_are_finite_whatever_the_classes(n, d, classes, temperature, seed):
    (rows,), labels = unit(1, n, d, seed), torch.randint(classes, (n,), generator=gen(seed))
    rows.requires_grad_()
    alone = len(labels.unique()) == n
    functions = {
        "supervised": lambda x, y: adv.supervised_contrastive(x, y, temperature),
        "focal": lambda x, y: adv.focal_contrastive(x, y, temperature),
        "release": lambda x, y: adv.focal_contrastive(x, y, temperature, normalize="release", gamma=2.0),
        "soft": lambda x, y: adv.focal_contrastive(x, torch.eye(classes)[y], temperature),
    }
    for name, function in functions.items():
        loss = function(rows, labels)
        (gradient,) = torch.autograd.grad(loss, rows)
        loss, kept = loss.detach(), rows.detach()
        assert loss.isfinite() and loss >= 0 and gradient.isfinite().all(), name
        assert not alone or loss == 0, name
        assert math.isclose(loss, function(kept.flip(0), labels.flip(0)), rel_tol=1e-9, abs_tol=1e-12), name
    assert functions["focal"](kept, labels) <= functions["supervised"](kept, labels) + 1e-12  # weights are at most 1


@search
@given(n=numbers, c=st.integers(1, 5), scale=st.sampled_from((1e-3, 1.0, 1e3)), beta=st.floats(0, 10), seed=seeds)
def test_divergences_are_positive_and_zero_for_equals(n, c, scale, beta, seed):
    a, b = scale * torch.randn(2, n, c, generator=gen(seed), dtype=torch.float64)
    labels = torch.randint(c, (n,), generator=gen(seed))
    assert adv.kl_divergence(a, b) >= -1e-12 and adv.kl_divergence(a, b).isfinite()
    assert adv.kl_divergence(a, a) == 0
    torch.testing.assert_close(adv.kl_divergence(a + 3, b - 5), adv.kl_divergence(a, b), rtol=1e-9, atol=1e-9)
    entropy = torch.nn.functional.cross_entropy(a, labels)
    assert adv.trades_loss(a, b, labels, beta) >= entropy - 1e-9
    both = adv.pseudo_label_loss([a, b], labels[:, None].repeat(1, 2))
    torch.testing.assert_close(2 * both, entropy + torch.nn.functional.cross_entropy(b, labels))


# Attacks


@search
@given(
    n=numbers, c=channels, h=heights, w=widths, seed=seeds, kind=pixels, dtype=dtypes,
    norm=st.sampled_from((adv.Linf, adv.L2)), epsilon=st.floats(0, 1), share=st.floats(0, 1),
    steps=st.integers(0, 3), begin=st.sampled_from(("uniform", "gaussian", "none")),
    slope=st.sampled_from((0.0, 1e-30, 1.0, 1e30, math.inf, math.nan)),
)  # fmt: skip
def test_an_attack_stays_in_its_ball_and_in_the_picture(
    n, c, h, w, seed, kind, dtype, norm, epsilon, share, steps, begin, slope
):
    x = picture(n, c, h, w, seed, dtype, kind)
    kept, towards = x.clone(), torch.randn(x.shape, generator=gen(seed + 1), dtype=dtype)
    threat = norm(epsilon, share, steps, start=begin)
    with untouched():
        found = adv.pgd(lambda z: slope * (z * towards).sum(), x, threat, generator=gen(seed))
    assert found.shape == x.shape and found.dtype == dtype and not found.requires_grad
    assert torch.equal(x, kept)
    assert found.min() >= 0 and found.max() <= 1  # NaN is neither
    change = (found - x).double()
    if norm is adv.Linf:
        room = torch.finfo(dtype).eps  # 1 ulp of a pixel
        assert change.abs().max() <= epsilon + room
    else:
        assert change.flatten(1).norm(dim=1).max() <= epsilon * (1 + 1e-6)
    path = list(adv.pgd_path(lambda z: (z * towards).sum(), x, threat, generator=gen(seed)))
    assert len(path) == steps + 1 and all(images.shape == x.shape for images, _ in path)


# Mixing, rates, streams


@search
@given(
    n=st.integers(1, 8), d=st.integers(1, 5), classes=numbers, alpha=st.sampled_from((1e-3, 0.3, 1.0, 50.0)),
    rule=st.sampled_from(("paper", "release", "random")), seed=seeds, dtype=dtypes,
)  # fmt: skip
def test_mixed_rows_lie_between_rows(n, d, classes, alpha, rule, seed, dtype):
    rows = torch.randn(n, d, generator=gen(seed), dtype=dtype)
    labels = torch.randint(classes, (n,), generator=gen(seed))
    with untouched():
        draw = adv.draw_mixing(n, alpha, generator=gen(seed))
        mixed = adv.mix_hard_pairs(rows, labels, draw, rule=rule, classes=classes)
    assert sorted(draw.permutation.tolist()) == list(range(n))
    assert all(((share >= 0) & (share <= 1)).all() for share in (draw.negative, draw.positive))
    assert mixed.features.shape == (3 * n, d) and mixed.labels.shape == (3 * n, classes)
    assert torch.equal(mixed.features[:n], rows) and mixed.features.dtype == dtype
    assert (mixed.features <= rows.amax(0) + 1e-5).all() and (mixed.features >= rows.amin(0) - 1e-5).all()
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(3 * n, dtype=dtype))
    assert (mixed.labels >= 0).all()
    for index in (mixed.hard_positive, mixed.hard_negative, mixed.partner):
        assert index.shape == (n,) and ((index >= 0) & (index < n)).all()


@search
@given(
    epochs=st.integers(1, 30), warmup=st.integers(0, 40), batches=st.integers(1, 9), rate=st.floats(1e-6, 10),
    begin=st.floats(0, 1), final=st.floats(0, 1), by=st.sampled_from(("epoch", "step")),
)  # fmt: skip
def test_learning_rates_stay_within_their_ends(epochs, warmup, batches, rate, begin, final, by):
    config = PretrainConfig(
        epochs=epochs, learning_rate=rate, warmup_epochs=warmup, warmup_from=begin, final_ratio=final, schedule_by=by
    )
    rates = [adv.learning_rate(config, e, b, batches) for e in range(epochs) for b in range(batches)]
    assert all(min(rate * final, begin) - 1e-9 <= value <= max(rate, begin) + 1e-9 for value in rates)
    after = rates[warmup * batches :]
    assert all(a >= b - 1e-12 for a, b in zip(after, after[1:], strict=False)), "the cosine only falls"
    for schedule in ("steps", "cosine"):
        tuned = FinetuneConfig(epochs=epochs, learning_rate=rate, schedule=schedule, milestones=(3, 9))
        rates = [adv.learning_rate(tuned, epoch, 0, batches) for epoch in range(epochs)]
        assert rates[0] == rate and rates == sorted(rates, reverse=True) and rates[-1] >= 0


@search
@given(seed=st.integers(-(10**12), 10**12), position=st.lists(st.integers(-3, 10**6), max_size=3))
def test_a_stream_is_a_function_of_seed_name_and_position(seed, position):
    with untouched():
        streams = adv.Streams(seed)
        names = ("data", "init", "order", "views", "attack", "clusters", "mixing", "eval")
        found = [streams.number(name, *position) for name in names]
        assert [adv.Streams(seed).number(name, *position) for name in names] == found
        assert len({*found, streams.number("data", *position, 0), adv.Streams(seed + 1).number("data")}) == 10
        assert all(0 <= number < 2**63 for number in found)
        first, second = (torch.rand(4, generator=streams("views", *position)) for _ in range(2))
        assert torch.equal(first, second)


@search
@given(n=st.integers(1, 60), size=st.integers(2, 20), seed=seeds)
def test_batches_go_once_through_everything(n, size, seed):
    with untouched():
        parts = list(adv.batches(n, size, generator=gen(seed)))
    assert sorted(torch.cat(parts).tolist()) == list(range(n))
    assert all(len(part) >= 2 for part in parts) or n == 1
    assert max(map(len, parts)) <= size + 1
