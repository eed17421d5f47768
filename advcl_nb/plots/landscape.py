"""The loss around an image, its gradients in the pixels, and images made from features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.landscape import LossSurface
from advcl_nb.plots._grid import around_grey, as_batch, draw_grid
from advcl_nb.plots._style import INK, SMALL, STYLE, WIDTH, Picture, by_name, figure

MAP = "cividis"  # read alike with and without colour vision
POWERS = [10.0**power for power in range(-2, 7)]
EDGES = [0.0, *(digit * power for power in POWERS for digit in (1, 1.5, 2, 3, 5, 7))]
TICKS = [0.0, 0.02, 0.05, *(digit * power for power in POWERS[1:] for digit in (1, 2, 5))]
MARK = {"color": "white", "markeredgecolor": INK, "markersize": 8}
EDGE = {"colors": "white", "linestyles": "--", "linewidths": 1.5}
OUTLINE = [withStroke(linewidth=3, foreground=INK)]  # so that white is seen on any colour, and on paper


def show_loss_surface(
    surfaces: Mapping[str, LossSurface] | LossSurface, classes: Sequence[str] | None = None
) -> Picture:
    """Show the loss on a plane through an image and its adversarial copy: a panel for each model, one scale of colours.

    The dashed line is where the prediction changes from or to the image's own class. Colours go with the logarithm of
    the loss, so that flat surfaces have form too. `classes` names the label and what the model says of both images.
    Raises ValueError for no surface, or for class numbers that `classes` lacks.
    """
    surfaces = by_name(surfaces)
    require(len(surfaces) > 0, "surfaces", "one loss surface or more", surfaces)
    for name, surface in surfaces.items():
        argument = f"surfaces[{name!r}]"
        require(isinstance(surface, LossSurface), argument, "a LossSurface", surface, "Make it with adv.loss_surface.")
        require(bool(surface.loss.isfinite().all()), argument, "finite losses", surface.loss)
        largest = max(int(surface.predictions.max()), surface.label)
        todo = "Name every class that the model knows."
        require(classes is None or largest < len(classes), "classes", f"{largest + 1} names or more", classes, todo)
    columns = 2 if len(surfaces) == 4 else min(len(surfaces), 3)
    rows = math.ceil(len(surfaces) / columns)
    picture, panels = figure(min(3.2 * columns + 1.2, WIDTH), 3.4 * rows + 0.3, rows, columns)
    for axes in panels[len(surfaces) :]:
        axes.remove()
    levels = _levels([surface.loss for surface in surfaces.values()])
    for place, ((name, surface), axes) in enumerate(zip(surfaces.items(), panels, strict=False)):
        filled = _draw_surface(axes, surface, levels)
        axes.set_title(f"{name}\n{_said(surface, classes)}".strip(), loc="left")
        axes.set_xlabel("adversarial direction (attack = 1)")
        axes.set_ylabel("" if place % columns else "random direction (same L-inf size)")
    bar = picture.colorbar(filled, ax=panels[: len(surfaces)], shrink=0.8, format="%g")
    bar.set_ticks([level for level in levels if level in TICKS])
    bar.set_label("cross-entropy (nats)", size=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    _explain(picture)
    return picture


def _levels(losses: Sequence[Tensor]) -> list[float]:
    """Choose the edges of the colours: from 0, or the last edge not above the least loss, to the first above all."""
    low, high = min(loss.min().item() for loss in losses), max(loss.max().item() for loss in losses)
    first = max(k for k, edge in enumerate(EDGES) if edge <= max(low, 0))
    last = next((k for k, edge in enumerate(EDGES) if edge > high), len(EDGES) - 1)
    return EDGES[first : max(last, first + 2) + 1]


def _draw_surface(axes: Axes, surface: LossSurface, levels: Sequence[float]) -> ContourSet:
    along, loss = surface.along.tolist(), surface.loss.cpu().numpy()
    scale = BoundaryNorm(levels, 256)
    filled = axes.contourf(along, along, loss, levels=levels, cmap=MAP, norm=scale)
    own = (surface.predictions == surface.label).float().cpu().numpy()
    if own.min() < own.max():
        axes.contour(along, along, own, levels=[0.5], **EDGE).set(path_effects=OUTLINE)
    for x, marker in ((0, "o"), (1, "X")):
        axes.plot(x, 0, marker, **MARK)
    axes.set_aspect("equal")
    axes.grid(False)
    return filled


def _explain(picture: Picture) -> None:
    """Say under the panels what the marks and the line are."""
    names = ("image", "adversarial image", "prediction turns right or wrong")
    marks = [Line2D([], [], linestyle="", marker=marker, **MARK) for marker in ("o", "X")]
    line = Line2D([], [], color="white", linestyle="--", linewidth=1.5, path_effects=OUTLINE)
    with rc_context(STYLE):
        picture.legend([*marks, line], names, loc="outside lower left", ncols=3, frameon=False)


def _said(surface: LossSurface, classes: Sequence[str] | None) -> str:
    """What the model says at the image and at the adversarial one, where the classes have names."""
    if classes is None:
        return ""
    origin = len(surface.along) // 2
    attacked = int((surface.along - 1).abs().argmin())
    before, after = (int(surface.predictions[origin, column]) for column in (origin, attacked))
    return f"{classes[surface.label]}: seen as {classes[before]},\nattacked as {classes[after]}"


def show_gradients(images: Images | Tensor, gradients: Mapping[str, Tensor] | Tensor) -> Picture:
    """Show images ``(n, c, h, w)`` and under them each model's `adv.input_gradients` of the same shape, by its name.

    Each gradient is scaled by itself around mid-grey, so that its form is seen; over it stands its largest value.
    Raises ValueError for gradients of another shape.
    """
    x, gradients = as_batch(images), by_name(gradients)
    require(len(gradients) > 0, "gradients", "one model or more", gradients)
    tiles, titles = [x], [""] * len(x)
    for name, gradient in gradients.items():
        signed = as_batch(gradient, f"gradients[{name!r}]", signed=True)
        require(signed.shape == x.shape, f"gradients[{name!r}]", f"shape {tuple(x.shape)}, as the images", signed)
        peaks = signed.abs().amax((1, 2, 3), keepdim=True)
        tiles.append(around_grey(signed / peaks.clamp(min=1e-30), scale=0.5)[0])
        titles += [f"{peak:.2g}" for peak in peaks.flatten().tolist()]
    return draw_grid(
        torch.stack(tiles),
        rows=["image", *gradients],
        titles=titles,
        title="Where a change of the pixels raises the loss",
        caption="Gradients of the cross-entropy in the pixels, each scaled by itself: mid-grey is 0, and the number "
        "above it is what black or white stands for, in nats per unit of [0, 1].",
    ).figure


def show_inversions(originals: Images | Tensor, start: Tensor, inverted: Mapping[str, Tensor] | Tensor) -> Picture:
    """Show the originals, the start, and for each model the images of `adv.invert_features`, all ``(n, c, h, w)``.

    Raises ValueError for images of another shape than the originals'.
    """
    x, inverted = as_batch(originals, "originals"), by_name(inverted)
    require(len(inverted) > 0, "inverted", "one model or more", inverted)
    rows = [x]
    for name, images in {"start": start, **{f"inverted[{key!r}]": made for key, made in inverted.items()}}.items():
        rows.append(as_batch(images, name))
        require(rows[-1].shape == x.shape, name, f"shape {tuple(x.shape)}, as the originals", images)
    return draw_grid(
        torch.stack(rows),
        rows=["original", "start", *inverted],
        title="What the features hold of an image",
        caption="Below the start: what it becomes when its features are moved to those of the original.",
    ).figure
