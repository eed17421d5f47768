"""What explorers share: controls with a picture and a sentence that follow them, and rows of small images."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from advcl_nb._batched import check_images
from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.plots._grid import as_batch
from advcl_nb.plots._style import INK

TILE, GAP, LINE = 128, 10, 16  # pixels: of a small image on the screen, between two, and of a line of text
SAMPLE = 1000  # images that an average is taken over

Drawing = Callable[..., tuple[Image.Image, str]]


class Explorer(widgets.VBox):
    """Controls by name, and a picture and a sentence that follow them.

    `controls` maps names to widgets: ``explorer.controls["radius"].value = 4`` does what a reader's hand does.
    `picture` is an ipywidgets Image (PNG), `words` the sentence below it. Shown where no kernel lives (on GitHub, on a
    page), the explorer leaves its last picture, or the PNG that `still` returns.
    """

    def __init__(
        self, controls: Mapping[str, widgets.Widget], draw: Drawing, still: Callable[[], bytes] | None = None
    ) -> None:
        self.picture, self.words = widgets.Image(format="png"), widgets.HTML()
        row = widgets.HBox(list(controls.values()), layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.picture, self.words])
        self.controls, self._draw = dict(controls), draw
        self._still = still or (lambda: self.picture.value)
        for control in self.controls.values():
            control.observe(self._follow, "value")
        self._follow()

    def _follow(self, change: object = None) -> None:
        picture, words = self._draw(**{name: control.value for name, control in self.controls.items()})
        buffer = io.BytesIO()
        picture.save(buffer, format="png", compress_level=1)  # speed counts here, size does not
        self.picture.value, self.words.value = buffer.getvalue(), html.escape(words, quote=False)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        bundle = super()._repr_mimebundle_()
        return bundle | {"image/png": base64.b64encode(self._still()).decode(), "text/plain": self.words.value}


def as_tensor(given: object) -> object:
    """Return a tensor on the CPU, or what was given where none can be made of it."""
    try:
        return torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError, KeyError):
        return given


def as_numbers(argument: str, given: object, n: int) -> Tensor:
    """Check whole numbers from 0, one for each of n images; return them as int64."""
    numbers = as_tensor(given)
    fits = isinstance(numbers, Tensor) and numbers.shape == (n,) and not numbers.is_floating_point()
    todo = "Give each image a number, and names by classes=."
    require(fits and bool((numbers >= 0).all()), argument, f"whole numbers ({n},) from 0, one an image", numbers, todo)
    return numbers.long()


def class_names(count: int) -> list[str]:
    """Name classes that have no names."""
    return [f"class {k}" for k in range(count)]


def as_set(images: Images | Tensor | np.ndarray) -> Tensor:
    """Check images ``(n, c, h, w)`` of one channel or three; return them as uint8, or as float32 in [0, 1]."""
    x = images.x if isinstance(images, Images) else torch.as_tensor(images) if hasattr(images, "__array__") else images
    check_images(x)
    as_batch(x[:1])  # has as many channels as can be shown
    return (x.float() if x.is_floating_point() else x).detach().cpu()


def below(top: Image.Image, bottom: Image.Image) -> Image.Image:
    """Put one picture below another."""
    return _joined(top, bottom, (0, top.height))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Put one picture to the right of another."""
    return _joined(left, right, (left.width, 0))


def _joined(first: Image.Image, second: Image.Image, place: tuple[int, int]) -> Image.Image:
    size = max(first.width, place[0] + second.width), max(first.height, place[1] + second.height)
    canvas = Image.new("RGB", size, "white")
    canvas.paste(first, (0, 0))
    canvas.paste(second, place)
    return canvas


def pixels(figure: Figure) -> Image.Image:
    """Draw a matplotlib figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def slider(name: str, value: float, low: float, high: float, step: float, *, quick: bool = True) -> widgets.Widget:
    """Return a slider with its unit in the name; a quick one answers while it is dragged."""
    whole = all(isinstance(number, int) for number in (value, low, high, step))
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(
        value=value, min=low, max=high, step=step, description=name, continuous_update=quick,
        style={"description_width": "initial"}, layout=widgets.Layout(width="30em"),
        readout_format="d" if whole else ".2f",
    )  # fmt: skip


def tick_box(name: str) -> widgets.Widget:
    """Return a ticked box as wide as its words."""
    return widgets.Checkbox(value=True, description=name, indent=False, layout=widgets.Layout(width="auto"))


def row_of_tiles(tiles: Mapping[str, Tensor], boxes: Sequence[tuple[Sequence[float], str]] = ()) -> Image.Image:
    """Draw images ``(c, h, w)`` in [0, 1] side by side, each below its name, pixels as squares.

    `boxes` are (top, left, height, width) in the first image's pixels, and a colour.
    """
    require(len(tiles) > 0, "tiles", "one image or more", tiles)
    font = ImageFont.load_default(size=12)
    canvas = Image.new("RGB", (len(tiles) * (TILE + GAP) - GAP, LINE + TILE), "white")
    pen = ImageDraw.Draw(canvas)
    for place, (name, tile) in enumerate(tiles.items()):
        left = place * (TILE + GAP)
        pen.text((left, 0), name, fill=INK, font=font)
        canvas.paste(_enlarged(tile, TILE), (left, LINE))
    h, w = next(iter(tiles.values())).shape[1:]
    for (top, left, height, width), color in boxes:
        ends = left * TILE / w, LINE + top * TILE / h, (left + width) * TILE / w, LINE + (top + height) * TILE / h
        pen.rectangle((*ends[:2], ends[2] - 1, ends[3] - 1), outline=color, width=2)
    return canvas


def gallery(images: Tensor, *, columns: int) -> Image.Image:
    """Draw images ``(n, c, h, w)`` in [0, 1] in rows, half as large as a tile, without names."""
    side, gap = TILE // 2, GAP // 2
    rows = max(-(-len(images) // columns), 1)
    canvas = Image.new("RGB", (columns * (side + gap), rows * (side + gap)), "white")
    for place, image in enumerate(images):
        canvas.paste(_enlarged(image, side), (place % columns * (side + gap), place // columns * (side + gap)))
    return canvas


def _enlarged(image: Tensor, side: int) -> Image.Image:
    return as_picture(image).resize((side, side), Image.Resampling.NEAREST)


def as_picture(image: Tensor) -> Image.Image:
    """Turn an image ``(c, h, w)`` in [0, 1], of one channel or three, into Pillow's."""
    pixels = (255 * image.clamp(0, 1)).round().byte().expand(3, -1, -1).permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))
