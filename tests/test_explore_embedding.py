"""The map of images without a browser: what the canvas is given, and what a selection shows."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import advcl_nb as adv
from advcl_nb.explore import embedding

IMAGES = adv.shapes(40, size=16)
G = torch.Generator().manual_seed(0)
POINTS = torch.randn(40, 2, generator=G)
ENDS = POINTS + torch.randn(40, 2, generator=G)


def floats(data):
    return np.frombuffer(data, np.float32).reshape(-1, 2)


def shown(explorer, count):
    """The gallery's images, by reading back the middle of each enlarged pixel: (count, 16, 16, 3) in 0..255."""
    canvas = np.asarray(Image.open(io.BytesIO(explorer.picture.value)).convert("RGB"))
    middles = ((np.arange(16) + 0.5) * 64 / 16).astype(int)
    return np.stack([canvas[69 * (k // 16) + middles][:, 69 * (k % 16) + middles] for k in range(count)])


def test_the_canvas_is_given_the_map_in_its_own_proportions():
    explorer = adv.explore_embedding({"a": POINTS, "b": 7 * POINTS + 3}, IMAGES, IMAGES.y, moved={"a": ENDS, "b": ENDS})
    canvas = explorer.controls["selection"]
    places, ends = floats(canvas.points), floats(canvas.moved)
    both = np.concatenate([places, ends])
    assert both.min() == 0 and both.max() == pytest.approx(1)
    shifts = (ENDS - POINTS).numpy()  # one factor for both axes, and no turn
    factor = np.linalg.norm(ends - places) / np.linalg.norm(shifts)
    assert np.allclose(ends - places, factor * shifts, atol=1e-6)
    explorer.controls["map"].value = "b"
    again = floats(canvas.points)
    assert not np.allclose(again, places) and np.corrcoef(again[:, 0], POINTS[:, 0])[0, 1] > 0.999


def test_colours_follow_class_cluster_or_correctness():
    clusters, predictions = torch.arange(40) // 3, (IMAGES.y + (torch.arange(40) == 5)) % 10
    explorer = adv.explore_embedding(POINTS, IMAGES, IMAGES.y, clusters=clusters, predictions=predictions)
    canvas = explorer.controls["selection"]
    assert np.frombuffer(canvas.groups, np.uint8).tolist() == IMAGES.y.tolist()
    assert canvas.names == list(IMAGES.classes) and len(set(canvas.colors)) == 10
    explorer.controls["color"].value = "cluster"
    assert np.frombuffer(canvas.groups, np.uint8).tolist() == (clusters % 10).tolist()
    assert canvas.names == []  # fourteen clusters share ten colours
    explorer.controls["color"].value = "correctness"
    assert np.flatnonzero(np.frombuffer(canvas.groups, np.uint8)).tolist() == [5]
    assert canvas.names == ["right", "wrong"]
    assert f"taken for {IMAGES.classes[int(predictions[5])]}" in canvas.captions[5]
    assert "Right: 97.5%" in explorer.words.value
    assert all(0 <= group < len(canvas.colors) for group in np.frombuffer(canvas.groups, np.uint8))


def test_numbers_may_differ_from_map_to_map():
    wrong = {"a": IMAGES.y, "b": (IMAGES.y + 1) % 10}
    explorer = adv.explore_embedding({"a": POINTS, "b": ENDS}, IMAGES, IMAGES.y, predictions=wrong)
    canvas = explorer.controls["selection"]
    explorer.controls["color"].value = "correctness"
    assert "Right: 100.0%" in explorer.words.value and set(canvas.groups) == {0}
    explorer.controls["map"].value = "b"
    assert "Right: 0.0%" in explorer.words.value and set(canvas.groups) == {1}
    assert f"taken for {IMAGES.classes[int(wrong['b'][7])]}" in canvas.captions[7]


def test_a_selection_shows_its_images_and_its_classes():
    explorer = adv.explore_embedding(POINTS, IMAGES, IMAGES.y)
    assert explorer.words.value.startswith("All 40 images: ")
    explorer.controls["selection"].value = [7, 17, 2]
    kept = [7, 17, 2]
    assert np.array_equal(shown(explorer, 3), IMAGES.x[kept].permute(0, 2, 3, 1).numpy())
    counts = IMAGES.y[kept].bincount(minlength=10)
    assert explorer.words.value.startswith("Selected 3 images: ")
    assert all(f"{IMAGES.classes[k]} {counts[k]}" in explorer.words.value for k in range(10) if counts[k])
    explorer.controls["selection"].value = []
    assert explorer.words.value.startswith("All 40 images: ")
    with pytest.raises(ValueError, match="selection: expected rows from 0 to 39"):
        explorer.controls["selection"].value = [40]


def test_the_sheet_holds_each_image_at_its_place():
    explorer = adv.explore_embedding(POINTS, IMAGES, IMAGES.y)
    canvas = explorer.controls["selection"]
    columns, w, h = canvas.sheet_shape
    sheet = np.asarray(Image.open(io.BytesIO(canvas.sheet))).astype(int)
    for row in (0, 6, 23, 39):
        top, left = row // columns * h, row % columns * w
        tile = sheet[top : top + h, left : left + w]
        off = np.abs(tile - IMAGES.x[row].permute(1, 2, 0).numpy()).mean()
        others = np.abs(tile[None] - IMAGES.x.permute(0, 2, 3, 1).numpy()).mean((1, 2, 3))
        assert off == others.min() and off < 8  # grey levels; the sheet is a JPEG


def test_predictions_may_name_classes_that_no_image_has():
    labels, predictions = torch.zeros(40, dtype=torch.int64), torch.arange(40) % 7
    explorer = adv.explore_embedding(POINTS, IMAGES.x, labels, predictions=predictions)
    assert explorer.controls["selection"].captions[6] == "image 6: class 0, taken for class 6"


def test_many_images_share_a_sheet_that_a_browser_can_draw(monkeypatch):
    few, many = (torch.zeros(1, 1, 60, 30, dtype=torch.uint8).expand(n, 1, 60, 30) for n in (9, 400))
    monkeypatch.setattr(embedding, "SHEET", 320)  # as 8192 for a quarter of a million
    assert embedding._canvas(few).sheet_shape == [3, 24, 48]
    columns, w, h = embedding._canvas(many).sheet_shape
    assert (columns, w, h) == (20, 8, 16) and columns * h <= 320


def test_a_name_is_text_and_no_markup():
    explorer = adv.explore_embedding(POINTS, IMAGES, IMAGES.y, classes=["<b>", *IMAGES.classes[1:]])
    assert "&lt;b&gt; 4" in explorer.words.value


def test_large_images_are_made_small_in_their_proportions():
    x = torch.rand(5, 1, 120, 60, generator=G)
    canvas = adv.explore_embedding(POINTS[:5], x, torch.zeros(5, dtype=torch.int64)).controls["selection"]
    assert canvas.sheet_shape == [3, 24, 48]


def test_without_a_kernel_the_map_stays():
    explorer = adv.explore_embedding({"a": POINTS}, IMAGES, IMAGES.y, moved={"a": ENDS})
    bundle = explorer._repr_mimebundle_()
    picture = base64.b64decode(bundle["image/png"])
    assert picture[:4] == b"\x89PNG" and picture != explorer.picture.value
    explorer.controls["copies"].value = False
    assert base64.b64decode(explorer._repr_mimebundle_()["image/png"]) != picture


def test_controls_without_a_choice_are_hidden():
    explorer = adv.explore_embedding(POINTS, IMAGES, IMAGES.y)
    assert {name for name, control in explorer.controls.items() if control.layout.display == "none"} == {
        "map", "color", "copies",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points": POINTS[:3]}, r"points: expected finite places \(40, 2\)"),
        ({"points": POINTS.log()}, "points: expected finite places"),
        ({"points": {}}, "points: expected one map or more"),
        ({"points": {"a": POINTS}, "moved": {"b": POINTS}}, "moved: expected places under the names of points"),
        ({"points": {"a": POINTS}, "moved": {"a": POINTS[:1]}}, r"moved\['a'\]: expected finite places"),
        ({"labels": IMAGES.y[:3]}, r"labels: expected whole numbers \(40,\)"),
        ({"labels": IMAGES.y + 1}, "labels: expected class numbers from 0 to 9"),
        ({"clusters": IMAGES.y.float()}, "clusters: expected whole numbers"),
        ({"predictions": IMAGES.y + 1}, "predictions: expected class numbers from 0 to 9.*Pass classes="),
        ({"labels": np.array(["a"] * 40)}, "labels: expected whole numbers"),
        ({"predictions": IMAGES.y - 1}, "predictions: expected whole numbers"),
        ({"points": {"a": POINTS}, "clusters": {"b": IMAGES.y}}, "clusters: expected numbers under the names a"),
        ({"images": IMAGES.x[0]}, "images: expected"),
    ],
)
def test_what_does_not_fit_is_told(changes, words):
    given = {"points": POINTS, "images": IMAGES, "labels": IMAGES.y} | changes
    with pytest.raises(ValueError, match=words):
        adv.explore_embedding(given.pop("points"), given.pop("images"), given.pop("labels"), **given)
