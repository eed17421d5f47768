"""Frequency dependence of classifiers, against waves made by torch.fft, plain loops and hand-filtered images."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

import advcl_nb as adv
from advcl_nb import sensitivity
from advcl_nb.plots._style import METHOD_COLORS
from advcl_nb.score import Score


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def wave_of(h, w, k1, k2):
    """The real picture of unit norm whose spectrum is zero but at (k1, k2) and at (-k1, -k2)."""
    spectrum = torch.zeros(h, w, dtype=torch.complex128)
    spectrum[k1 % h, k2 % w] = spectrum[-k1 % h, -k2 % w] = 1
    wave = torch.fft.ifft2(spectrum).real
    return wave / wave.norm()


class Linear(nn.Module):
    """A linear model of three classes that keeps what it was shown."""

    def __init__(self, c, h, w, seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, c * h * w, generator=seeded(seed), dtype=torch.float64))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return (x.flatten(1) - 0.5) @ self.weight.T


# Sensitivity to single waves


def signs_of(x, images, wave, epsilon):
    """The factor r of each image and channel in x = image + r epsilon wave, checked to be a sign."""
    shift = x - images
    r = (shift * wave).sum((2, 3)) / epsilon
    torch.testing.assert_close(r.abs(), torch.ones_like(r))
    torch.testing.assert_close(shift, epsilon * r[:, :, None, None] * wave, atol=1e-6, rtol=0)
    return r.round()


@pytest.mark.parametrize("batch", [250, 2])
@pytest.mark.parametrize(("c", "h", "w"), [(1, 4, 4), (3, 5, 4), (2, 3, 3)])
def test_it_is_a_double_loop_over_frequencies(monkeypatch, c, h, w, batch):
    monkeypatch.setattr(sensitivity, "BATCH", batch)
    images = 0.4 + 0.2 * torch.rand(3, c, h, w, generator=seeded(), dtype=torch.float64)
    model, labels, epsilon, drawn = Linear(c, h, w), torch.tensor([0, 1, 2]), 0.3, []
    result = adv.fourier_sensitivity(model, images, labels, epsilon=epsilon, generator=seeded(1))
    assert result.shape == (h, w) and result.dtype == torch.float32
    seen = torch.cat(model.seen[1:]).split(3)  # after the first image, tried alone
    pairs = {frozenset({(k1, k2), (-k1 % h, -k2 % w)}) for k1 in range(h) for k2 in range(w)}
    assert len(seen) == len(pairs)  # one of each pair only
    for x in seen:
        place = torch.fft.fft2(x - images).abs().sum((0, 1)).argmax().item()
        k1, k2 = divmod(place, w)
        pairs.remove(frozenset({(k1, k2), (-k1 % h, -k2 % w)}))
        signs = signs_of(x, images, wave_of(h, w, k1, k2), epsilon)
        errors = 0
        for i in range(3):
            shown = torch.stack([images[i, j] + signs[i, j] * epsilon * wave_of(h, w, k1, k2) for j in range(c)])
            logits = [((shown - 0.5).flatten() * model.weight[k]).sum().item() for k in range(3)]
            errors += int(np.argmax(logits)) != int(labels[i])
        for a, b in ((k1, k2), (-k1, -k2)):
            assert result[(a + h // 2) % h, (b + w // 2) % w].item() == pytest.approx(errors / 3)
        drawn += signs.flatten().tolist()
    assert not pairs
    assert set(drawn) == {-1.0, 1.0} and abs(np.mean(drawn)) < 4 / len(drawn) ** 0.5
    assert len(result.unique()) > 1  # else a constant would pass


def test_signs_differ_between_images_channels_and_waves():
    images = torch.full((8, 3, 4, 4), 0.5, dtype=torch.float64)
    model = Linear(3, 4, 4)
    adv.fourier_sensitivity(model, images, torch.zeros(8, dtype=torch.int64), epsilon=0.1, generator=seeded())
    signs = torch.stack([(x - images)[:, :, 0, 0].sign() for x in model.seen])  # every wave is positive there
    assert (
        (signs[:, 0] != signs[:, 1]).any() and (signs[..., 0] != signs[..., 1]).any() and (signs[0] != signs[1]).any()
    )


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 4), (7, 9)])
def test_it_is_symmetric_about_the_middle(h, w):
    images, labels = torch.rand(20, 1, h, w, generator=seeded()), torch.arange(20) % 3
    model = Linear(1, h, w).float()
    result = adv.fourier_sensitivity(model, images, labels, epsilon=2.0, generator=seeded())
    spectrum = torch.fft.ifftshift(result)
    torch.testing.assert_close(spectrum, spectrum.flip(0, 1).roll((1, 1), (0, 1)))
    assert torch.equal(result, adv.fourier_sensitivity(model, images, labels, epsilon=2.0, generator=seeded()))


@pytest.mark.parametrize("k", [(0, 0), (1, 2), (-2, 1), (3, 0), (4, 4)])
def test_a_model_that_reads_one_frequency_errs_there_alone(k):
    wave = wave_of(8, 8, *k).float()

    class OneWave(nn.Module):
        def forward(self, x):
            size = ((x - 0.5) * wave).sum((1, 2, 3)).abs()
            return torch.stack([torch.full_like(size, 0.1), size], 1)

    images, labels = torch.full((6, 1, 8, 8), 0.5), torch.zeros(6, dtype=torch.int64)
    result = adv.fourier_sensitivity(OneWave(), images, labels, epsilon=0.5, generator=seeded())
    expected = torch.zeros(8, 8)
    for a, b in (k, (-k[0], -k[1])):
        expected[(a + 4) % 8, (b + 4) % 8] = 1
    assert torch.equal(result, expected)


def test_images_are_clipped_and_clean_errors_count():
    model, images = Linear(3, 6, 6), torch.rand(9, 3, 6, 6, generator=seeded())
    labels = torch.arange(9) % 3
    clean = 1 - adv.standard_accuracy(model.float(), images, labels).value
    assert 0 < clean < 1
    result = adv.fourier_sensitivity(model, images, labels, epsilon=0.0, generator=seeded())
    torch.testing.assert_close(result, torch.full((6, 6), clean))
    model.seen.clear()
    adv.fourier_sensitivity(model, images, labels, epsilon=8.0, generator=seeded())
    assert min(x.min().item() for x in model.seen) == 0 and max(x.max().item() for x in model.seen) == 1


def test_uint8_and_float_images_give_the_same_map():
    data, model = adv.shapes(12, size=8), Linear(3, 8, 8).float()
    maps = [adv.fourier_sensitivity(model, x, data.y % 3, epsilon=1.0, generator=seeded())
            for x in (data.x, data.x.float() / 255)]  # fmt: skip
    assert torch.equal(*maps)


class Watched(nn.Module):
    """A model with dropout and batch norm, which would tell a wrong mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.linear = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(48, 10)

    def forward(self, x):
        assert not self.norm.training and not self.drop.training and not torch.is_grad_enabled()
        logits = self.linear(self.drop(self.norm(x)).flatten(1))
        assert logits.dtype == torch.float32
        return logits


def test_the_model_and_the_global_random_state_come_back_as_they_were():
    model, x, y = Watched().train(), torch.rand(6, 3, 4, 4, generator=seeded()), torch.arange(6)
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        adv.fourier_sensitivity(model, x, y, epsilon=0.5, generator=seeded())
        adv.frequency_accuracy(model, x, y, [1, 2])
    assert torch.equal(torch.rand(2), expected)
    assert (model.training, model.drop.training, model.norm.training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# Accuracy on one half of the spectrum


def split_by_hand(x, radius):
    """The low and the high part as pictures, coefficient by coefficient in NumPy."""
    h, w = x.shape[2:]
    k1, k2 = np.fft.fftfreq(h, 1 / h)[:, None], np.fft.fftfreq(w, 1 / w)
    spectrum = np.fft.fft2(x.numpy()) * (k1**2 + k2**2 < radius**2)
    low = np.fft.ifft2(spectrum).real
    mean = x.numpy().mean((2, 3), keepdims=True)
    high = x.numpy() - low + (mean if radius > 0 else 0)  # at radius 0 the mean was not taken away
    return [torch.from_numpy(part.clip(0, 1)) for part in (low, high)]


@pytest.mark.parametrize("size", [(16, 16), (9, 12)])
def test_it_is_the_accuracy_on_images_filtered_by_hand(size):
    x = torch.rand(80, 3, *size, generator=seeded(), dtype=torch.float64)
    model = Linear(3, *size)
    labels = model(x).argmax(1)
    radii = [0, 1, 2.5, 5, 20]
    result = adv.frequency_accuracy(model, x, labels, radii)
    assert isinstance(result, adv.FrequencyAccuracy) and result.radii == radii
    for radius, low, high in zip(*result, strict=True):
        expected = [adv.standard_accuracy(model, part, labels).correct for part in split_by_hand(x, radius)]
        assert [low.correct, high.correct] == expected
        assert (low.metric, low.n, low.attack) == ("CA", 80, f"low-pass, radius {radius:g}")
        assert (high.metric, high.n, high.attack) == ("CA", 80, f"high-pass, radius {radius:g}")
    assert result.low[-1].correct == result.high[0].correct == 80  # the whole image
    assert result.low[1].correct < result.low[3].correct and result.high[1].correct > result.high[3].correct


def test_the_model_sees_pictures_in_range():
    data, model = adv.shapes(10, size=16), Linear(3, 16, 16).float()
    adv.frequency_accuracy(model, data.x, data.y % 3, [1, 3])
    for x in model.seen:
        assert x.min() >= 0 and x.max() <= 1
    mean = adv.to_float(data.x).mean((2, 3))
    assert (model.seen[1].mean((2, 3)) - mean).abs().max() < 0.02  # clipping alone moves it


# Errors


def test_errors_name_the_argument_and_say_what_to_do(unchecked):
    x, y, model = torch.rand(4, 3, 4, 4, generator=seeded()), torch.arange(4) % 3, Linear(3, 4, 4).float()
    for epsilon in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"epsilon: expected a finite L2 norm >= 0, got {epsilon}"):
            adv.fourier_sensitivity(model, x, y, epsilon=epsilon, generator=seeded())
    calls = (
        lambda model, x, y: adv.fourier_sensitivity(model, x, y, epsilon=1.0, generator=seeded()),
        lambda model, x, y: adv.frequency_accuracy(model, x, y, [2]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="labels: expected 4 int64 class numbers .*, one an image, got int64"):
            call(model, x, y[:3])
        with pytest.raises(ValueError, match=r"images: expected uint8, or floats in \[0, 1\], got .*to_float"):
            call(model, x * 255, y)
        with pytest.raises(ValueError, match="model: expected a model that gives logits"):
            call(adv.Encoder(adv.preset("smoke").model), x, y)
    for radii in ([], [2, -1], [float("nan")]):
        with pytest.raises(ValueError, match="radii: expected one radius >= 0 or more, got"):
            adv.frequency_accuracy(model, x, y, radii)


# Figures


def panels_of(picture):
    return [axes for axes in picture.axes if axes.get_visible() and axes.get_xlabel()]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_maps_are_drawn_in_cycles_and_in_one_colour_scale(count):
    maps = {f"model {k}": torch.rand(6, 5, generator=seeded(k)) for k in range(count)}
    picture = adv.show_fourier_sensitivity(maps, 0.5)
    panels = panels_of(picture)
    assert len(panels) == count
    assert any("L2 norm 0.5" in axes.get_ylabel() for axes in picture.axes)
    for axes, (name, rates) in zip(panels, maps.items(), strict=True):
        (image,) = axes.images
        np.testing.assert_allclose(image.get_array(), rates.numpy())
        assert image.get_clim() == (0, 1)
        left, right, bottom, top = image.get_extent()
        assert (left, right, bottom, top) == (-2.5, 2.5, 2.5, -3.5)  # pixel (3, 2) is centred on frequency (0, 0)
        assert name in axes.get_title(loc="left") and f"{100 * rates.mean():.0f}%" in axes.get_title(loc="left")


def result_of(radii, low, high, n=100):
    scores = [[Score("CA", count, n, "low-pass, radius 1") for count in counts] for counts in (low, high)]
    return adv.FrequencyAccuracy(list(radii), *scores)


def test_frequency_accuracy_is_drawn_against_the_radius_with_its_interval():
    results = {"SimCLR": result_of([4, 1, 2], [90, 20, 50], [10, 80, 60]), "AdvCL": result_of([1], [40], [30])}
    picture = adv.show_frequency_accuracy(results)
    left, right = picture.axes
    for axes, expected, kept in ((left, [0.2, 0.5, 0.9], "below"), (right, [0.8, 0.6, 0.1], "from")):
        lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert list(lines[0].get_xdata()) == [1, 2, 4] and list(lines[0].get_ydata()) == expected
        assert to_rgb(lines[0].get_color()) == to_rgb(METHOD_COLORS["simclr"])
        band = axes.collections[0].get_paths()[0].vertices
        score = Score("CA", round(100 * expected[-1]), 100)
        ends = band[band[:, 0] == 4][:, 1]
        assert ends.min() == pytest.approx(score.low) and ends.max() == pytest.approx(score.high)
        assert kept in axes.get_title(loc="left")
        assert any(line.get_ydata()[0] == 0.1 and line.get_linestyle() == "--" for line in axes.get_lines())
    bare = adv.show_frequency_accuracy(results, chance=None)
    assert len(bare.axes[0].get_lines()) == 2


def test_the_spectrum_of_perturbations_may_be_signed():
    x = 0.2 * torch.randn(5, 3, 8, 8, generator=seeded())
    picture = adv.show_spectrum({"PGD-20": x}, signed=True)
    (axes,) = picture.axes
    expected = adv.radial_spectrum(x).mean(0) / 64
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), expected.numpy(), rtol=1e-6)
    assert axes.get_title(loc="left") == "Where the perturbations' energy lies"
    assert (
        adv.show_spectrum({"A": x.abs().clamp(0, 1)}).axes[0].get_title(loc="left") == "Where the images' energy lies"
    )
    with pytest.raises(ValueError, match=r"images_by_name\['PGD-20'\]: expected values in \[0, 1\]"):
        adv.show_spectrum({"PGD-20": x})


def test_every_figure_shows_itself_as_a_png():
    maps = {"A": torch.rand(4, 4, generator=seeded())}
    for picture in (
        adv.show_fourier_sensitivity(maps, 1),
        adv.show_frequency_accuracy({"A": result_of([1, 2], [1, 2], [2, 1])}),
        adv.show_spectrum({"A": torch.rand(2, 1, 4, 4, generator=seeded())}, signed=True),
    ):
        assert picture._repr_png_().startswith(b"\x89PNG")


def test_figures_say_what_they_expected():
    for maps in ({"A": torch.rand(2, 3, 3)}, {"A": 2 * torch.ones(3, 3)}, {"A": torch.full((3, 3), torch.nan)}):
        with pytest.raises(ValueError, match=r"maps\['A'\]: expected error rates .*adv.fourier_sensitivity"):
            adv.show_fourier_sensitivity(maps, 1.0)
    with pytest.raises(ValueError, match="maps: expected one map or more"):
        adv.show_fourier_sensitivity({}, 1.0)
    with pytest.raises(ValueError, match="results: expected one result or more"):
        adv.show_frequency_accuracy({})
    with pytest.raises(ValueError, match="chance: expected a fraction"):
        adv.show_frequency_accuracy({"A": result_of([1], [1], [1])}, chance=10)
