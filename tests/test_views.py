"""Views: each operation against its namesake in torchvision with the same draw, and the draws against its samplers."""

import itertools
import math
import random

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torchvision.transforms import ColorJitter, RandomGrayscale, RandomResizedCrop
from torchvision.transforms import functional as TF

import advcl_nb as adv

N = 10_000  # samples in the comparisons of distributions
STILL = torch.tensor([1.0, 1.0, 1.0, 0.0])
TORCHVISION = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
SHAPES = [(3, 32, 32), (3, 16, 24), (3, 9, 7), (1, 12, 12)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, c: int, h: int, w: int) -> torch.Tensor:
    """Random pixels with black, white, grey and saturated patches: the corners of the colour space."""
    x = torch.rand(n, c, h, w, generator=seeded(c + h + w))
    x[:, :, 0, :3] = torch.tensor([0.0, 0.5, 1.0])
    for channel in range(c):
        x[:, channel, 1, :] = float(channel == 0)
    return x


def strong_by_torchvision(image: torch.Tensor, draw: adv.ViewDraw, view: int, i: int) -> torch.Tensor:
    top, left, height, width = draw.boxes[view, i].tolist()
    image = TF.resized_crop(image, top, left, height, width, list(image.shape[1:]), antialias=True)
    image = TF.hflip(image) if draw.flips[view, i] else image
    if not torch.equal(draw.factors[view, i], STILL):
        for k in draw.order[view, i].tolist():
            image = TORCHVISION[k](image, draw.factors[view, i, k].item())
    return TF.rgb_to_grayscale(image, len(image)) if draw.grey[view, i] else image


def weak_by_loop(image: torch.Tensor, draw: adv.ViewDraw, i: int) -> torch.Tensor:
    h, w = image.shape[1:]
    top, left = draw.base_offsets[i].tolist()
    image = F.pad(image, [draw.padding] * 4)[:, top : top + h, left : left + w]
    return image.flip(2) if draw.base_flips[i] else image


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def drawn() -> adv.ViewDraw:
    return adv.draw_views(N, 32, 32, adv.ViewSettings(), generator=seeded(1))


@pytest.fixture
def torchvision_seeded():
    """Give torchvision, which draws from the global generator, a seed; afterwards the generator is as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        yield


# ---- the application, image by image


@pytest.mark.parametrize("shape", SHAPES)
def test_resized_crop(shape):
    x = images(64, *shape)
    boxes = adv.draw_views(64, *shape[1:], adv.ViewSettings(), generator=seeded()).boxes[0]
    expected = [TF.resized_crop(i, *b.tolist(), list(shape[1:]), antialias=True) for i, b in zip(x, boxes, strict=True)]
    torch.testing.assert_close(adv.resized_crop(x, boxes), torch.stack(expected), atol=2e-5, rtol=0)
    wide = adv.resized_crop(x.double(), boxes)
    expected = [TF.resized_crop(i, *b.tolist(), list(shape[1:])) for i, b in zip(x.double(), boxes, strict=True)]
    torch.testing.assert_close(wide, torch.stack(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize("box", [(0, 0, 8, 12), (3, 4, 1, 1), (7, 11, 1, 1), (0, 0, 1, 12), (0, 5, 8, 1)])
def test_resized_crop_of_the_whole_picture_and_of_single_pixels(box):
    x = images(1, 3, 8, 12)
    expected = TF.resized_crop(x, *box, [8, 12], antialias=True)
    torch.testing.assert_close(adv.resized_crop(x, torch.tensor([box])), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "k, values", [(0, (0.6, 1.0, 1.4)), (1, (0.0, 0.7, 1.4)), (2, (0.0, 0.6, 1.4)), (3, (-0.5, 0.1, 0.3))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_colour_operation(k, values, channels):
    x = images(len(values), channels, 8, 8)
    factors = STILL.repeat(len(values), 1)
    factors[:, k] = torch.tensor(values)
    order = torch.arange(4).repeat(len(values), 1)
    expected = torch.stack([TORCHVISION[k](i, v) for i, v in zip(x, values, strict=True)])
    torch.testing.assert_close(adv.color_jitter(x, factors, order), expected, atol=2e-6, rtol=0)


def test_colours_change_in_each_images_own_order():
    x = images(24, 3, 8, 8)
    order = torch.tensor([p for p in itertools.permutations(range(4))])
    factors = torch.tensor([1.4, 1.4, 0.6, 0.1]).repeat(24, 1)
    expected = []
    for image, row in zip(x, order.tolist(), strict=True):
        for k in row:
            image = TORCHVISION[k](image, factors[0, k].item())
        expected.append(image)
    result = adv.color_jitter(x, factors, order)
    torch.testing.assert_close(result, torch.stack(expected), atol=2e-6, rtol=0)
    assert len({round(r.sum().item(), 3) for r in adv.color_jitter(x[:1].expand(24, -1, -1, -1), factors, order)}) > 6


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_flip(channels):
    x, chosen = images(6, channels, 5, 8), torch.tensor([True, False, True, False, False, True])
    grey = torch.stack([TF.rgb_to_grayscale(i, channels) if c else i for i, c in zip(x, chosen, strict=True)])
    torch.testing.assert_close(adv.to_grey(x, chosen), grey, atol=1e-6, rtol=0)
    flipped = torch.stack([TF.hflip(i) if c else i for i, c in zip(x, chosen, strict=True)])
    assert torch.equal(adv.flip(x, chosen), flipped)


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_views_equal_torchvision_with_the_same_draw(shape):
    x = images(48, *shape)
    draw = adv.draw_views(48, *shape[1:], adv.ViewSettings(padding=3, radius=2.0), generator=seeded(5))
    views = adv.make_views(x, draw)
    for view, result in enumerate((views.view1, views.view2)):
        expected = torch.stack([strong_by_torchvision(image, draw, view, i) for i, image in enumerate(x)])
        torch.testing.assert_close(result, expected, atol=5e-5, rtol=0)
        assert result.min() >= 0 and result.max() <= 1 + 1e-6
    assert torch.equal(views.base, torch.stack([weak_by_loop(image, draw, i) for i, image in enumerate(x)]))
    assert torch.equal(views.high, adv.high_pass(views.base, 2.0))


def test_making_views_leaves_the_images_alone():
    x = images(8, 3, 16, 16)
    kept = x.clone()
    adv.make_views(x, adv.draw_views(8, 16, 16, adv.ViewSettings(), generator=seeded()))
    assert torch.equal(x, kept)


def test_settings_without_effect_leave_the_picture_as_it_is():
    plain = adv.ViewSettings(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, padding=0)
    x = images(8, 3, 16, 16)
    views = adv.make_views(x, adv.draw_views(8, 16, 16, plain, generator=seeded()))
    for view in views[:3]:
        torch.testing.assert_close(view, x, atol=2e-6, rtol=0)


def test_every_view_has_a_draw_of_its_own(drawn):
    for part in (drawn.boxes, drawn.flips, drawn.factors, drawn.order, drawn.grey):
        same = (part[0] == part[1]).reshape(N, -1).all(1).float().mean()
        assert same < 0.75  # two equal coins of p = 0.2 agree in 0.68 of the cases


# ---- the draws


def test_crop_boxes_have_torchvisions_distribution(drawn, torchvision_seeded):
    settings, picture = adv.ViewSettings(), torch.empty(3, 32, 32)
    get = lambda: RandomResizedCrop.get_params(picture, settings.crop_scale, settings.crop_ratio)  # noqa: E731
    theirs = np.array([get() for _ in range(N)]).T
    ours = drawn.boxes[0].numpy().T
    for name, measure in {
        "area": lambda top, left, h, w: h * w,
        "ratio": lambda top, left, h, w: w / h,
        "top": lambda top, left, h, w: top / np.maximum(32 - h, 1),
        "left": lambda top, left, h, w: left / np.maximum(32 - w, 1),
        "centre": lambda top, left, h, w: top + left + (h + w) / 2,
    }.items():
        assert stats.ks_2samp(measure(*ours), measure(*theirs)).pvalue > 0.01, name
    joint = [np.histogram2d(box[2], box[3], bins=[[0, 16, 20, 24, 28, 33]] * 2)[0].ravel() for box in (ours, theirs)]
    table = np.array(joint)[:, np.sum(joint, 0) > 20]
    assert stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize("h, w", [(32, 32), (16, 24), (40, 9)])
def test_boxes_lie_inside_the_image(h, w):
    top, left, height, width = adv.draw_views(N, h, w, adv.ViewSettings(), generator=seeded()).boxes.flatten(0, 1).T
    assert top.min() >= 0 and left.min() >= 0 and height.min() >= 1 and width.min() >= 1
    assert (top + height).max() <= h and (left + width).max() <= w


def test_boxes_of_a_picture_that_is_not_square(torchvision_seeded):
    settings, picture = adv.ViewSettings(), torch.empty(3, 16, 40)
    theirs = np.array([RandomResizedCrop.get_params(picture, (0.2, 1.0), (3 / 4, 4 / 3)) for _ in range(N)]).T
    ours = adv.draw_views(N, 16, 40, settings, generator=seeded()).boxes[0].numpy().T
    for k in range(4):
        assert stats.ks_2samp(ours[k], theirs[k]).pvalue > 0.01


@pytest.mark.parametrize("h, w", [(32, 32), (16, 40), (40, 16), (7, 5)])
@pytest.mark.parametrize("ratio", [(3.0, 4.0), (0.2, 0.25)])
def test_the_fallback_box_where_no_box_fits(h, w, ratio):
    settings = adv.ViewSettings(crop_scale=(1.0, 1.0), crop_ratio=ratio)
    expected = list(RandomResizedCrop.get_params(torch.empty(3, h, w), (1.0, 1.0), ratio))
    boxes = adv.draw_views(20, h, w, settings, generator=seeded()).boxes.flatten(0, 1)
    assert (boxes == torch.tensor(expected)).all()


def test_colour_factors_have_torchvisions_distribution(drawn, torchvision_seeded):
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    theirs = [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(N)]
    jittered = (drawn.factors != STILL).any(-1)
    ours = drawn.factors[jittered]
    for k in range(4):
        assert stats.ks_2samp(ours[:, k].numpy(), [row[1 + k] for row in theirs]).pvalue > 0.01
    correlation = np.corrcoef(ours.numpy().T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(ours))


def test_the_order_is_a_uniform_permutation(drawn):
    assert (drawn.order.sort(-1).values == torch.arange(4)).all()
    codes = (drawn.order * torch.tensor([64, 16, 4, 1])).sum(-1).flatten()
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts.numpy()).pvalue > 0.01


def test_the_coins_have_their_probabilities_and_are_independent(drawn, torchvision_seeded):
    jittered = (drawn.factors != STILL).any(-1)
    for coin, p in [(drawn.flips, 0.5), (jittered, 0.8), (drawn.grey, 0.2), (drawn.base_flips, 0.5)]:
        assert stats.binomtest(int(coin.sum()), coin.numel(), p).pvalue > 0.01
    pixel, grey = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1), RandomGrayscale(0.2)
    theirs = sum(bool((grey(pixel)[1] > 0).item()) for _ in range(N))
    assert (
        stats.fisher_exact([[theirs, N - theirs], [int(drawn.grey[0].sum()), N - int(drawn.grey[0].sum())]]).pvalue
        > 0.01
    )
    code = drawn.flips[0] * 8 + drawn.flips[1] * 4 + jittered[0] * 2 + drawn.grey[0]
    p = [f1 * f2 * j * g for f1 in (0.5, 0.5) for f2 in (0.5, 0.5) for j in (0.2, 0.8) for g in (0.8, 0.2)]
    assert stats.chisquare(code.bincount(minlength=16).numpy(), N * np.array(p)).pvalue > 0.01


def test_the_weak_views_offsets_are_uniform(drawn):
    counts = (drawn.base_offsets[:, 0] * 9 + drawn.base_offsets[:, 1]).bincount(minlength=81)
    assert len(counts) == 81 and stats.chisquare(counts.numpy()).pvalue > 0.01


def test_draws_are_a_function_of_the_generator_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = adv.draw_views(16, 32, 32, adv.ViewSettings(), generator=seeded(7))
    torch.rand(3, generator=seeded(1))
    second = adv.draw_views(16, 32, 32, adv.ViewSettings(), generator=seeded(7))
    other = adv.draw_views(16, 32, 32, adv.ViewSettings(), generator=seeded(8))
    for name, a, b, c in zip(first._fields, first, second, other, strict=True):
        assert a is b or a == b if not isinstance(a, torch.Tensor) else torch.equal(a, b), name
        assert not isinstance(a, torch.Tensor) or not torch.equal(a, c), name
    adv.make_views(images(16, 3, 32, 32), first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]


# ---- errors


@pytest.mark.parametrize(
    "field, value",
    [("crop_scale", (0.0, 1.0)), ("crop_scale", (0.5, 0.2)), ("crop_scale", (0.2, 2.0)), ("crop_ratio", (2.0, 1.0)),
     ("flip", 1.5), ("jitter", -0.1), ("grey", float("nan")), ("hue", 0.6), ("brightness", 2.0), ("padding", -1),
     ("radius", -2.0)],
)  # fmt: skip
def test_settings_are_checked_when_made(field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        adv.ViewSettings(**{field: value})


def test_the_defaults_are_the_releases():
    assert adv.ViewSettings() == adv.ViewSettings(
        (0.2, 1.0), (3 / 4, 4 / 3), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
        grey=0.2, padding=4, radius=8.0,
    )  # fmt: skip


def test_wrong_images_raise(unchecked):
    draw = adv.draw_views(4, 16, 16, adv.ViewSettings(), generator=seeded())
    with pytest.raises(ValueError, match=r"images: expected floats in \[0, 1\], got uint8"):
        adv.make_views(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), draw)
    with pytest.raises(ValueError, match="images: expected 4 images, as drawn, got float32 of shape"):
        adv.make_views(torch.zeros(5, 3, 16, 16), draw)
    with pytest.raises(ValueError, match="images: expected one channel or three"):
        adv.make_views(torch.zeros(4, 2, 16, 16), draw)


def test_gradients_flow_through_the_views():
    x = torch.rand(6, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    settings = adv.ViewSettings(jitter=1.0, padding=2)
    draw = adv.draw_views(6, 12, 12, settings, generator=torch.Generator().manual_seed(1))
    torch.stack(list(adv.make_views(x, draw))).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).float().mean() > 0.5
