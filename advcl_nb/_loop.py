"""The one training loop behind pretraining and fine-tuning: order, learning rate, and rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from advcl_nb._check import require, require_count
from advcl_nb.config import FinetuneConfig, PretrainConfig, learning_rate
from advcl_nb.data import batches
from advcl_nb.rng import Streams

Row = dict[str, float]


@runtime_checkable
class State(Protocol):
    """What the loop moves in a `PretrainState` or a `FinetuneState`."""

    optimizer: torch.optim.Optimizer
    step: int
    history: list[Row]
    sums: dict[str, Tensor | float]
    saved_to: Path | None


Parts = dict[str, Tensor]  # a step's loss and its parts, on the device


def make_optimizer(config: PretrainConfig | FinetuneConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Make the config's optimiser; weight decay is on everything, batch norm and biases too, as in the release."""
    if config.optimizer != "adamw":
        nesterov = config.optimizer == "nesterov"
        options = {"momentum": config.momentum, "weight_decay": config.weight_decay, "nesterov": nesterov}
        return torch.optim.SGD(parameters, config.learning_rate, **options)
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)


def require_batch(images: Tensor, channels: int, least: int = 1) -> None:
    """Raise a three-part ``ValueError`` unless `images` are `least` or more uint8 images of so many channels."""
    fits = isinstance(images, Tensor) and images.ndim == 4 and images.dtype == torch.uint8 and len(images) >= least
    require(fits, "images", f"uint8 images (n, c, h, w), {least} or more", images)
    todo = f"Set ModelConfig(channels={images.shape[1]})."
    require(images.shape[1] == channels, "images", f"{channels} channels, as the model has", images, todo)


@contextmanager
def undone_if_broken_off(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put the running statistics back and drop the gradients where an interrupt or an error ends the ``with``.

    A step that is broken off before the optimiser has begun its own can so be made again, with the same result to the
    bit; one that is broken off later is made again with some of its update in the weights.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        for buffer, old in before:
            buffer.data.copy_(old)
        optimizer.zero_grad()
        raise


def run(
    state: State, config: PretrainConfig | FinetuneConfig, n: int, step: Callable[[Tensor], dict], every: int | None
) -> Iterator[Row]:
    """Yield rows while `step` trains on index batches, from where ``state.step`` stands to the config's last epoch."""
    streams = Streams(config.seed)
    per_epoch = sum(1 for _ in batches(n, config.batch_size, generator=None))
    require_count(per_epoch if every is None else every, "every")
    every, total = every or per_epoch, config.epochs * per_epoch
    started, first, order, ordered = time.perf_counter(), state.step, [], -1
    spent = state.history[-1]["seconds"] if state.history else 0.0
    while True:
        if state.sums and (state.step % every == 0 or state.step == total):  # so a row that an interrupt took comes too
            row = _row(state, per_epoch)  # before the clock is read, for this waits for the device
            seconds = time.perf_counter() - started
            steps = state.step - first
            per_step = seconds / steps if steps else spent / max(state.step - 1, 1)
            row |= {
                "learning_rate": state.optimizer.param_groups[0]["lr"],
                "images_per_second": n / max(per_step * per_epoch, 1e-9),
                "seconds": spent + seconds,
                "seconds_left": per_step * (total - state.step),
            }
            state.history.append(row)
            left = time.perf_counter()
            yield row
            started += time.perf_counter() - left  # what is done with a row is not training
        if state.step >= total:
            return
        epoch, batch = divmod(state.step, per_epoch)
        if epoch != ordered:
            order, ordered = list(batches(n, config.batch_size, generator=streams("order", epoch))), epoch
        rate = learning_rate(config, epoch, batch, per_epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        _add(state.sums, step(order[batch]), len(order[batch]))


def _add(sums: dict[str, Tensor | float], parts: Parts, count: int) -> None:
    for name, value in (parts | {"images": 1.0}).items():
        sums[name] = sums.get(name, 0.0) + count * value


def _row(state: State, per_epoch: int) -> Row:
    """Average the parts since the last row, and start anew; raise FloatingPointError where the loss is not finite."""
    parts = {name: float(value) / state.sums["images"] for name, value in state.sums.items() if name != "images"}
    if not math.isfinite(parts["loss"]):
        first = state.history[-1]["step"] + 1 if state.history else 1
        steps = f"step {state.step}" if first == state.step else f"steps {first} to {state.step}"
        found = ", ".join(f"{name} {value:.4g}" for name, value in parts.items())
        todo = f"Load {state.saved_to}" if state.saved_to else "No checkpoint was saved: start anew"
        todo += " and lower the learning rate."
        raise FloatingPointError(f"loss: expected a finite number, got {found} in {steps}. {todo}")
    state.sums.clear()
    return {"epoch": state.step / per_epoch, "step": state.step} | parts
