"""What the benchmarks share: images, states, alternating clocks, and the cost model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

import advcl_nb as adv

MACS = 555.4e6  # of a forward of the paper's network for an image of 32x32 pixels
RATE = 0.01  # learning rate: small, so that a few steps stay tame


def forward_units(steps: int, *, reference: bool) -> int:
    """Forwards of an image that a step costs, a backward to the image counting one and a full one two.

    The reference encodes five views `steps` + 1 times; ours the three clean ones once. Both take two gradients to
    images a step, and end with a full backward of five views.
    """
    return (5 * (steps + 1) if reference else 3 + 2 * steps + 2) + 2 * steps + 10


def some_images(n: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n uint8 images of 32x32 pixels and their pseudo-labels; what they show does not matter here."""
    images = adv.shapes(n, size=32)
    labels = torch.stack([images.y % count for count in adv.preset("paper").model.cluster_counts], 1)
    return images.x.to(device), labels.to(device)


def start(changes: Mapping[str, object], device: str | torch.device) -> adv.PretrainState:
    config = adv.preset("paper")
    config = replace(config, pretrain=replace(config.pretrain, learning_rate=RATE, **changes))
    return adv.PretrainState.start(config, device=device)


def step_of(state: adv.PretrainState, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    return lambda: adv.pretrain_step(state, images, labels)


def alternate(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run each in turn, `rounds` times; return the seconds of each."""
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - begin)
    return seconds
