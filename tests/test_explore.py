"""Explorers without a browser: set a control, and look at the picture and the words."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import advcl_nb as adv

IMAGES = adv.shapes(12, size=16)
TILE, STEP, TOP = 128, 138, 16  # a tile's size on the screen, its distance to the next, and the line over it


def tiles_of(explorer, h=16, w=16):
    """The small images in the picture, by reading back the middle of each enlarged pixel: (k, h, w, 3) in 0..255."""
    canvas = np.asarray(Image.open(io.BytesIO(explorer.picture.value)).convert("RGB")).astype(int)
    rows = TOP + ((np.arange(h) + 0.5) * TILE / h).astype(int)
    count = (canvas.shape[1] + STEP - TILE) // STEP  # the last may be white, where the picture is wider
    columns = ((np.arange(w) + 0.5) * TILE / w).astype(int)
    return np.stack([canvas[rows][:, place * STEP + columns] for place in range(count)])


def pixels(image):
    return (255 * image.clamp(0, 1)).round().permute(1, 2, 0).numpy().astype(int)


def test_the_radius_splits_the_image_and_its_energy():
    explorer, x = adv.explore_frequency(IMAGES, radius=3.0), IMAGES.x.float() / 255
    for number, radius in ((0, 3.0), (5, 3.0), (5, 1.5)):
        explorer.controls["image"].value, explorer.controls["radius"].value = number, radius
        spectrum = np.fft.fft2(x[number].double().numpy())
        k = np.fft.fftfreq(16, 1 / 16)
        low = np.broadcast_to(k[:, None] ** 2 + k**2 < radius**2, spectrum.shape)
        slow = torch.as_tensor(np.fft.ifft2(spectrum * low).real)
        tiles = tiles_of(explorer)
        assert np.abs(tiles[0] - pixels(x[number])).max() == 0
        assert np.abs(tiles[1] - pixels(slow)).max() <= 1
        assert np.abs(tiles[2] - pixels(0.5 + (x[number] - slow) / 2)).max() <= 1
        assert np.abs(tiles[3] - pixels(x[number] - slow)).max() <= 1
        share = (np.abs(spectrum) ** 2)[low].sum() / (np.abs(spectrum) ** 2).sum()
        assert f"low part holds {share:.1%} of the energy" in explorer.words.value
        assert f"Radius {radius:g} cycles per picture, this image" in explorer.words.value


def test_the_mask_lies_on_the_spectrum():
    explorer = adv.explore_frequency(IMAGES, radius=4.0)
    spectrum = tiles_of(explorer)[4]
    coloured = np.ptp(spectrum, axis=2) > 0  # grey where the high part keeps, orange where it does not
    k = np.arange(16) - 8
    assert np.array_equal(coloured, k[:, None] ** 2 + k**2 < 16)
    explorer.controls["radius"].value = 0.0
    assert not (np.ptp(tiles_of(explorer)[4], axis=2) > 0).any()


def test_the_mean_of_the_images_is_taken_over_all():
    explorer, x = adv.explore_frequency(IMAGES, radius=2.0), IMAGES.x.double() / 255
    explorer.controls["spectrum"].value = "mean of the images"
    power, k = torch.fft.fft2(x).abs().square().sum((0, 1)), torch.fft.fftfreq(16, 1 / 16)
    share = float(power[k[:, None] ** 2 + k**2 < 4].sum() / power.sum())
    assert f"mean of the images: the low part holds {share:.1%}" in explorer.words.value


def test_views_are_those_of_the_draw():
    explorer, x = adv.explore_views(IMAGES, seed=3), IMAGES.x[4:5].float() / 255
    explorer.controls["image"].value, explorer.controls["roll"].value = 4, 7
    settings = adv.ViewSettings(padding=2, radius=4.0)  # half of the release's, as the pictures' side
    drawn = adv.draw_views(1, 16, 16, settings, generator=adv.Streams(3)("views", 7))
    views = adv.make_views(x, drawn)
    tiles = tiles_of(explorer)
    for tile, view in zip(tiles[1:4], views[:3], strict=True):
        assert np.abs(tile - pixels(view[0])).max() <= 1
    assert np.abs(tiles[4] - pixels(0.5 + views.high[0] / 2)).max() <= 1
    assert "Draw 7: view1 is cut from " in explorer.words.value


def test_one_knob_changes_and_the_draw_stays():
    explorer = adv.explore_views(IMAGES, seed=0)
    before = tiles_of(explorer)
    explorer.controls["radius"].value = 2.0
    after = tiles_of(explorer)
    assert np.array_equal(before[:4], after[:4]) and not np.array_equal(before[4], after[4])
    explorer.controls["hold"].value = False
    explorer.controls["radius"].value = 3.0
    anew = tiles_of(explorer)
    assert not np.array_equal(after[1], anew[1]) and "drawn anew" in explorer.words.value


def test_rolling_draws_again_and_rolling_back_gives_the_same():
    explorer = adv.explore_views(IMAGES, seed=0)
    first = explorer.picture.value
    explorer.controls["roll"].value = 1
    assert explorer.picture.value != first
    explorer.controls["roll"].value = 0
    assert explorer.picture.value == first


def clusterings(n=12):
    return torch.stack([torch.arange(n) % 2, torch.arange(n) % 5], 1)


def test_a_cluster_is_told_and_counted():
    explorer = adv.explore_clusters(clusterings(), IMAGES, IMAGES.y)
    explorer.controls["column"].value = 1
    explorer.controls["cluster"].value = 3
    inside = [int(IMAGES.y[k]) for k in range(12) if k % 5 == 3]
    top = max(set(inside), key=lambda y: (inside.count(y), -y))
    share = inside.count(top) / len(inside)
    told = f"K = 5, cluster 3: {len(inside)} images, most of them {IMAGES.classes[top]} {share:.0%}"
    assert told in explorer.words.value
    pairs = [[int(IMAGES.y[k]) for k in range(12) if k % 5 == c] for c in range(5)]
    purity = sum(max(ys.count(y) for y in ys) for ys in pairs) / 12
    assert f"purity {purity:.1%}" in explorer.words.value
    canvas = np.asarray(Image.open(io.BytesIO(explorer.picture.value)).convert("RGB")).astype(int)
    middle = ((np.arange(16) + 0.5) * 64 / 16).astype(int)
    first = canvas[middle][:, middle]
    assert np.array_equal(first, IMAGES.x[3].permute(1, 2, 0).numpy())  # the first of cluster 3


def test_the_slider_ends_at_the_last_cluster_of_the_clustering():
    explorer = adv.explore_clusters(clusterings(), IMAGES, IMAGES.y)
    assert explorer.controls["cluster"].max == 1
    explorer.controls["column"].value = 1
    explorer.controls["cluster"].value = 4
    explorer.controls["column"].value = 0
    assert explorer.controls["cluster"].value == 1 and "K = 2, cluster 1" in explorer.words.value


def test_sources_of_features_are_compared():
    other = clusterings().roll(1, 0)
    explorer = adv.explore_clusters({"SimCLR": clusterings(), "AdvCL": other}, IMAGES, IMAGES.y)
    assert explorer.words.value.startswith("SimCLR: K = 2")
    before = explorer.picture.value
    explorer.controls["source"].value = "AdvCL"
    assert explorer.words.value.startswith("AdvCL: K = 2") and explorer.picture.value != before


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (clusterings()[:5], r"assignments: expected cluster numbers \(12, k\)"),
        (clusterings().float(), r"assignments: expected cluster numbers"),
        (clusterings()[:, 0], r"assignments: expected cluster numbers"),
        ({"a": clusterings(), "b": clusterings()[:, :1]}, "assignments: expected as many columns from each source"),
    ],
)
def test_assignments_that_do_not_fit_are_told(assignments, words):
    with pytest.raises(ValueError, match=words):
        adv.explore_clusters(assignments, IMAGES, IMAGES.y)


@pytest.fixture(scope="module")
def models():
    """Two linear classifiers of the flattened image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: nn.Sequential(nn.Flatten(), nn.Linear(768, 10)).train() for name in ("SimCLR", "AdvCL")}


def test_the_attack_is_pgd_on_each_model(models):
    explorer = adv.explore_attack(models, IMAGES, IMAGES.y, seed=5)
    settings = {"image": 2, "epsilon": 12.0, "step": 0.5, "steps": 3}
    for name, value in settings.items():
        explorer.controls[name].value = value
    x, y = IMAGES.x[2:3].float() / 255, IMAGES.y[2:3]
    tiles = tiles_of(explorer)
    threat = adv.Linf(12 / 255, 6 / 255, 3)
    assert "under PGD-3, 12/255: SimCLR says " in explorer.words.value
    assert explorer.words.value.startswith(IMAGES.classes[int(y)])
    for place, (name, model) in zip((2, 4), models.items(), strict=True):
        dice = adv.Streams(5)("attack", 2)
        moved = adv.pgd(lambda x, f=model: F.cross_entropy(f(x), y), x, threat, generator=dice)
        assert np.abs(tiles[place] - pixels(moved[0])).max() <= 1
        assert f"{name} says {IMAGES.classes[int(model(moved).argmax())]}" in explorer.words.value
        assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


def test_the_norm_chooses_which_epsilon_counts(models):
    explorer = adv.explore_attack(models, IMAGES, IMAGES.y, seed=5)
    assert not explorer.controls["epsilon"].disabled and explorer.controls["epsilon_l2"].disabled
    explorer.controls["norm"].value = "L2"
    assert explorer.controls["epsilon"].disabled and not explorer.controls["epsilon_l2"].disabled
    explorer.controls["epsilon_l2"].value = 0.0
    assert "L2 0: " in explorer.words.value
    tiles = tiles_of(explorer)
    assert np.array_equal(tiles[0], tiles[2]) and np.array_equal(tiles[0], tiles[4])


def test_an_attack_needs_classifiers_and_their_labels(models):
    for given, labels, words in (
        ({}, IMAGES.y, "models: expected one torch.nn.Module or more"),
        (models, IMAGES.y + 5, "labels: expected numbers of 10 classes"),
        (models, IMAGES.y[:3], r"labels: expected whole numbers \(12,\)"),
        (Grey(), IMAGES.y % 2, "models: expected logits of the 10 classes from each"),
    ):
        with pytest.raises(ValueError, match=words):
            adv.explore_attack(given, IMAGES, labels, seed=0)


class Grey(nn.Module):
    """Two classes, light and dark, of images of any size."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, 1 - mean], 1)


EXPLORERS = {
    "attack": lambda images: adv.explore_attack(
        Grey(), images, torch.zeros(len(images), dtype=torch.int64), seed=0, classes=("light", "dark")
    ),
    "frequency": lambda images: adv.explore_frequency(images),
    "views": lambda images: adv.explore_views(images, seed=0),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_end_of_every_control_can_be_drawn(name):
    explorer = EXPLORERS[name](IMAGES)
    for control in explorer.controls.values():
        assert control.description
        start = control.value
        for value in (
            (control.min, control.max) if hasattr(control, "min") else getattr(control, "options", (True, False))
        ):
            control.value = value
        control.value = start


@pytest.mark.parametrize("name", EXPLORERS)
@pytest.mark.parametrize(
    "images",
    [
        IMAGES.x[:1],
        IMAGES.x.numpy(),
        IMAGES.x.float() / 255,
        IMAGES.x[:, :1],
        torch.rand(3, 3, 9, 15, generator=torch.Generator().manual_seed(0)),
    ],
)
def test_any_images_will_do(name, images):
    assert EXPLORERS[name](images).picture.value[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", EXPLORERS)
def test_without_a_kernel_the_picture_stays(name):
    explorer = EXPLORERS[name](IMAGES)
    explorer.controls["image"].value = 3
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.picture.value
    assert bundle["text/plain"] == explorer.words.value
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize("name", EXPLORERS)
def test_what_are_no_images_is_told(name):
    for wrong, words in (
        (IMAGES.x[0], "For one image write"),
        (IMAGES.x[:0], "image or more"),
        (IMAGES.x.float(), r"floats in \[0, 1\]"),
        (IMAGES.x[:, :2], "one channel or three"),
    ):
        with pytest.raises(ValueError, match=f"images: expected .*{words}"):
            EXPLORERS[name](wrong)
