"""Set an attacker's means and see what it makes of an image, and what each model then says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from ipywidgets import Dropdown, Widget
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor, nn

from advcl_nb._batched import check_evaluable
from advcl_nb._check import require
from advcl_nb.attacks import L2, Linf, pgd_path
from advcl_nb.autoattack import attackable
from advcl_nb.data import Images
from advcl_nb.explore._base import (
    Explorer,
    as_numbers,
    as_set,
    below,
    class_names,
    pixels,
    row_of_tiles,
    slider,
    tick_box,
)
from advcl_nb.frequency import radial_spectrum
from advcl_nb.plots._grid import around_grey, as_batch
from advcl_nb.plots._style import INK, SMALL, Picture, by_name, colors_of, figure, percent_axis
from advcl_nb.rng import Streams


class _Attacked(NamedTuple):
    """One model's attack: the image it ends at, the loss along the way, and the class scores before and after."""

    image: Tensor
    losses: list[float]
    before: Tensor
    after: Tensor


def explore_attack(
    models: Mapping[str, nn.Module] | nn.Module,
    images: Images | Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    *,
    seed: int,
    classes: Sequence[str] | None = None,
) -> Explorer:
    """Explore PGD on images ``(n, c, h, w)`` with true classes `labels` ``(n,)``, each of `models` attacked by itself.

    `models` map images in [0, 1] to logits, by name; they come back as they were. Controls: "image", its number;
    "norm"; "epsilon" in grey levels (L-inf) or "epsilon_l2"; "step", as a share of epsilon; "steps"; "random_start",
    drawn from `seed`. The picture: the original, each model's change, magnified, and its attacked image; class scores
    before and after; the loss along the steps; the change's spectrum. Raises ValueError where they do not fit.
    """
    x, named = as_set(images), by_name(models)
    labels = as_numbers("labels", labels, len(x))
    modules = len(named) > 0 and all(isinstance(model, nn.Module) for model in named.values())
    require(modules, "models", "one torch.nn.Module or more, by name", models, "Of a state write state.classifier.")
    for model in named.values():
        check_evaluable(model, x.to(_device(model)), labels.to(_device(model)))
    classes = images.classes if classes is None and isinstance(images, Images) else classes
    outputs = {len(_scores(model, as_batch(x[:1]).to(_device(model)))) for model in named.values()}
    known = class_names(max(outputs)) if classes is None else list(classes)
    require(outputs == {len(known)}, "models", f"logits of the {len(known)} classes from each", sorted(outputs))

    def draw(
        image: int, norm: str, epsilon: float, *, epsilon_l2: float, step: float, steps: int, random_start: bool
    ) -> tuple[Image.Image, str]:
        size, kind = (epsilon / 255, Linf) if norm == "Linf" else (epsilon_l2, L2)
        threat = kind(size, step * size, steps, "uniform" if random_start else "none")
        one, label, dice = as_batch(x[image : image + 1]), labels[image : image + 1], Streams(seed)
        found = {name: _attack(model, one, label, threat, dice("attack", image)) for name, model in named.items()}
        tiles = {"original": one[0]}
        for name, made in found.items():
            tiles[f"{name} change".strip()] = around_grey(made.image - one)[0][0]
            tiles[f"{name} attacked".strip()] = made.image[0]
        said = [_said(name, made, known) for name, made in found.items()]
        words = f"{known[int(label)]} under {threat}: {'; '.join(said)}. Changes are magnified."
        return below(row_of_tiles(tiles), pixels(_curves(found, one, known))), words

    return Explorer(_controls(len(x)), draw)


def _controls(count: int) -> dict[str, Widget]:
    """The attacker's means; of the two epsilons the one counts that the norm asks for, the other is disabled."""
    controls = {
        "image": slider("image (number)", 0, 0, count - 1, 1, quick=False),
        "norm": Dropdown(options=["Linf", "L2"], description="norm"),
        "epsilon": slider("epsilon, Linf (grey levels)", 8.0, 0.0, 32.0, 0.5, quick=False),
        "epsilon_l2": slider("epsilon, L2 (length)", 0.5, 0.0, 3.0, 0.05, quick=False),
        "step": slider("step (share of epsilon)", 0.25, 0.05, 1.0, 0.05, quick=False),
        "steps": slider("steps", 20, 0, 100, 1, quick=False),
        "random_start": tick_box("random start"),
    }

    def enable(change: object = None) -> None:
        controls["epsilon"].disabled = controls["norm"].value != "Linf"
        controls["epsilon_l2"].disabled = not controls["epsilon"].disabled

    controls["norm"].observe(enable, "value")
    enable()
    return controls


def _attack(model: nn.Module, x: Tensor, y: Tensor, threat: Linf | L2, generator: torch.Generator) -> _Attacked:
    x, y = x.to(_device(model)), y.to(_device(model))
    with attackable(model), torch.no_grad():
        path = list(pgd_path(lambda moved: F.cross_entropy(model(moved), y), x, threat, generator=generator))
    end = path[-1][0]
    return _Attacked(end.cpu(), [loss for _, loss in path], _scores(model, x), _scores(model, end))


def _scores(model: nn.Module, x: Tensor) -> Tensor:
    """Return what the model gives each class for one image on its device, adding up to 1."""
    with attackable(model), torch.no_grad():
        return model(x).softmax(1)[0].cpu()


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _said(name: str, made: _Attacked, known: Sequence[str]) -> str:
    before, after = (known[int(scores.argmax())] for scores in (made.before, made.after))
    return f"{name} says {after}".strip() + (f" instead of {before}" if before != after else "")


def _curves(found: Mapping[str, _Attacked], one: Tensor, known: Sequence[str]) -> Picture:
    """Draw each model's scores, and the losses and spectra of all."""
    picture, panels = figure(2.6 * (len(found) + 2), 2.6, 1, len(found) + 2)
    colors = colors_of(found)
    *bars, losses, spectra = panels
    for axes, (name, made) in zip(bars, found.items(), strict=True):
        _draw_scores(axes, made, known, colors[name])
        axes.set_title(name, loc="left")
        spectra.plot(radial_spectrum(made.image - one)[0] / one[0, 0].numel(), color=colors[name])
        losses.plot(made.losses, color=colors[name])
    losses.set_xlabel("steps")
    losses.set_title("loss (nats)", loc="left")
    spectra.set_xlabel("cycles per picture")
    spectra.set_title("energy of the change", loc="left")
    return picture


def _draw_scores(axes: Axes, made: _Attacked, known: Sequence[str], color: str) -> None:
    """Filled: after the attack; outlined: before."""
    axes.bar(range(len(made.after)), made.after.tolist(), color=color)
    axes.bar(range(len(made.before)), made.before.tolist(), fill=False, edgecolor=INK, linewidth=1)
    axes.set_xticks(range(len(known)), known, rotation=90, fontsize=SMALL - 2)
    axes.grid(False, axis="x")
    percent_axis(axes, "score: outline before, filled after")
    axes.yaxis.label.set_fontsize(SMALL - 2)
