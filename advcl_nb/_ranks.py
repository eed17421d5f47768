"""What the processes of one run do together. A process alone does nothing of it, and needs no launcher."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from advcl_nb._check import require
from advcl_nb.views import ViewDraw


class Ranks(NamedTuple):
    """The processes of a run: Lightning's `fabric`, launched, or None where there is one process."""

    fabric: object = None

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.fabric is None or self.fabric.is_global_zero

    def require_same(self, step: int, model: nn.Module) -> None:
        """Raise ValueError where this process's step or weights are not the first process's."""
        if self.count > 1:
            weights = hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters()))
            mine = (step, weights.hexdigest()[:12])
            first = self.fabric.broadcast(mine)
            todo = "Do all machines see the same runs/?"
            require(mine == first, "state", f"step and weights as in process 0, {first}", mine, todo)

    def agreed(self, wanted: bool) -> bool:
        """Return whether any process wants it, the same in all."""
        if self.count == 1:
            return wanted
        return bool(self.fabric.all_reduce(torch.tensor(float(wanted), device=self.fabric.device), reduce_op="sum") > 0)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            self.fabric.barrier()

    def share(self, n: int) -> slice:
        """Return this process's rows of a batch of n; what does not divide by the count is left out."""
        if self.count == 1:
            return slice(n)
        each = n // self.count
        todo = "Take larger batches, or fewer devices."
        require(each >= 2, "images", f"a batch of {2 * self.count} or more for {self.count} processes", n, todo)
        return slice(each * self.fabric.global_rank, each * (self.fabric.global_rank + 1))

    def share_draw(self, draw: ViewDraw, n: int) -> ViewDraw:
        """Return this process's rows of what was drawn for the whole batch."""
        mine = self.share(n)
        strong = {name: getattr(draw, name)[:, mine] for name in ("boxes", "flips", "factors", "order", "grey")}
        return draw._replace(**strong, base_offsets=draw.base_offsets[mine], base_flips=draw.base_flips[mine])

    def skip(self, images: Tensor, generator: Generator) -> Generator:
        """Move on the generator past the uniform numbers that the processes before this one draw for their images."""
        if self.count > 1:
            before = self.fabric.global_rank * images.numel()
            torch.rand(before, generator=generator, device=generator.device, dtype=torch.float32)
        return generator

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows ``(n, d)`` of all processes, one below the other, with gradients to each."""
        return rows if self.count == 1 else self.fabric.all_gather(rows, sync_grads=True).flatten(0, 1)

    def mean(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of each scalar over the processes."""
        if self.count == 1:
            return dict(parts)
        values = self.fabric.all_reduce(torch.stack(list(parts.values())), reduce_op="mean")
        return dict(zip(parts, values, strict=True))

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one message.

        A gathered loss is the whole batch's in every process, so each process's gradient counts its own rows once for
        each process: the mean is the gradient of one process with the whole batch.
        """
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            whole = self.fabric.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean")
            for gradient, mean in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))


def is_launched() -> bool:
    """Whether `fabric run` has started this process; a cluster's own RANK does not count."""
    return os.environ.get("LT_CLI_USED") == "1"


def launched() -> Ranks:
    """Return the processes that `fabric run` has started, or this one alone."""
    if not is_launched():
        return Ranks()
    from lightning_fabric import Fabric

    return Ranks(Fabric())
