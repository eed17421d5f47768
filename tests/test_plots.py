"""Figures: the data that they hold, that they show themselves once, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torchvision.transforms import functional as TF

from advcl_nb.clustering import ClusterQuality
from advcl_nb.config import FinetuneConfig, PretrainConfig
from advcl_nb.data import shapes
from advcl_nb.mixing import draw_mixing, mix_hard_pairs
from advcl_nb.plots import (
    show_attack,
    show_augmentations,
    show_cluster_quality,
    show_clusters,
    show_embedding,
    show_frequency,
    show_hard_pairs,
    show_history,
    show_images,
    show_lr,
    show_scores,
    show_spectrum,
    show_views,
)
from advcl_nb.plots._style import METHOD_COLORS, PALETTE, PROTOCOL_COLORS, colors_of
from advcl_nb.score import Score
from advcl_nb.views import Views, ViewSettings, draw_views, make_views

SHAPES = shapes(64)
SIMCLR = [{"epoch": 1.0, "step": 8, "loss": 5.0, "contrast": 5.0, "learning_rate": 0.1},
          {"epoch": 2.0, "step": 16, "loss": 4.0, "contrast": 4.0, "learning_rate": 0.1}]  # fmt: skip
ADVCL = [{"epoch": 1.0, "step": 8, "loss": 7.0, "contrast": 5.5, "pseudo": 1.5, "learning_rate": 0.1}]
SCORES = {
    "SimCLR": [Score("SA", 97, 100), Score("RA", 5, 100, "PGD-20, 8/255")],
    "AdvCL": [Score("SA", 100, 100), Score("RA", 48, 100, "PGD-20, 8/255"), Score("AA", 0, 100, "AutoAttack")],
}
QUALITIES = [ClusterQuality(10, 0.5, 0.4, 0.3, 9.0, 3, 9), ClusterQuality(2, 0.2, 0.3, 0.1, 2.0, 30, 34)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=7, c=3, h=6, w=6, seed=0):
    return torch.rand(n, c, h, w, generator=generator(seed))


def tile_of(figure, rows, columns, h, w):
    """Cut tile (i, j) out of the mosaic: gaps follow from its size, for tiles are equally far from one another."""
    (axes,) = figure.axes
    canvas = np.asarray(axes.images[0].get_array())
    side = (canvas.shape[1] - columns * w) // max(columns - 1, 1)
    pitch = (canvas.shape[0] + side) // rows
    top = pitch - side - h

    def tile(i, j):
        y, x = top + i * pitch, j * (w + side)
        return torch.from_numpy(canvas[y : y + h, x : x + w]).permute(2, 0, 1)

    return tile


def lines_of(axes):
    return [(line.get_xdata(), line.get_ydata()) for line in axes.get_lines()]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# Images


@pytest.mark.parametrize("titles", [None, ["a", "b", "c", "d", "e", "f", "g\nh"]])
@pytest.mark.parametrize("c", [1, 3])
def test_images_stand_row_by_row_unchanged(titles, c):
    images = noise(7, c, 6, 5)
    figure = show_images(images, titles, columns=3)
    tile = tile_of(figure, 3, 3, 6, 5)
    for k, image in enumerate(images):
        torch.testing.assert_close(tile(*divmod(k, 3)), image.expand(3, -1, -1), rtol=0, atol=0)
    assert (tile(2, 1) == 1).all() and (tile(2, 2) == 1).all()  # nothing there: white
    if titles:
        assert [text.get_text() for text in figure.axes[0].texts] == [*titles, "", ""]


def test_uint8_images_are_shown_as_their_255ths():
    tile = tile_of(show_images(SHAPES[:10]), 1, 10, 16, 16)
    torch.testing.assert_close(tile(0, 9), SHAPES.x[9] / 255)


def test_the_default_number_of_columns_is_balanced_and_at_most_ten():
    for n, rows, columns in [(1, 1, 1), (10, 1, 10), (12, 2, 6), (25, 3, 9)]:
        canvas = show_images(noise(n)).axes[0].images[0].get_array()
        assert canvas.shape[:2] == (rows * 6 + rows - 1, columns * 6 + columns - 1)  # gaps of a pixel


def test_signed_images_have_zero_at_mid_grey_and_the_largest_value_at_the_end():
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, 0, 0], images[1, 1, 0, 0] = 0.2, -0.1
    figure = show_images(images, signed=True)
    tile = tile_of(figure, 1, 2, 4, 4)
    assert (tile(0, 0) == 0.5).all()
    assert tile(0, 1)[:, 0, 0].tolist() == pytest.approx([1.0, 0.25, 0.5])
    caption = " ".join(figure.axes[0].get_xlabel().split())
    assert "white +0.2," in caption and "(51 grey levels)" in caption
    doubled = tile_of(show_images(images, signed=True, scale=2.0), 1, 2, 4, 4)
    assert doubled(0, 1)[:, 0, 0].tolist() == pytest.approx([0.9, 0.3, 0.5])


def test_a_flat_signed_image_is_grey_and_not_a_division_by_zero():
    assert (tile_of(show_images(torch.zeros(1, 1, 4, 4), signed=True), 1, 1, 4, 4)(0, 0) == 0.5).all()


# Views and augmentations


def test_views_are_in_their_columns_and_the_boxes_where_the_draw_says():
    x, n = noise(3, h=12, w=12), 3
    draw = draw_views(n, 12, 12, ViewSettings(radius=3.0), generator=generator(1))
    views = make_views(x, draw)
    figure = show_views(x, views, draw)
    tile = tile_of(figure, n, 6, 12, 12)
    reach = views.high.abs().max()
    for i in range(n):
        expected = [
            x[i],
            *(view[i] for view in views[:3]),
            0.5 + views.high[i] / (2 * reach),
            views.high[i].clamp(0, 1),
        ]
        for j, image in enumerate(expected):
            torch.testing.assert_close(tile(i, j), image)
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    drawn = [(box.get_y() + 0.5, box.get_x() + 0.5, box.get_height(), box.get_width()) for box in boxes]
    pitch = 13  # twelve pixels and a gap of one
    expected = [
        (i * pitch + top, left, height, width)
        for view in draw.boxes.tolist()
        for i, (top, left, height, width) in enumerate(view)
    ]
    assert drawn == expected
    labels = figure.axes[0].get_xticklabels()
    assert [box.get_edgecolor()[:3] for box in boxes[::n]] == [to_rgb(label.get_color()) for label in labels[1:3]]
    assert not show_views(x, views).axes[0].patches


def test_every_augmentation_acts_alone_by_the_amount_above_it():
    image = SHAPES.x[0]
    x = image / 255
    settings = ViewSettings(jitter=0.0, flip=0.0, grey=0.0, padding=2)  # shown although they never happen
    figure = show_augmentations(image, settings, generator=generator())
    names = tick_labels(figure.axes[0].xaxis)
    assert names == ["original", "crop", "flip", "brightness", "contrast", "saturation", "hue", "grey", "padded crop"]
    tile = tile_of(figure, 3, 9, 16, 16)
    texts = [text.get_text() for text in figure.axes[0].texts]
    torch.testing.assert_close(tile(0, 0), x)
    assert (tile(1, 0) == 1).all()
    operations = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation]
    for row in range(3):
        amounts = dict(zip(names, texts[9 * row : 9 * row + 9], strict=True))
        torch.testing.assert_close(tile(row, 2), x.flip(-1))
        torch.testing.assert_close(tile(row, 7), TF.rgb_to_grayscale(x, 3))
        for j, operation in enumerate(operations, start=3):
            factor = float(amounts[names[j]].removeprefix("x "))
            torch.testing.assert_close(tile(row, j), operation(x, factor), rtol=0, atol=0.008)  # written to 0.01
        turn = float(amounts["hue"].removesuffix("°")) / 360
        torch.testing.assert_close(tile(row, 6), TF.adjust_hue(x, turn), rtol=0, atol=0.02)
        down, right = amounts["padded crop"].removesuffix(" px").split()
        shift = int(down[1:]) * (1 if down[0] == "↓" else -1), int(right[1:]) * (1 if right[0] == "→" else -1)
        padded = TF.crop(TF.pad(x, [2] * 4), 2 - shift[0], 2 - shift[1], 16, 16)
        torch.testing.assert_close(tile(row, 8), padded)
    assert len({texts[9 * row + 3] for row in range(3)}) == 3  # the draws differ


def test_a_grey_image_has_no_colour_to_change():
    figure = show_augmentations(SHAPES.x[0][:1], ViewSettings(), generator=generator())
    assert tick_labels(figure.axes[0].xaxis) == ["original", "crop", "flip", "brightness", "contrast", "padded crop"]


# Frequency


def rings(image):
    """Energy by whole frequency radius, frequency by frequency from the definition."""
    c, h, w = image.shape
    power = np.abs(np.fft.fft2(image.double().numpy())).__pow__(2) / (h * w)
    energy = {}
    for k1 in range(h):
        for k2 in range(w):
            radius = np.hypot(min(k1, h - k1), min(k2, w - k2))
            energy[radius] = energy.get(radius, 0) + power[:, k1, k2].sum()
    return energy


def test_frequency_parts_add_up_and_their_shares_are_the_fourier_energies():
    image = SHAPES.x[3] / 255
    radii = [1.0, 4.0, 6.5]
    figure = show_frequency(image, radii)
    tile = tile_of(figure, 2, 4, 16, 16)
    torch.testing.assert_close(tile(0, 0), image)
    texts, energy = [text.get_text() for text in figure.axes[0].texts], rings(image)
    mean = image.mean((1, 2), keepdim=True).expand_as(image)
    torch.testing.assert_close(tile(0, 1), mean)
    assert tick_labels(figure.axes[0].xaxis)[1:] == ["radius 1", "radius 4", "radius 6.5"]
    for j, radius in enumerate(radii, start=1):
        high = sum(part for r, part in energy.items() if r >= radius) / sum(energy.values())
        assert float(texts[4 + j].rstrip("%")) == pytest.approx(100 * high, rel=6e-3)
        assert float(texts[j].rstrip("%")) == pytest.approx(100 * (1 - high), rel=6e-3)
    reach = (image - mean).abs().max()
    torch.testing.assert_close(tile(1, 1), 0.5 + (image - mean) / (2 * reach), rtol=0, atol=1e-5)


def test_spectrum_is_the_mean_energy_per_pixel_of_each_ring():
    grey = noise(2, 1, 8, 8)
    figure = show_spectrum({"shapes": SHAPES[:2], "grey": grey}, 4.0)
    shown = lines_of(figure.axes[0])
    for (frequencies, energies), images in zip(shown, [SHAPES.x[:2] / 255, grey], strict=False):
        expected = np.zeros(len(energies))
        for image in images:
            for radius, energy in rings(image).items():
                expected[int(radius)] += energy / image.numel() / len(images)
        assert list(frequencies) == list(range(len(energies)))
        np.testing.assert_allclose(energies, expected, rtol=1e-4)
        assert sum(energies) == pytest.approx(images.square().mean().item(), rel=1e-5)
    assert list(shown[2][0]) == [4, 4]
    assert figure.axes[0].get_yscale() == "log" and "cycles per picture" in figure.axes[0].get_xlabel()


# Training


def test_history_draws_each_part_of_each_run_that_has_it():
    loss, contrast, pseudo = show_history({"SimCLR": SIMCLR, "AdvCL": ADVCL}).axes
    assert [list(map(list, line)) for line in lines_of(loss)] == [[[1, 2], [5, 4]], [[1], [7]]]
    assert [list(map(list, line)) for line in lines_of(contrast)] == [[[1, 2], [5, 4]], [[1], [5.5]]]
    assert [list(map(list, line)) for line in lines_of(pseudo)] == [[[1], [1.5]]]
    assert [line.get_color() for line in loss.get_lines()] == [METHOD_COLORS["simclr"], METHOD_COLORS["advcl"]]


def test_history_leaves_out_a_part_that_is_the_whole_loss_and_takes_plain_rows():
    assert [axes.get_title("left") for axes in show_history(SIMCLR).axes] == ["Loss"]
    assert len(show_history({"AdvCL": ADVCL}, parts=["pseudo"]).axes) == 1
    assert not show_history(SIMCLR).legends and show_history({"SimCLR": SIMCLR}).legends


def test_accuracy_is_in_percent():
    rows = [{"epoch": 1.0, "step": 1, "loss": 2.0, "accuracy": 0.25}]
    axes = show_history(rows).axes[1]
    assert lines_of(axes)[0][1][0] == 0.25 and axes.yaxis.get_major_formatter()(0.25) == "25%"


def test_learning_rates_of_a_stepwise_schedule():
    config = FinetuneConfig(epochs=4, milestones=(2, 3), learning_rate=0.1)
    ((epochs, rates),) = lines_of(show_lr(config, 2).axes[0])
    assert list(epochs) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert list(rates) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_learning_rates_of_warm_up_and_cosine_and_of_several_configs():
    config = PretrainConfig(epochs=20)
    figure = show_lr({"a": config, "b": PretrainConfig(epochs=10, warmup_epochs=0)}, 3)
    (_, rates), (epochs, _) = lines_of(figure.axes[0])
    assert len(rates) == 60 and len(epochs) == 30
    assert rates[0] == 0.01 and rates[1] > rates[0]
    assert rates[-1] == pytest.approx(0.5 * 1e-3)


# Clusters


def test_gallery_rows_hold_their_clusters_images_with_bars_in_the_classes_colours():
    assignments = torch.tensor([3, 3, 3, 1, 1, 0] + [3] * 58)
    figure = show_clusters(SHAPES, assignments, each=4)
    bar = 1  # a tenth of sixteen pixels, between two lines of white
    tile = tile_of(figure, 3, 4, 16 + bar + 2, 16)
    for row, members in enumerate([[0, 1, 2, 6], [3, 4], [5]]):  # the largest cluster first
        for j, index in enumerate(members):
            torch.testing.assert_close(tile(row, j)[:, :16], SHAPES.x[index] / 255)
            assert tuple(tile(row, j)[:, 17, 5].tolist()) == pytest.approx(to_rgb(PALETTE[int(SHAPES.y[index])]))
        assert all((tile(row, j) == 1).all() for j in range(len(members), 4))
    labels = tick_labels(figure.axes[0].yaxis)
    most = SHAPES.y[assignments == 3].bincount()
    best = f"{most.max() / 61:.0%} {SHAPES.classes[int(most.argmax())]}"
    assert labels[0] == f"cluster 3\n61 images\n{best}" and labels[2].startswith("cluster 0\n1 images\n100%")


def test_gallery_shows_chosen_clusters_and_does_without_labels():
    figure = show_clusters(SHAPES.x, torch.arange(64) % 4, clusters=[2, 0], each=3)
    tile = tile_of(figure, 2, 3, 16, 16)
    torch.testing.assert_close(tile(0, 1), SHAPES.x[6] / 255)
    assert tick_labels(figure.axes[0].yaxis) == ["cluster 2\n16 images", "cluster 0\n16 images"]
    assert not figure.legends


def test_gallery_of_more_classes_than_colours_has_no_bars():
    figure = show_clusters(noise(12), torch.zeros(12, dtype=torch.int64), torch.arange(12), each=2)
    assert tuple(figure.axes[0].images[0].get_array().shape[:2]) == (6, 13) and not figure.legends


def test_cluster_quality_is_drawn_against_k_in_order():
    panels = show_cluster_quality({"one": QUALITIES, "two": QUALITIES[:1]}).axes
    for axes, values in zip(panels, [(0.2, 0.5), (0.3, 0.4), (0.1, 0.3)], strict=True):
        (counts, drawn), (_, second) = lines_of(axes)
        assert tuple(counts) == (2, 10) and tuple(drawn) == values and tuple(second) == values[1:]
        assert tick_labels(axes.xaxis) == ["2", "10"]
    assert len(show_cluster_quality(QUALITIES).axes) == 3


# Scores


def test_bars_are_as_high_as_the_scores_and_whiskers_reach_over_the_intervals():
    (axes,) = show_scores(SCORES).axes
    bars, whiskers = [
        [c for c in axes.containers if type(c).__name__ == kind] for kind in ("BarContainer", "ErrorbarContainer")
    ]
    for drawn, interval, (name, scores) in zip(bars, whiskers, SCORES.items(), strict=True):
        assert [bar.get_height() for bar in drawn] == [score.value for score in scores]
        ends = [tuple(segment[:, 1]) for segment in interval.lines[2][0].get_segments()]
        for end, score in zip(ends, scores, strict=True):
            assert end == pytest.approx((score.low, score.high))
        assert {to_rgb(bar.get_facecolor()[:3]) for bar in drawn} == {to_rgb(METHOD_COLORS[name.lower()])}
        groups = [round(bar.get_x() + bar.get_width() / 2) for bar in drawn]
        assert groups == list(range(len(scores)))
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for drawn in bars for bar in drawn)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))  # none covers another
    assert tick_labels(axes.xaxis) == ["SA\nclean", "RA\nPGD-20, 8/255", "AA\nAutoAttack"]
    assert "n = 100 images" in axes.get_xlabel()


def test_the_chance_line_is_where_asked_or_nowhere():
    heights = lambda figure: [y[0] for x, y in lines_of(figure.axes[0]) if list(x) == [0, 1]]  # noqa: E731
    assert heights(show_scores(SCORES)) == [0.1]
    assert heights(show_scores(SCORES, chance=0.01)) == [0.01]
    assert heights(show_scores(SCORES, chance=None)) == []


# Attack


def test_attack_shows_the_perturbation_around_grey_and_marks_changed_predictions():
    x = noise(2, h=8, w=8) * 0.5 + 0.25
    change = torch.zeros_like(x)
    change[0, :, :4], change[1, :, 4:] = 8 / 255, -4 / 255
    figure = show_attack(x, x + change, (torch.tensor([0, 1]), torch.tensor([0, 0])), classes=("cat", "dog"))
    tile = tile_of(figure, 3, 2, 8, 8)
    for j in range(2):
        torch.testing.assert_close(tile(0, j), x[j])
        torch.testing.assert_close(tile(1, j), 0.5 + change[j] * 255 / 16, rtol=0, atol=1e-4)
        torch.testing.assert_close(tile(2, j), x[j] + change[j])
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["cat", "dog", "8.0/255", "4.0/255", "cat", "cat"]
    assert texts[5].get_color() != texts[4].get_color() == texts[0].get_color()


def test_attack_takes_names_and_does_without_predictions():
    figure = show_attack(SHAPES[:2], SHAPES.x[:2], (["a", "b"], ["a", "c"]))
    assert [text.get_text() for text in figure.axes[0].texts[4:]] == ["a", "c"]
    assert "says" not in show_attack(SHAPES[:2], SHAPES.x[:2]).axes[0].get_title("left")


# Style


def test_a_name_has_one_colour_in_any_company_and_no_other_name_takes_it():
    assert colors_of(["advcl"])["advcl"] == colors_of(["SLF", "x", "advcl"])["advcl"] == METHOD_COLORS["advcl"]
    mixed = colors_of(["AdvCL without pseudo-labels", "AdvCL", "SimCLR", "other"])
    assert len(set(mixed.values())) == 4
    assert not {mixed["AdvCL without pseudo-labels"], mixed["other"]} & set(METHOD_COLORS.values())
    assert colors_of(["SLF", "AFF"])["AFF"] == PROTOCOL_COLORS["aff"]
    assert len({**METHOD_COLORS, **PROTOCOL_COLORS}) == len({*METHOD_COLORS.values(), *PROTOCOL_COLORS.values()})


def every_figure():
    x = SHAPES.x[:3] / 255
    draw = draw_views(3, 16, 16, ViewSettings(), generator=generator())
    yield show_images(SHAPES[:3])
    yield show_views(x, make_views(x, draw), draw)
    yield show_augmentations(SHAPES.x[0], ViewSettings(), generator=generator())
    yield show_frequency(SHAPES.x[0], [2.0, 4.0])
    yield show_spectrum({"shapes": SHAPES}, 4.0)
    yield show_history({"SimCLR": SIMCLR, "AdvCL": ADVCL})
    yield show_lr(PretrainConfig(epochs=3), 2)
    yield show_clusters(SHAPES, torch.arange(64) % 4)
    yield show_cluster_quality(QUALITIES)
    yield show_scores(SCORES)
    yield show_attack(x, x)


def test_every_figure_shows_itself_as_one_png_and_leaves_pyplot_empty():
    before = {name: plt.rcParams[name] for name in plt.rcParams}
    bare, inline = DisplayFormatter(), DisplayFormatter()
    select_figure_formats(SimpleNamespace(display_formatter=inline), {"png"})  # what the inline backend does
    for k, figure in enumerate(every_figure()):
        assert isinstance(figure, Figure)
        for formatter in (bare, inline)[: 1 + (k == 0)]:
            shown, _ = formatter.format(figure)
            assert set(shown) == {"image/png", "text/plain"}
        png = figure._repr_png_()
        assert png.startswith(b"\x89PNG") and len(png) < 200_000
    assert plt.get_fignums() == []
    assert {name: plt.rcParams[name] for name in plt.rcParams} == before


# Errors

VIEWS = draw_views(3, 6, 6, ViewSettings(radius=2.0), generator=generator())
BAD = {
    "one image, not a batch": (
        lambda: show_images(noise()[0]),
        r"images: expected .*\(n, c, h, w\), got .*image\[None\]",
    ),
    "two channels": (lambda: show_images(noise(c=2)), "images: .*one channel or three"),
    "no image": (lambda: show_images(noise(0)), "images: .*one image or more"),
    "integers": (lambda: show_images(noise().long()), "images: expected uint8 or float"),
    "0 to 255 in floats": (lambda: show_images(noise() * 255), r"images: expected values in \[0, 1\], got .*Divide"),
    "negative, unsigned": (lambda: show_images(noise() - 0.5), "images: expected values in .*signed=True"),
    "not a number": (lambda: show_images(noise() * torch.nan), "images: expected finite"),
    "signed uint8": (lambda: show_images(SHAPES.x[:2], signed=True), "images: expected signed images in floats"),
    "scale unsigned": (lambda: show_images(noise(), scale=2.0), "scale: expected None .*signed=True"),
    "scale zero": (lambda: show_images(noise(), signed=True, scale=0.0), "scale: expected a positive"),
    "titles": (lambda: show_images(noise(), ["a"]), "titles: expected 7 titles"),
    "columns": (lambda: show_images(noise(), columns=0), "columns: expected a count"),
    "other views": (lambda: show_views(noise(), make_views(noise(3), VIEWS)), "views: .*adv.make_views"),
    "other draw": (
        lambda: show_views(noise(2), Views(*[noise(2)] * 4), VIEWS),
        "draw: expected the draw of these 2 images, got .*3",
    ),
    "batch, not an image": (lambda: show_frequency(noise(), [2.0]), r"image: expected one image \(c, h, w\)"),
    "no radius": (lambda: show_frequency(noise()[0], []), "radii: expected one radius"),
    "no set": (lambda: show_spectrum({}), "images_by_name: expected one set"),
    "radius below zero": (lambda: show_spectrum({"a": noise()}, -1.0), "radius: expected a number of cycles"),
    "bad set": (lambda: show_spectrum({"a": noise() * 9}), r"images_by_name\['a'\]: expected values"),
    "no rows": (lambda: show_history({"a": []}), r"histories\['a'\]: expected one row .*Train"),
    "no run": (lambda: show_history({}), "histories: expected one run"),
    "no such part": (lambda: show_history(ADVCL, parts=["psuedo"]), "parts: expected some of loss, contrast, pseudo"),
    "no batches": (lambda: show_lr(PretrainConfig(), 0), "batches: expected steps"),
    "no config": (lambda: show_lr({}, 3), "configs: expected a config"),
    "all columns": (lambda: show_clusters(noise(), torch.zeros(7, 2).long()), r"assignments: .*assignments\[:, 0\]"),
    "labels missing": (
        lambda: show_clusters(noise(), torch.zeros(7).long(), torch.zeros(6).long()),
        "labels: .*7 labels",
    ),
    "unlabelled": (lambda: show_clusters(noise(), torch.zeros(7).long(), -torch.ones(7).long()), "labels: .*>= 0"),
    "no such cluster": (
        lambda: show_clusters(noise(), torch.zeros(7).long(), clusters=[0, 5]),
        r"clusters: expected clusters that have images, got \[5\]",
    ),
    "no cluster": (lambda: show_clusters(noise(), torch.zeros(7).long(), clusters=0), "clusters: expected one"),
    "each": (lambda: show_clusters(noise(), torch.zeros(7).long(), each=0), "each: expected one image"),
    "no quality": (lambda: show_cluster_quality([]), "qualities.*expected a list of ClusterQuality"),
    "no source": (lambda: show_cluster_quality({}), "qualities: expected one source"),
    "no scores": (lambda: show_scores({"a": []}), r"scores\['a'\]: expected a list of Score"),
    "no scored run": (lambda: show_scores({}), "scores: expected one run"),
    "a score twice": (lambda: show_scores({"a": [Score("SA", 1, 2)] * 2}), "each metric and attack once"),
    "chance in percent": (lambda: show_scores(SCORES, chance=10.0), r"chance: expected a fraction in \[0, 1\]"),
    "other adversarial": (lambda: show_attack(noise(), noise(3)), "adversarial: expected images of shape"),
    "few predictions": (lambda: show_attack(noise(), noise(), (["a"], ["b"])), "predictions: expected 7 names, twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_says_what_was_expected_and_what_came(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert ", got " in str(error.value)


# Features


def test_an_embedding_has_a_panel_for_each_name_and_a_colour_for_each_class():
    points, labels = torch.rand(12, 2, generator=generator(0)), torch.arange(12) % 3
    figure = show_embedding({"CE": points, "Core": points + 1}, labels, ["a", "b", "c"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CE", "Core"]
    for axes, places in zip(figure.axes, (points, points + 1), strict=True):
        (cloud,) = axes.collections
        assert np.allclose(cloud.get_offsets(), places)
        colors = [tuple(color) for color in cloud.get_facecolors()]
        assert len(set(colors)) == 3 and all(colors[k] == colors[k % 3] for k in range(12))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="points.*expected finite places"):
        show_embedding(points[:5], labels, ["a", "b", "c"])
    with pytest.raises(ValueError, match="labels: expected class numbers from 0 to 1"):
        show_embedding(points, labels, ["a", "b"])
    with pytest.raises(ValueError, match="points: expected one map or more"):
        show_embedding({}, labels, ["a", "b", "c"])


def test_hard_pairs_show_who_was_mixed_with_whom():
    x, labels = noise(6), torch.tensor([0, 0, 1, 1, 1, 2])
    features = torch.rand(6, 4, generator=generator(1))
    mixed = mix_hard_pairs(features, labels, draw_mixing(6, generator=generator(2)))
    figure = show_hard_pairs(x, mixed, [0, 5])
    tile = tile_of(figure, 4, 2, 6, 6)
    for column, row in enumerate((0, 5)):
        shown = [x[row], x[mixed.hard_positive[row]], x[mixed.hard_negative[row]], x[mixed.partner[row]]]
        for place, image in enumerate(shown):
            expected = torch.ones(3, 6, 6) if (row, place) == (5, 1) else image  # the sixth has no positive
            torch.testing.assert_close(tile(place, column), expected.expand(3, -1, -1), rtol=0, atol=0)
    with pytest.raises(ValueError, match="rows: expected row numbers from 0 to 5"):
        show_hard_pairs(x, mixed, [6])
