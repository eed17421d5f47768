"""Move about in a map of features, see the images behind its points, and select some.

The canvas is our own, through anywidget. jupyter-scatter was tried beside it in a headless browser: it draws no arrows,
leaves no picture where no kernel lives, asks Python for each image, and brings pyarrow and more along.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import anywidget
import numpy as np
import torch
import traitlets
from ipywidgets import Dropdown, Layout, Widget
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images, to_float
from advcl_nb.explore._base import Explorer, as_numbers, as_picture, as_set, as_tensor, class_names, gallery, tick_box
from advcl_nb.plots._grid import as_batch
from advcl_nb.plots._style import INK, PALETTE, RED, Picture, by_name, class_colors
from advcl_nb.plots.features import show_embedding

SHOWN, COLUMNS = 48, 16  # images of a selection, and in a row
THUMBNAIL = 48  # pixels: larger images are made as small as this
SHEET = 8192  # pixels: side of the sheet of all thumbnails, at most
COLOR_BY = {"labels": "class", "clusters": "cluster", "predictions": "correctness"}
MIDDLES = 16  # images on the map where no kernel lives


class ImageMap(anywidget.AnyWidget):
    """The canvas: places in [0, 1] and colours go to the browser, the numbers of the selected rows come back."""

    _esm = Path(__file__).with_name("embedding.js")
    points, moved, groups, sheet = (traitlets.Bytes().tag(sync=True) for _ in range(4))
    sheet_shape, value = (traitlets.List(traitlets.Int()).tag(sync=True) for _ in range(2))
    colors, names, captions = (traitlets.List(traitlets.Unicode()).tag(sync=True) for _ in range(3))
    copies = traitlets.Bool().tag(sync=True)
    description = "map of images"


class _Map(NamedTuple):
    """One map: places for the canvas, as bytes; numbers to colour by, and what each makes of the colours; captions."""

    points: bytes
    moved: bytes
    numbers: dict[str, Tensor]
    paints: dict[str, tuple[bytes, list[str], list[str]]]
    captions: list[str]


def explore_embedding(
    points: Mapping[str, Tensor] | Tensor,
    images: Images | Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    *,
    moved: Mapping[str, Tensor] | Tensor | None = None,
    clusters: Mapping[str, Tensor] | Tensor | None = None,
    predictions: Mapping[str, Tensor] | Tensor | None = None,
    classes: Sequence[str] | None = None,
) -> Explorer:
    """Explore maps of images ``(n, c, h, w)`` of classes `labels` ``(n,)`` at `points` ``(n, 2)``, as from embed_2d.

    `points` is one map, or several by name; `moved`, in the same form, are the places of the images' adversarial
    copies. `clusters` and `predictions` ``(n,)`` are numbers to colour by, for all maps or by their names. Controls:
    "map"; "color", by class, cluster or correctness; "copies", whether to show arrows to them; "selection", the canvas
    itself, whose value is the list of selected rows. On the canvas: drag, zoom, point at an image, and draw a loop
    with Shift held. The picture: up to 48 of the selected images. Raises ValueError where these do not match.
    """
    x = as_set(images)
    labels = as_numbers("labels", labels, len(x))
    places, ends = _all_places(points, moved, len(x))
    classes = images.classes if classes is None and isinstance(images, Images) else classes
    given = {"labels": labels, "clusters": clusters, "predictions": predictions}
    known = _names(labels, predictions) if classes is None else list(classes)
    maps = {
        name: _map(places[name], ends.get(name), _of_map(name, given, list(places), known), known) for name in places
    }
    canvas = _canvas(x)

    def draw(map: str, color: str, copies: bool, selection: list[int]) -> tuple[Image.Image, str]:
        inside = all(0 <= row < len(x) for row in selection)
        require(inside, "selection", f"rows from 0 to {len(x) - 1}", selection, "Rows are numbers of images.")
        chosen = maps[map]
        with canvas.hold_sync():
            canvas.points, canvas.moved, canvas.captions = chosen.points, chosen.moved, chosen.captions
            canvas.groups, canvas.colors, canvas.names = chosen.paints[color]
            canvas.copies = copies
        rows = torch.tensor(selection) if selection else torch.arange(len(x))
        shown = rows[torch.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().long()]
        words = f"{'Selected' if selection else 'All'} {_said(rows, chosen.numbers, known)}"
        return gallery(as_batch(x[shown]), columns=COLUMNS), words

    controls = _controls(maps, canvas)

    def still() -> bytes:
        name = controls["map"].value
        copies = {name: ends[name]} if ends and controls["copies"].value else None
        return _with_images(show_embedding({name: places[name]}, labels, known, moved=copies), places[name], x)

    return Explorer(controls, draw, still=still)


def _controls(maps: Mapping[str, _Map], canvas: ImageMap) -> dict[str, Widget]:
    """The choices, hidden where there is nothing to choose, and the canvas."""
    first = next(iter(maps.values()))
    controls = {
        "map": Dropdown(options=list(maps), description="map of"),
        "color": Dropdown(options=list(first.paints), description="color by"),
        "copies": tick_box("adversarial copies, with arrows"),
    }
    for name, needed in (("map", len(maps) > 1), ("color", len(first.paints) > 1), ("copies", bool(first.moved))):
        controls[name].layout.display = None if needed else "none"
    return controls | {"selection": canvas}


def _map(places: Tensor, ends: Tensor | None, numbers: dict[str, Tensor], known: Sequence[str]) -> _Map:
    paints = {by: _paint(by, given, numbers["class"], known) for by, given in numbers.items()}
    return _Map(*_scaled(places, ends), numbers, paints, _captions(numbers, known))


def _of_map(name: str, given: Mapping[str, object], names: Sequence[str], known: Sequence[str]) -> dict[str, Tensor]:
    """Check the numbers and pick those of the map `name`, under what they colour by."""
    found = {}
    for argument, numbers in given.items():
        if numbers is None:
            continue
        if isinstance(numbers, Mapping):
            require(set(numbers) == set(names), argument, f"numbers under the names {', '.join(names)}", list(numbers))
            numbers = numbers[name]
        found[COLOR_BY[argument]] = as_numbers(argument, numbers, len(given["labels"]))
        if argument != "clusters":
            largest = int(found[COLOR_BY[argument]].max())
            todo = "Pass classes=, a name for each."
            require(largest < len(known), argument, f"class numbers from 0 to {len(known) - 1}", largest, todo)
    return found


def _all_places(points: object, moved: object, n: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Check the places of n images and of their copies, by the maps' names; no copies where `moved` is None."""
    places, ends = by_name(points), {} if moved is None else by_name(moved)
    require(len(places) > 0, "points", "one map or more", points)
    require(moved is None or ends.keys() == places.keys(), "moved", "places under the names of points", moved)
    checked = ((places, "points"), (ends, "moved"))
    return tuple(
        {name: _places(given, argument, name, n) for name, given in maps.items()} for maps, argument in checked
    )


def _places(given: object, argument: str, name: str, n: int) -> Tensor:
    places = as_tensor(given)
    fits = isinstance(places, Tensor) and places.shape == (n, 2) and bool(places.isfinite().all())
    argument = f"{argument}[{name!r}]" if name else argument
    require(fits, argument, f"finite places ({n}, 2), one an image", places, "Make them with adv.embed_2d.")
    return places.float()


def _names(labels: Tensor, predictions: object) -> list[str]:
    """Number the classes that occur."""
    given = predictions.values() if isinstance(predictions, Mapping) else [predictions]
    found = [labels, *(torch.as_tensor(numbers) for numbers in given if numbers is not None)]
    return class_names(max(int(numbers.max()) for numbers in found) + 1)


def _scaled(places: Tensor, ends: Tensor | None) -> tuple[bytes, bytes]:
    """Move and scale places and ends together into the unit square, as float32 bytes."""
    both = torch.stack([places] if ends is None else [places, ends])
    low, high = both.amin((0, 1)), both.amax((0, 1))
    both = (both - low) / (high - low).max().clamp(min=1e-12)
    return both[0].numpy().tobytes(), b"" if ends is None else both[1].numpy().tobytes()


def _paint(by: str, numbers: Tensor, labels: Tensor, known: Sequence[str]) -> tuple[bytes, list[str], list[str]]:
    """Return each row's colour number as bytes, the colours, and their names where there are few."""
    if by == "correctness":
        groups, colors, names = numbers != labels, [PALETTE[0], RED], ["right", "wrong"]
    else:
        names = list(known) if by == "class" else [f"cluster {k}" for k in range(int(numbers.max()) + 1)]
        groups, colors = numbers % len(PALETTE), class_colors(min(len(names), len(PALETTE)))
    return groups.to(torch.uint8).numpy().tobytes(), colors, names if len(names) <= len(colors) else []


def _canvas(x: Tensor) -> ImageMap:
    """Make the canvas with one sheet of all images."""
    columns = math.ceil(math.sqrt(len(x)))
    shrink = max(max(x.shape[2:]) / min(THUMBNAIL, SHEET // columns), 1)
    h, w = (max(round(length / shrink), 1) for length in x.shape[2:])
    sheet = Image.new("RGB", (columns * w, math.ceil(len(x) / columns) * h))
    for row, image in enumerate(x):
        tile = as_picture(to_float(image))
        sheet.paste(tile if shrink == 1 else tile.resize((w, h)), (row % columns * w, row // columns * h))
    buffer = io.BytesIO()
    sheet.save(buffer, format="jpeg", quality=95, subsampling=0)  # a third of a PNG's size, and no colour smears
    return ImageMap(sheet=buffer.getvalue(), sheet_shape=[columns, w, h], layout=Layout(width="100%"))


def _captions(numbers: Mapping[str, Tensor], known: Sequence[str]) -> list[str]:
    told = [f"image {row}: {known[label]}" for row, label in enumerate(numbers["class"].tolist())]
    if "cluster" in numbers:
        told = [f"{words}, cluster {k}" for words, k in zip(told, numbers["cluster"].tolist(), strict=True)]
    if "correctness" in numbers:
        told = [
            f"{words}, taken for {known[k]}" for words, k in zip(told, numbers["correctness"].tolist(), strict=True)
        ]
    return told


def _said(rows: Tensor, numbers: Mapping[str, Tensor], known: Sequence[str]) -> str:
    """Say how many rows there are, of which classes, and how many of them are right."""
    counts = numbers["class"][rows].bincount(minlength=len(known))
    told = [f"{known[k]} {int(counts[k])}" for k in counts.argsort(descending=True)[:5].tolist() if counts[k]]
    words = f"{len(rows)} image{'s' * (len(rows) > 1)}: {', '.join(told)}"
    words += f" and {int((counts > 0).sum()) - 5} more classes." if (counts > 0).sum() > 5 else "."
    if "correctness" in numbers:
        words += f" Right: {(numbers['correctness'][rows] == numbers['class'][rows]).double().mean():.1%}."
    return words


def _with_images(picture: Picture, places: Tensor, x: Tensor) -> bytes:
    """Enlarge a map's figure, put an image beside the middle of each region, and return it as PNG."""
    from sklearn.cluster import KMeans

    picture.set_size_inches(9, 6)
    regions = KMeans(min(MIDDLES, len(places.unique(dim=0))), n_init=1, random_state=0).fit(places.numpy())
    middles = torch.cdist(torch.as_tensor(regions.cluster_centers_), places).argmin(1)
    for row in middles.unique().tolist():
        tile = np.asarray(as_picture(to_float(x[row])))
        box = OffsetImage(tile, zoom=26 / max(tile.shape), interpolation="nearest")
        line = {"arrowstyle": "-", "linewidth": 0.6, "color": INK}
        note = AnnotationBbox(box, places[row].tolist(), (24, 20), boxcoords="offset points", pad=0.1, arrowprops=line)
        picture.axes[0].add_artist(note)
    return picture._repr_png_()
