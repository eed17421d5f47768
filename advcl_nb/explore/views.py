"""Turn the knobs of the contrastive views and see what comes out, under one random draw or a new one each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.explore._base import Explorer, as_set, row_of_tiles, slider, tick_box
from advcl_nb.plots._grid import as_batch
from advcl_nb.plots._style import VIEW_COLORS
from advcl_nb.rng import Streams
from advcl_nb.views import ViewSettings, draw_views, make_views

STRENGTHS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}  # and the largest that is allowed


def explore_views(images: Images | Tensor | np.ndarray, *, seed: int, settings: ViewSettings | None = None) -> Explorer:
    """Explore the four views of images ``(n, c, h, w)``, uint8 or floats in [0, 1], as settings change.

    `settings` are where the knobs begin; None is the release's, lengths in proportion to pictures of 32 pixels.
    Controls: "image", its number; "roll", the number of the random draw, each a function of `seed` and the number;
    "smallest_crop" (share of the area), "jitter" (strength as a share of the settings' own), "grey" (probability) and
    "radius" (cycles per picture); "hold": one knob changes and the draw stays, else each change draws anew. The
    picture: the original with the boxes that view1 and view2 are cut from, the views, the high view around mid-grey.
    Raises ValueError for what are no images.
    """
    x = as_set(images)
    h, w = x.shape[2:]
    settings = ViewSettings(padding=min(h, w) // 8, radius=min(h, w) / 4) if settings is None else settings
    require(isinstance(settings, ViewSettings), "settings", "ViewSettings", type(settings))
    streams = Streams(seed)

    def draw(
        image: int, roll: int, smallest_crop: float, *, jitter: float, grey: float, radius: float, hold: bool
    ) -> tuple[Image.Image, str]:
        one = as_batch(x[image : image + 1])
        strengths = {name: min(jitter * getattr(settings, name), most) for name, most in STRENGTHS.items()}
        chosen = replace(settings, crop_scale=(smallest_crop, 1.0), grey=grey, radius=radius, **strengths)
        knobs = () if hold else (round(100 * knob) for knob in (image, smallest_crop, jitter, grey, radius))
        drawn = draw_views(1, h, w, chosen, generator=streams("views", roll, *knobs))
        views = make_views(one, drawn)
        tiles = {"original": one[0], "view1": views.view1[0], "view2": views.view2[0], "base": views.base[0]}
        boxes = [(box[0].tolist(), color) for box, color in zip(drawn.boxes, VIEW_COLORS, strict=True)]
        shares = [f"{float(box[0, 2] * box[0, 3]) / (h * w):.0%}" for box in drawn.boxes]
        words = f"Draw {roll}{'' if hold else ', drawn anew'}: view1 is cut from {shares[0]} of the image, view2 from "
        picture = row_of_tiles(tiles | {"high, signed": 0.5 + views.high[0] / 2}, boxes)
        return picture, words + f"{shares[1]}; the high view keeps frequencies from radius {radius:.3g} on."

    largest = float(np.hypot(h // 2, w // 2))
    controls = {
        "image": slider("image (number)", 0, 0, len(x) - 1, 1),
        "roll": slider("random draw (number)", 0, 0, 99, 1),
        "smallest_crop": slider("smallest crop (share of the area)", settings.crop_scale[0], 0.05, 1.0, 0.05),
        "jitter": slider("colour jitter (share of its strength)", 1.0, 0.0, 2.0, 0.1),
        "grey": slider("grey (probability)", settings.grey, 0.0, 1.0, 0.1),
        "radius": slider("radius (cycles per picture)", min(settings.radius, largest), 0.0, largest, 0.5),
        "hold": tick_box("hold the draw: change one knob, see that alone"),
    }
    return Explorer(controls, draw)
