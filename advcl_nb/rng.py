"""Named random streams: every draw is a function of seed, name and position, and of nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from advcl_nb._check import require_count, require_one_of

STREAMS = ("data", "init", "order", "views", "attack", "clusters", "mixing", "eval")


@dataclass(frozen=True)
class Streams:
    """Make a fresh generator for a named stream at a position: ``streams("views", epoch, batch)``.

    The generator's seed is the sha256 of seed, name and position. So there is no generator state to save with a run,
    a resumed run draws what the uninterrupted one drew, and a new consumer never moves another's numbers.
    """

    seed: int

    def __post_init__(self) -> None:
        require_count(self.seed, "seed", -(2**63))

    def __call__(self, name: str, *position: int) -> torch.Generator:
        """Return a CPU ``torch.Generator`` for stream `name` (one of ``STREAMS``) at `position`."""
        return torch.Generator().manual_seed(self.number(name, *position))

    def number(self, name: str, *position: int) -> int:
        """Return the 63-bit seed itself, for libraries that take a seed and no generator."""
        require_one_of(name, "name", STREAMS)
        key = "/".join(str(part) for part in (self.seed, name, *position))
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
