"""An accuracy with what it is: how many of how many images, under which attack, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from advcl_nb._check import require, require_one_of

METRICS = ("SA", "RA", "AA", "CA")
Z = 1.959963984540054  # the normal distribution's 97.5% point


@dataclass(frozen=True)
class Score:
    """An accuracy: `correct` of `n`, its 95% Wilson interval (low, high), the metric and the attack.

    metric is SA (clean), RA (under the named attack), AA (the standard AutoAttack) or CA (under the named corruption).
    """

    metric: str
    correct: int
    n: int
    attack: str | None = None

    def __post_init__(self) -> None:
        require_one_of(self.metric, "metric", METRICS)
        whole = isinstance(self.correct, int) and isinstance(self.n, int)
        fits = whole and 0 <= self.correct <= self.n and self.n > 0
        require(fits, "correct", f"a count of {self.n} images", self.correct)

    @property
    def value(self) -> float:
        """The accuracy as a fraction."""
        return self.correct / self.n

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return self._wilson(-1)

    @property
    def high(self) -> float:
        """Upper end of the 95% interval."""
        return self._wilson(1)

    def _wilson(self, side: int) -> float:
        p, n = self.value, self.n
        centre, spread = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        end = (centre + side * spread) / (1 + Z**2 / n)
        return min(max(end, p), 1.0) if side > 0 else max(min(end, p), 0.0)  # rounding never moves an end past p

    def __repr__(self) -> str:
        name = f"{self.metric}[{self.attack}]" if self.attack else self.metric
        interval = f"{100 * self.low:.1f}-{100 * self.high:.1f}"
        return f"{name} {100 * self.value:.1f}% ({self.correct}/{self.n}, 95% {interval})"
