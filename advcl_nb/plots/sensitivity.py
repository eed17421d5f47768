"""What frequencies and what corruptions classifiers bear."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from torch import Generator, Tensor

from advcl_nb._check import require, require_generator, require_is
from advcl_nb.corrupted import SEVERITIES
from advcl_nb.corruptions import CORRUPTIONS, corrupt
from advcl_nb.evaluate import CorruptionScores
from advcl_nb.plots._grid import draw_grid, one_image
from advcl_nb.plots._style import (
    CHARACTER,
    INK,
    SMALL,
    STYLE,
    WIDTH,
    Picture,
    by_name,
    colors_of,
    figure,
    legend,
    percent_axis,
)
from advcl_nb.score import Score
from advcl_nb.sensitivity import FrequencyAccuracy

BAR = 0.8  # of the room between two groups, shared by the bars of a group


def show_fourier_sensitivity(maps: Mapping[str, Tensor] | Tensor, epsilon: float) -> Picture:
    """Show the error rates ``(h, w)`` that `adv.fourier_sensitivity` returns: a panel each, all in one colour scale.

    The middle of a panel is frequency zero, its edge the finest pattern that the pixels can hold. `epsilon` is the one
    that the maps were made with. Raises ValueError for a map that does not hold error rates.
    """
    maps = by_name(maps)
    require(len(maps) > 0, "maps", "one map or more, by name", maps)
    for name, rates in maps.items():
        ok = isinstance(rates, Tensor) and rates.ndim == 2 and bool(((rates >= 0) & (rates <= 1)).all())
        require(ok, f"maps[{name!r}]", "error rates (h, w) in [0, 1]", rates, "Use adv.fourier_sensitivity.")
    rows = -(-len(maps) // 3)
    columns = -(-len(maps) // rows)
    picture, panels = figure(0.9 + 3.0 * columns, 0.4 + 3.0 * rows, rows, columns)
    for axes, (name, rates) in zip(panels, maps.items(), strict=False):
        image = _draw_map(axes, rates.detach().cpu(), name)
    for axes in panels[len(maps) :]:
        axes.set_visible(False)
    with rc_context(STYLE):
        bar = picture.colorbar(image, ax=panels, format=lambda value, _: f"{100 * value:.0f}%", shrink=0.8)
        bar.set_label(f"error rate under a wave\nof L2 norm {epsilon:g} in each channel")
        bar.outline.set_visible(False)
    return picture


def _draw_map(axes: Axes, rates: Tensor, name: str) -> AxesImage:
    h, w = rates.shape
    edges = (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)
    image = axes.imshow(rates.numpy(), extent=edges, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axes.grid(False)
    axes.set_title(f"{name} (mean {100 * rates.mean():.0f}%)".strip(), loc="left")
    axes.set_xlabel("cycles over the width")
    axes.set_ylabel("cycles over the height")
    return image


def show_frequency_accuracy(
    results: Mapping[str, FrequencyAccuracy] | FrequencyAccuracy, chance: float | None = 0.1
) -> Picture:
    """Show the accuracy on low parts and on high parts of the images against the radius, a line for each model.

    Bands are the 95% intervals. `chance` draws the line of guessing, by default a tenth, for ten classes; None leaves
    it out.
    """
    results = by_name(results)
    require(len(results) > 0, "results", "one result or more, by name", results)
    for name, result in results.items():
        require_is(result, f"results[{name!r}]", FrequencyAccuracy, "Make it with adv.frequency_accuracy.")
    require(chance is None or 0 <= chance <= 1, "chance", "a fraction in [0, 1], or None", chance)
    picture, (left, right) = figure(WIDTH - 1, 3.4, 1, 2)
    colors = colors_of(results)
    for name, result in results.items():
        _draw_line(left, result.radii, result.low, colors[name])
        _draw_line(right, result.radii, result.high, colors[name])
    for axes, kept in ((left, "below the radius"), (right, "from the radius up")):
        percent_axis(axes, "accuracy")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("radius (cycles per picture)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"Only frequencies {kept}", loc="left")
        if chance is not None:
            axes.axhline(chance, color=INK, linestyle="--", linewidth=1)
    if chance is not None:
        words = f"chance {chance:.0%}"
        right.text(1.01, chance, words, transform=right.get_yaxis_transform(), va="center", fontsize=SMALL)
    legend(picture, colors)
    return picture


def _draw_line(axes: Axes, radii: list[float], scores: list[Score], color: str) -> None:
    radii, scores = zip(*sorted(zip(radii, scores, strict=True), key=lambda pair: pair[0]), strict=True)
    axes.plot(radii, [score.value for score in scores], color=color, marker="o", markersize=3)
    ends = [score.low for score in scores], [score.high for score in scores]
    axes.fill_between(radii, *ends, color=color, alpha=0.2, linewidth=0)


def show_corruptions(results: Mapping[str, CorruptionScores] | CorruptionScores) -> Picture:
    """Show the accuracy under each corruption, averaged over its severities: a group of bars each, a colour per model.

    The last group is the mean over all sets. Raises ValueError for results from different sources: they do not compare.
    """
    results = by_name(results)
    require(len(results) > 0, "results", "one result or more, by name", results)
    for name, result in results.items():
        require_is(result, f"results[{name!r}]", CorruptionScores, "Make it with adv.corruption_accuracy.")
    sources = sorted({result.source for result in results.values()})
    require(len(sources) == 1, "results", "scores on one source", sources, "Draw a figure for each.")
    names = list(dict.fromkeys(name for result in results.values() for name in result.by_name))
    groups = [*names, "mean"]
    picture, (axes,) = figure(min(max(5, 0.5 * len(groups) + 2 + CHARACTER * max(map(len, results))), WIDTH), 3.8)
    colors = colors_of(results)
    for place, (name, result) in enumerate(results.items()):
        heights = result.by_name | {"mean": result.mean}
        shift = BAR * ((place + 0.5) / len(results) - 0.5)
        positions = [groups.index(group) + shift for group in heights]
        axes.bar(positions, heights.values(), 0.9 * BAR / len(results), color=colors[name])
    words = [group.replace("_", " ") for group in groups]
    axes.set_xticks(range(len(groups)), words, rotation=40, ha="right", rotation_mode="anchor")
    axes.axvline(len(names) - 0.5, color=INK, linewidth=1)
    axes.grid(False, axis="x")
    percent_axis(axes, "accuracy (mean over severities)")
    source = "the library's own corruptions" if sources == ["own"] else sources[0]
    axes.set_title(f"Accuracy under {source}", loc="left")
    legend(picture, colors)
    return picture


def show_corrupted(image: Tensor, *, generator: Generator) -> Picture:
    """Show one image ``(c, h, w)`` under each of `adv.CORRUPTIONS`: a row each, a column for each severity.

    A row keeps one draw (of the noise, the fog, the direction), so that only the strength changes along it.
    """
    x = one_image(image)
    require_generator(generator)
    rows = []
    for name in CORRUPTIONS:
        start = generator.get_state()
        row = []
        for severity in SEVERITIES:
            generator.set_state(start)
            row.append(corrupt(x, name, severity, generator=generator)[0])
        rows.append(torch.stack(row))
    return draw_grid(
        torch.stack(rows),
        rows=[name.replace("_", " ") for name in CORRUPTIONS],
        columns=[f"severity {severity}" for severity in SEVERITIES],
        title="One image under the library's own corruptions",
    ).figure
