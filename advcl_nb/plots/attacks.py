"""What an attack changes in an image, and in what the model says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.data import Images
from advcl_nb.plots._grid import around_grey, as_batch, draw_grid
from advcl_nb.plots._style import RED, Picture

Names = Sequence | Tensor


def show_attack(
    images: Images | Tensor,
    adversarial: Tensor,
    predictions: tuple[Names, Names] | None = None,
    *,
    classes: Sequence[str] | None = None,
) -> Picture:
    """Show the originals, the magnified perturbations and the adversarial images, a column for each image.

    `predictions` are the model's words for the originals and for the adversarial images: names, or class numbers that
    `classes` (or the `Images`) names; those that the attack changed are red. Over each perturbation stands its largest
    change in grey levels. Raises ValueError where the two batches or the predictions do not match.
    """
    before, after = as_batch(images), as_batch(adversarial, "adversarial")
    n = len(before)
    require(before.shape == after.shape, "adversarial", f"images of shape {tuple(before.shape)}", after)
    classes = images.classes if classes is None and isinstance(images, Images) else classes
    said, says = [_names(names, classes) for names in predictions or ([""] * n, [""] * n)]
    require(len(said) == len(says) == n, "predictions", f"{n} names, twice", (len(said), len(says)))
    change = after - before
    shown, words = around_grey(change)
    largest = [f"{255 * level:.1f}/255" for level in change.abs().amax((1, 2, 3)).tolist()]
    grid = draw_grid(
        torch.stack([before, shown, after]),
        rows=["original", "perturbation,\nmagnified", "adversarial"],
        titles=[*said, *largest, *says],
        title="What the attack changes" + (", and what the model says" if predictions else ""),
        caption=f"Perturbation: {words}.",
    )
    for text, old, new in zip(grid.axes.texts[2 * n :], said, says, strict=True):
        text.set_color(RED if old != new else text.get_color())
    return grid.figure


def _names(predictions: Names, classes: Sequence[str] | None) -> list[str]:
    values = predictions.tolist() if isinstance(predictions, Tensor) else list(predictions)
    return [classes[value] if classes is not None and isinstance(value, int) else str(value) for value in values]
