"""Seconds against width, batch, attack steps and images, beside the cost model; a part of bench.py."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from timing import alternate, forward_units, some_images, step_of

import advcl_nb as adv

SWEEPS = {
    "width": (8, 16, 32, 64), "batch": (32, 64, 128, 256), "attack steps": (1, 2, 5, 10),
    "images": (512, 1024, 2048, 4096),
}  # fmt: skip


def measure_scaling(options: argparse.Namespace) -> None:
    """Time the `cifar` preset's network against each of `SWEEPS`, and draw it beside the cost model."""
    from matplotlib.figure import Figure

    figure = Figure((12, 3), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 4), SWEEPS.items(), strict=True):
        seconds = [sweep_step(name, value, options) for value in values]
        model = [modelled(name, value) for value in values]
        factor = seconds[-1] / model[-1]  # where overhead counts least
        axes.loglog(values, seconds, "o-", label="measured")
        axes.loglog(values, [factor * cost for cost in model], "--", color="grey", label="cost model")
        axes.set(xlabel=name, ylabel="seconds an epoch" if name == "images" else "seconds a step")
        axes.minorticks_off()
        axes.set_xticks(values, map(str, values))
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if min(seconds) / 2 < tick < 2 * max(seconds)]
        axes.set_yticks(ticks, map(str, ticks))
        print(
            f"{name:14}" + "".join(f"{value:>6}: {found:7.3f} s" for value, found in zip(values, seconds, strict=True))
        )
    axes.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("scaling.png"), dpi=80)


def sweep_step(name: str, value: int, options: argparse.Namespace) -> float:
    """Return the median seconds of a step with one setting changed."""
    config = adv.preset("cifar")
    width = value if name == "width" else config.model.width
    steps = value if name == "attack steps" else 2
    threat = replace(config.pretrain.attack, steps=steps)
    config = replace(config, model=replace(config.model, width=width), pretrain=replace(config.pretrain, attack=threat))
    config = replace(config, pretrain=replace(config.pretrain, epochs=1, batch_size=128))
    state = adv.PretrainState.start(config, device=options.device)
    images, _ = some_images(value if name in ("batch", "images") else 128, options.device)
    labels = torch.zeros(len(images), len(config.model.cluster_counts), dtype=torch.int64, device=options.device)
    if name == "images":
        return list(adv.pretrain_epochs(state, images, labels))[-1]["seconds"]
    step = step_of(state, images, labels)
    step()
    return statistics.median(alternate({"ours": step}, options.rounds)["ours"])


def modelled(name: str, value: int) -> float:
    """Return what the step should cost, up to a factor: quadratic in width, linear in batch and forward units."""
    return value**2 if name == "width" else forward_units(value, reference=False) if "steps" in name else value
