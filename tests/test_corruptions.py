"""Corruptions against SciPy, loops and statistics; sets of them from our own and from files in CIFAR-10-C's layout."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from types import GeneratorType

import jaxtyping
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from scipy import ndimage
from scipy.stats import kstest, normaltest
from torch import nn

import advcl_nb as adv
from advcl_nb import corrupted
from advcl_nb.corruptions import STRENGTHS
from advcl_nb.plots._style import METHOD_COLORS

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog")
FIXED = tuple(name for name in adv.CORRUPTIONS if name not in RANDOM)
SIZES = [(3, 16, 16), (1, 32, 32), (3, 7, 12), (1, 5, 4), (3, 1, 1)]
LEVELS = (1, 2, 3, 4, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=4, c=3, h=16, w=16, seed=0, dtype=torch.float64):
    return torch.rand(n, c, h, w, generator=seeded(seed), dtype=dtype)


def corrupt(x, name, severity=3, seed=0):
    return adv.corrupt(x, name, severity, generator=seeded(seed))


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# What every corruption keeps


def test_the_names_are_nine_and_each_has_five_strengths():
    kinds = "gaussian_noise shot_noise impulse_noise gaussian_blur motion_blur fog brightness contrast pixelate"
    assert kinds.split() == list(adv.CORRUPTIONS)
    assert all(len(strengths) == 5 for strengths in STRENGTHS.values())


@pytest.mark.parametrize("name", adv.CORRUPTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_shape_range_and_input_stay(name, size):
    x = pictures(3, *size)
    x[0], x[1] = 0.0, 1.0
    before = x.clone()
    for severity in LEVELS:
        y = corrupt(x, name, severity)
        assert y.shape == x.shape and y.dtype == x.dtype
        assert y.isfinite().all() and y.min() >= 0 and y.max() <= 1
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", adv.CORRUPTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_stays_and_its_rounding_is_all_that_it_changes(name, dtype):
    x = pictures(dtype=torch.float32).to(dtype)
    y = corrupt(x, name)
    assert y.dtype == dtype
    expected = corrupt(x.double(), name)  # the draws are made in float32 for any dtype
    torch.testing.assert_close(y.double(), expected, atol=4 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("name", adv.CORRUPTIONS)
@pytest.mark.parametrize("size", [16, 32])
def test_a_higher_severity_changes_the_image_more(name, size):
    x = adv.to_float(adv.shapes(64, size=size).x)
    changes = [(corrupt(x, name, severity) - x).square().mean().sqrt().item() for severity in LEVELS]
    assert changes[0] > 0.01
    assert all(b > 1.05 * a for a, b in zip(changes, changes[1:], strict=False)), changes


# Randomness


@pytest.mark.parametrize("name", RANDOM)
def test_the_generator_alone_decides_and_every_image_has_a_draw_of_its_own(name):
    x = pictures(1).expand(6, -1, -1, -1)
    y = corrupt(x, name)
    assert torch.equal(y, corrupt(x, name)) and not torch.equal(y, corrupt(x, name, seed=1))
    assert len({tuple(image.flatten().tolist()) for image in y}) == 6


@pytest.mark.parametrize("name", FIXED)
def test_the_others_draw_nothing_and_treat_each_image_by_itself(name):
    generator = seeded(3)
    before, x = generator.get_state(), pictures(5)
    y = adv.corrupt(x, name, 4, generator=generator)
    assert torch.equal(generator.get_state(), before)
    for i in range(5):
        torch.testing.assert_close(corrupt(x[i : i + 1], name, 4)[0], y[i])


def test_the_global_random_state_is_untouched():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    for name in adv.CORRUPTIONS:
        corrupt(pictures(2), name)
    assert torch.equal(torch.rand(2), expected)


# Each kind against its own oracle


@pytest.mark.parametrize("severity", LEVELS)
def test_gaussian_blur_is_scipys(severity):
    x, deviation = pictures(2, 3, 9, 14), STRENGTHS["gaussian_blur"][severity - 1]
    expected = ndimage.gaussian_filter(
        x.numpy(), deviation, mode="nearest", radius=math.ceil(4 * deviation), axes=(2, 3)
    )
    np.testing.assert_allclose(corrupt(x, "gaussian_blur", severity).numpy(), expected, atol=1e-12)


def point(n, size=21):
    """Black images with one white pixel in the middle: what comes out of a convolution is its kernel."""
    x = torch.zeros(n, 1, size, size, dtype=torch.float64)
    x[:, :, size // 2, size // 2] = 1
    return x


def axes_of(kernels):
    """The direction of each kernel's long axis in [0, pi), and the variance along and across it."""
    offsets = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    down, right = offsets[:, None], offsets[None]
    moments = [[(kernels * a * b).sum((1, 2)) for b in (right, down)] for a in (right, down)]
    values, vectors = torch.linalg.eigh(torch.stack([torch.stack(row, -1) for row in moments], -2))
    return torch.atan2(vectors[:, 1, 1], vectors[:, 0, 1]) % torch.pi, values[:, 1], values[:, 0]


@pytest.mark.parametrize("severity", LEVELS)
def test_motion_blur_is_a_straight_line_of_its_length_in_a_direction_of_its_own(severity):
    kernels = corrupt(point(400), "motion_blur", severity)[:, 0]
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(400, dtype=torch.float64))
    torch.testing.assert_close(kernels.flip(1, 2), kernels)
    direction, along, across = axes_of(kernels)
    length = STRENGTHS["motion_blur"][severity - 1]
    spread = length**2 / 12 + 1 / 12 + 1 / 6  # of a box with soft ends, and of a triangle as wide as a pixel
    assert (along + across).mean().item() == pytest.approx(spread, rel=0.1)
    assert across.max() < 0.3
    assert kstest(direction.numpy() / math.pi, "uniform").pvalue > 0.001


def test_motion_blur_convolves_with_that_kernel_and_repeats_the_edge():
    kernels, x = corrupt(point(4), "motion_blur", 5)[:, 0].numpy(), pictures(4, 3, 6, 9)
    blurred = corrupt(x, "motion_blur", 5).numpy()
    for i, j in np.ndindex(4, 3):
        expected = ndimage.convolve(x[i, j].numpy(), kernels[i], mode="nearest")
        np.testing.assert_allclose(blurred[i, j], expected, atol=1e-12)


def pixelate_by_loop(picture, blocks_down, blocks_right):
    h, w = picture.shape
    result = np.zeros((h, w))
    for i, j in np.ndindex(h, w):
        rows = [k for k in range(h) if k * blocks_down // h == i * blocks_down // h]
        columns = [k for k in range(w) if k * blocks_right // w == j * blocks_right // w]
        result[i, j] = np.mean([picture[a, b] for a in rows for b in columns])
    return result


@pytest.mark.parametrize("severity", LEVELS)
@pytest.mark.parametrize(("h", "w"), [(16, 16), (7, 10)])
def test_pixelate_is_a_loop_over_blocks(severity, h, w):
    x, left = pictures(1, 1, h, w), STRENGTHS["pixelate"][severity - 1]
    expected = pixelate_by_loop(x[0, 0].numpy(), round(h * left), round(w * left))
    result = corrupt(x, "pixelate", severity)[0, 0]
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)
    assert len({round(value, 9) for value in result.flatten().tolist()}) == round(h * left) * round(w * left)


@pytest.mark.parametrize("severity", LEVELS)
def test_brightness_adds_and_contrast_moves_towards_the_channels_mean(severity):
    x = 0.2 + 0.3 * pictures()
    torch.testing.assert_close(corrupt(x, "brightness", severity), x + STRENGTHS["brightness"][severity - 1])
    y = corrupt(x, "contrast", severity)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(y.std((2, 3)), STRENGTHS["contrast"][severity - 1] * x.std((2, 3)))


@pytest.mark.parametrize("severity", LEVELS)
def test_gaussian_noise_is_normal_and_of_its_deviation(severity):
    noise = (corrupt(torch.full((20, 3, 16, 16), 0.5, dtype=torch.float64), "gaussian_noise", severity) - 0.5).flatten()
    deviation = STRENGTHS["gaussian_noise"][severity - 1]
    assert noise.std().item() == pytest.approx(deviation, rel=0.03)
    assert abs(noise.mean().item()) < 4 * deviation / len(noise) ** 0.5
    assert normaltest(noise[noise.abs() < 0.49].numpy()).pvalue > 0.001


@pytest.mark.parametrize("severity", LEVELS)
def test_shot_noise_is_a_count_of_photons_and_grows_with_the_light(severity):
    photons = STRENGTHS["shot_noise"][severity - 1]
    for light in (0.1, 0.4):
        y = corrupt(torch.full((20, 3, 16, 16), light, dtype=torch.float64), "shot_noise", severity)
        counts = y * photons
        torch.testing.assert_close(counts, counts.round())
        assert y.mean().item() == pytest.approx(light, abs=4 * (light / photons / y.numel()) ** 0.5)
        assert y.var().item() == pytest.approx(light / photons, rel=0.06)


@pytest.mark.parametrize("severity", LEVELS)
def test_impulse_noise_turns_its_share_of_the_values_black_or_white(severity):
    x = 0.1 + 0.8 * pictures(40, 3, 16, 16)
    y, share = corrupt(x, "impulse_noise", severity), STRENGTHS["impulse_noise"][severity - 1]
    hit = y != x
    assert set(y[hit].unique().tolist()) == {0.0, 1.0}
    assert hit.double().mean().item() == pytest.approx(share, abs=4 * (share / x.numel()) ** 0.5)
    assert y[hit].mean().item() == pytest.approx(0.5, abs=2 / int(hit.sum()) ** 0.5)
    assert (hit[:, 0] & ~hit[:, 1]).any()  # each channel by itself
    if severity < 5:
        assert torch.equal(corrupt(x, "impulse_noise", severity + 1)[hit], y[hit])  # a stronger draw only adds to it


def test_fog_mixes_with_white_by_a_smooth_field_that_the_channels_share():
    thickness = corrupt(torch.zeros(50, 3, 32, 32, dtype=torch.float64), "fog", 4)
    share = STRENGTHS["fog"][3]
    assert torch.equal(thickness[:, 0], thickness[:, 1]) and torch.equal(thickness[:, 0], thickness[:, 2])
    torch.testing.assert_close(thickness.amax((1, 2, 3)), torch.full((50,), share, dtype=torch.float64))
    torch.testing.assert_close(thickness.amin((1, 2, 3)), torch.full((50,), share / 2, dtype=torch.float64))
    x = pictures(50, 3, 32, 32)
    torch.testing.assert_close(corrupt(x, "fog", 4), (1 - thickness) * x + thickness)
    power = np.abs(np.fft.fft2(thickness[:, 0].numpy())).mean(0)
    k = np.fft.fftfreq(32, 1 / 32)
    radius = np.hypot(k[:, None], k).round()
    rings = np.array([power[radius == r].mean() for r in range(1, 16)])
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(rings), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.15)


# Errors


def test_errors_name_the_argument_and_say_what_to_do(unchecked):
    x = pictures()
    with pytest.raises(ValueError, match="name: expected one of gaussian_noise, .*, pixelate, got 'snow'"):
        corrupt(x, "snow")
    for severity in (0, 6, 2.5, "3"):
        with pytest.raises(ValueError, match=f"severity: expected .*, got {severity!r}"):
            corrupt(x, "fog", severity)
    for wrong in (x * 255, x - 0.5, x * torch.nan, x[:0]):
        with pytest.raises(ValueError, match=r"images: expected floats in \[0, 1\].*got float64.*adv.to_float"):
            corrupt(wrong, "fog")
    with pytest.raises(
        ValueError, match=r"images: .*\(n, c, h, w\), got float64 of shape \(3, 16, 16\).*image\[None\]"
    ):
        corrupt(x[0], "fog")
    with pytest.raises(ValueError, match="images: expected floats .* got uint8 .*to_float"):
        corrupt(x.to(torch.uint8), "fog")


# Sets of corrupted images


def test_own_corruptions_are_every_kind_at_every_severity():
    data = adv.shapes(6)
    sets = list(adv.own_corruptions(data.x, data.y, generator=seeded()))
    assert [item[:2] for item in sets] == [(name, severity) for name in adv.CORRUPTIONS for severity in LEVELS]
    generator = seeded()
    for item, again in zip(sets, adv.own_corruptions(data.x.float() / 255, data.y, generator=seeded()), strict=True):
        assert isinstance(item, adv.Corrupted) and item.source == "own" and torch.equal(item.labels, data.y)
        expected = adv.corrupt(data.x.float() / 255, item.name, item.severity, generator=generator)
        assert torch.equal(item.images, expected) and torch.equal(item.images, again.images)
    with pytest.raises(ValueError, match="labels: expected whole numbers of shape \\(6,\\), one for each"):
        adv.own_corruptions(data.x, data.y[:5], generator=seeded())


def made_files(root, folder="CIFAR-10-C", each=4):
    """Files in the published layout: the pixel of channel k in row i, column j says which file, severity, image."""
    (root / folder).mkdir(parents=True)
    for place, name in enumerate(corrupted.STANDARD):
        x = np.zeros((5 * each, 32, 32, 3), dtype=np.uint8)
        x[:, 0, 1, 0], x[:, 2, 0, 1] = place, np.arange(5 * each)
        np.save(root / folder / f"{name}.npy", x)
    np.save(root / folder / "labels.npy", np.arange(5 * each) % 10)
    return root / folder


def test_published_files_are_read_severity_by_severity(tmp_path):
    made_files(tmp_path)
    noise, blur = ["gaussian_noise", "shot_noise", "impulse_noise"], ["defocus", "glass", "motion", "zoom"]
    digital = ["contrast", "elastic_transform", "pixelate", "jpeg_compression"]
    standard = [*noise, *(f"{kind}_blur" for kind in blur), "snow", "frost", "fog", "brightness", *digital]
    for count, kept in ((None, 4), (3, 3), (1, 1)):
        sets = list(adv.load_corruptions("cifar10", root=tmp_path, count=count))
        assert [item[:2] for item in sets] == [(name, severity) for name in standard for severity in LEVELS]
        for item in sets:
            rows = [(item.severity - 1) * 4 + i for i in range(kept)]
            assert item.source == "CIFAR-10-C" and item.images.dtype == torch.uint8 and item.images.is_contiguous()
            assert item.images.shape == (kept, 3, 32, 32)
            assert item.images[:, 0, 0, 1].tolist() == [standard.index(item.name)] * kept
            assert item.images[:, 1, 2, 0].tolist() == rows
            assert item.labels.dtype == torch.int64 and item.labels.tolist() == [row % 10 for row in rows]


def test_they_are_found_where_data_sets_lie(tmp_path, monkeypatch):
    made_files(tmp_path, "CIFAR-100-C", each=1)
    monkeypatch.setenv("ADVCL_DATA", str(tmp_path))
    sets = adv.load_corruptions("cifar100")
    assert isinstance(sets, GeneratorType)  # so that a set is in memory only while it is used
    assert {item.source for item in sets} == {"CIFAR-100-C"}
    with pytest.raises(ValueError, match="name: expected one of cifar10, cifar100, got 'stl10'"):
        adv.load_corruptions("stl10")


def test_a_linked_folder_is_still_named_by_the_set(tmp_path):
    (tmp_path / "CIFAR-10-C").symlink_to(made_files(tmp_path / "elsewhere", "c10c", each=1))
    first = next(adv.load_corruptions(root=tmp_path))
    assert first.source == "CIFAR-10-C"
    moved = first.to("meta")
    assert (moved.images.device.type, moved.labels.device.type) == ("meta", "meta") and moved[:2] == first[:2]


def test_missing_files_say_what_where_and_how_to_get_them(tmp_path):
    for name, folder, record in (("cifar10", "CIFAR-10-C", 2535967), ("cifar100", "CIFAR-100-C", 3555552)):
        with pytest.raises(FileNotFoundError) as error:
            adv.load_corruptions(name, root=tmp_path)
        text = str(error.value)
        for words in (
            f"{folder}: expected",
            str(tmp_path / folder),
            f"zenodo.org/records/{record}",
            "gaussian_noise.npy",
        ):
            assert words in text
    folder = made_files(tmp_path)
    for gone in ("fog", "labels"):
        (folder / f"{gone}.npy").rename(folder / "away")
        with pytest.raises(FileNotFoundError, match=f"got none named {gone}.npy. Download CIFAR-10-C.tar"):
            adv.load_corruptions(root=tmp_path)
        (folder / "away").rename(folder / f"{gone}.npy")


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        (
            "labels",
            np.zeros(20),
            "labels.npy: expected whole numbers of shape .* got float64 of shape .20,.. Delete it",
        ),
        ("labels", np.zeros(19, int), "labels.npy: expected whole numbers .* got int64 of shape .19,"),
        ("labels", np.zeros(0, int), "labels.npy: expected "),
        ("labels", np.zeros((20, 1), int), "labels.npy: expected whole numbers .* got int64 of shape .20, 1."),
        (
            "labels",
            np.zeros(25, int),
            r"gaussian_noise.npy: expected uint8 of shape \(25, 32, 32, 3\), an image for each",
        ),
        ("fog", np.zeros((20, 32, 32, 3)), r"fog.npy: expected uint8 of shape \(20, 32, 32, 3\).* got float64 of"),
        ("fog", np.zeros((20, 3, 32, 32), np.uint8), r"got uint8 of shape \(20, 3, 32, 32\). Delete it and unpack"),
        ("fog", np.zeros((15, 32, 32, 3), np.uint8), r"got uint8 of shape \(15, 32, 32, 3\). Delete it and unpack"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, array, text):
    np.save(made_files(tmp_path) / f"{name}.npy", array)
    with pytest.raises(ValueError, match=text):
        list(adv.load_corruptions(root=tmp_path))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", None])
def test_a_broken_file_is_refused(tmp_path, content):
    path = made_files(tmp_path) / "snow.npy"
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(ValueError, match="snow.npy: expected a NumPy array, got a broken file .*Delete it and unpack"):
        list(adv.load_corruptions(root=tmp_path))


@pytest.mark.parametrize("count", [0, 5, -1])
def test_more_images_than_there_are_cannot_be_asked_for(tmp_path, count):
    made_files(tmp_path)
    with pytest.raises(ValueError, match=f"count: expected from 1 to the 4 images of a severity, or None, got {count}"):
        adv.load_corruptions(root=tmp_path, count=count)


# Accuracy on them


class Reader(nn.Module):
    """Answers with the number that is written in one pixel, and notes how it was called."""

    def __init__(self):
        super().__init__()
        self.drop, self.modes = nn.Dropout(0.5), []

    def forward(self, x):
        self.modes.append(self.training)
        return nn.functional.one_hot((x[:, 1, 2, 0] * 255).round().long() % 10, 10).float()


def made_sets(right=None, source="CIFAR-10-C", severities=LEVELS):
    """Two corruptions of ten images; `right` says how many labels are what Reader answers."""
    for name in ("fog", "snow"):
        for severity in severities:
            x = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)
            x[:, 1, 2, 0] = torch.arange(10)
            labels = torch.arange(10)
            count = right[name, severity] if right else 10
            labels[count:] = (labels[count:] + 1) % 10
            yield adv.Corrupted(name, severity, x, labels, source)


RIGHT = {("fog", s): 11 - 2 * s for s in LEVELS} | {("snow", s): 10 - s for s in LEVELS}  # 9, 7, ...; 9, 8, ...


def test_known_answers_get_known_scores_and_plain_means():
    model = Reader().train()
    result = adv.corruption_accuracy(model, made_sets(RIGHT))
    assert {key: score.correct for key, score in result.by_set.items()} == RIGHT
    assert result.source == "CIFAR-10-C" and [score.n for score in result.scores] == [10] * 10
    assert repr(result.scores[2]).startswith("CA[fog 3, CIFAR-10-C] 50.0% (5/10,")
    assert result.mean == pytest.approx(0.6) and result.by_name == pytest.approx({"fog": 0.5, "snow": 0.7})
    assert not any(model.modes) and model.training and model.drop.training
    with pytest.raises(FrozenInstanceError):
        result.source = "own"


def test_the_table_has_a_row_for_each_corruption_and_the_means():
    lines = repr(adv.corruption_accuracy(Reader(), made_sets(RIGHT))).splitlines()
    assert lines[0] == "CA in %, CIFAR-10-C, 10 images a set"
    assert [line.split() for line in lines[1:]] == [
        ["1", "2", "3", "4", "5", "mean"],
        ["fog", "90.0", "70.0", "50.0", "30.0", "10.0", "50.0"],
        ["snow", "90.0", "80.0", "70.0", "60.0", "50.0", "70.0"],
        ["mean", "90.0", "75.0", "60.0", "45.0", "30.0", "60.0"],
    ]
    assert len({len(line) for line in lines[1:]}) == 1
    sets = [item for item in made_sets(RIGHT) if (item.name, item.severity) in {("fog", 1), ("snow", 3)}]
    part = repr(adv.corruption_accuracy(Reader(), sets)).splitlines()
    assert [line.split() for line in part[2:4]] == [["fog", "90.0", "-", "90.0"], ["snow", "-", "70.0", "70.0"]]


def test_each_set_is_scored_as_standard_accuracy_does():
    data = adv.shapes(60, size=16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    model[1].weight.data = torch.randn(10, 768, generator=seeded())
    result = adv.corruption_accuracy(model, adv.own_corruptions(data.x, data.y, generator=seeded(1)))
    assert len(result.scores) == 45 and result.source == "own"
    for item in adv.own_corruptions(data.x, data.y, generator=seeded(1)):
        score = result.by_set[item.name, item.severity]
        assert score.correct == adv.standard_accuracy(model, item.images, item.labels).correct
        assert score.metric == "CA" and score.attack == f"{item.name} {item.severity}, own corruptions"
    assert "CA in %, own corruptions, 60 images a set" in repr(result)


def test_sets_that_do_not_belong_together_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"sets: expected sets of one source, got \['CIFAR-10-C', 'own'\]. Score each"):
        adv.corruption_accuracy(Reader(), [*made_sets(), *made_sets(source="own")])
    with pytest.raises(ValueError, match="sets: expected each corruption and severity once, got .'fog', 1."):
        adv.corruption_accuracy(Reader(), [*made_sets(), *made_sets()])
    used = made_sets()
    list(used)
    with pytest.raises(ValueError, match="sets: expected one set or more, got .*make it anew"):
        adv.corruption_accuracy(Reader(), used)
    with pytest.raises(ValueError, match="sets: expected Corrupted sets, got .*own_corruptions"):
        adv.corruption_accuracy(Reader(), [(torch.rand(1, 3, 4, 4), torch.zeros(1))])


# Figures


def test_corruption_bars_are_as_high_as_the_means():
    worse = {key: count - 1 for key, count in RIGHT.items()}
    results = {
        name: adv.corruption_accuracy(Reader(), made_sets(right)) for name, right in (("AdvCL", RIGHT), ("A", worse))
    }
    (axes,) = adv.show_corruptions(results).axes
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [pytest.approx([0.5, 0.7, 0.6]), pytest.approx([0.4, 0.6, 0.5])]
    assert axes.containers[0][0].get_facecolor()[:3] == to_rgb(METHOD_COLORS["advcl"])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fog", "snow", "mean"]
    assert "CIFAR-10-C" in axes.get_title(loc="left")
    middles = [bar.get_x() + bar.get_width() / 2 for bars in axes.containers for bar in bars]
    assert [round(middle) for middle in middles] == [0, 1, 2, 0, 1, 2]


def test_corruption_bars_of_different_sources_are_refused():
    results = {name: adv.corruption_accuracy(Reader(), made_sets(source=name)) for name in ("own", "CIFAR-10-C")}
    assert "own corruptions" in adv.show_corruptions({"A": results["own"]}).axes[0].get_title(loc="left")
    with pytest.raises(ValueError, match="results: expected scores on one source, got"):
        adv.show_corruptions(results)
    with pytest.raises(ValueError, match="results: expected one result or more"):
        adv.show_corruptions({})


def test_the_sheet_of_corruptions_holds_one_draw_in_each_row():
    image, generator = pictures(1, 3, 12, 12, dtype=torch.float32)[0], seeded(4)
    picture = adv.show_corrupted(image, generator=generator)
    (axes,) = picture.axes
    canvas = torch.from_numpy(np.asarray(axes.images[0].get_array()))
    generator, (down, right) = seeded(4), (canvas.shape[0] // 9 + 1, canvas.shape[1] // 5 + 1)
    for i, name in enumerate(adv.CORRUPTIONS):
        state = generator.get_state()
        for j, severity in enumerate(LEVELS):
            generator.set_state(state)
            expected = adv.corrupt(image[None], name, severity, generator=generator)[0]
            tile = canvas[i * down : i * down + 12, j * right : j * right + 12].permute(2, 0, 1)
            torch.testing.assert_close(tile, expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        name.replace("_", " ") for name in adv.CORRUPTIONS
    ]
    with pytest.raises(ValueError, match="image: expected one image"):
        adv.show_corrupted(image[None], generator=generator)
