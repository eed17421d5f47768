"""The loop of a long run: it saves as it goes, shows where it stands, and stops in time or when it is asked to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tqdm import tqdm

from advcl_nb._cli_runs import run_summary
from advcl_nb._loop import Row
from advcl_nb._ranks import Ranks
from advcl_nb.checkpoint import save
from advcl_nb.finetune import FinetuneState
from advcl_nb.pretrain import PretrainState

LINE_EVERY = 10.0  # seconds between lines in a log
NO_PART = {"epoch", "step", "learning_rate", "images_per_second", "seconds", "seconds_left"}


class RunFailed(RuntimeError):
    """A run that broke off by itself; the message says where, and what was saved last."""


class Limits(NamedTuple):
    """When to stop, on the clock of `time.monotonic`, and how many seconds to let pass between saves."""

    deadline: float
    save_every: float


def train(
    state: PretrainState | FinetuneState, rows: Iterator[Row], path: Path, limits: Limits, show: Progress, *,
    ranks: Ranks = Ranks(),  # noqa: B008 (a value)
) -> str:  # fmt: skip
    """Draw the rows to the end, saving to `path` on the way, and return why it stopped; of several processes one saves.

    That is "finished", "time limit" or a signal's name; in each case the state is saved. At least one row is drawn,
    so that a chain of jobs arrives, however short they are. Raises `RunFailed` where training or saving fails.
    """
    with failures_named(state), asked_to_stop() as asked, show:
        saved = last = time.monotonic()
        slowest, complete = 0.0, True
        for row in rows:
            if ranks.first:
                show.row(row)
            now = time.monotonic()
            slowest, last = max(slowest, now - last), now
            complete = row["seconds_left"] == 0
            late = now + 2 * slowest > limits.deadline  # twice: the next row, and to save it
            if ranks.agreed(bool(asked) or late):
                break
            if ranks.first and now - saved >= limits.save_every:
                save(state, path)
                saved = now
        if ranks.first:
            save(state, path)
        ranks.wait()
    why = asked[0] if asked else "finished" if complete else "time limit"
    return why if ranks.count == 1 else ranks.fabric.broadcast(why)  # the first one's, for all to go on alike


@contextmanager
def asked_to_stop() -> Iterator[list[str]]:
    """Note SIGINT and SIGTERM by name instead of stopping at once; a second one acts as ever."""
    asked: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(signal.Signals(number).name)
        give_back()
        os.write(2, f"{asked[0]}: saving after this row; once more stops at once\n".encode())  # print may be at work

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        give_back()


@contextmanager
def failures_named(state: PretrainState | FinetuneState) -> Iterator[None]:
    """Turn what can go wrong in a run into a `RunFailed` that names the last saved file; bad input stays as it is."""
    start = state.step
    try:
        yield
    except (ArithmeticError, RuntimeError, MemoryError, OSError, ValueError) as error:
        if isinstance(error, ValueError) and state.step == start:
            raise
        kept = f" Saved last: {state.saved_to}, step {run_summary(state.saved_to)['step']}." if state.saved_to else ""
        raise RunFailed(f"{error}{kept}") from error


class Progress:
    """A bar on a terminal; elsewhere a line for a row, at most one in ten seconds, and one for the last row."""

    def __init__(self, title: str, step: int, steps: int) -> None:
        self.title, self.steps = title, steps
        self.bar = tqdm(desc=title, initial=step, total=steps, unit="step", disable=None)  # None: where no terminal is
        self.told, self.waiting = -LINE_EVERY, None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.waiting is not None:
            self.tell(self.waiting)

    def row(self, row: Row) -> None:
        """Show a row, or keep it for later."""
        if not self.bar.disable:
            self.bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            self.bar.update(row["step"] - self.bar.n)
        elif time.monotonic() - self.told >= LINE_EVERY:
            self.tell(row)
        else:
            self.waiting = row

    def tell(self, row: Row) -> None:
        """Print a row as a line."""
        print(f"{self.title}: {line(row, self.steps)}", flush=True)
        self.told, self.waiting = time.monotonic(), None


def line(row: Row, steps: int | None = None) -> str:
    """Return a row in a line: where it stands, the loss and its parts, the rate, and the time left."""
    words = [f"step {row['step']:.0f}" + (f" of {steps}" if steps else ""), f"epoch {row['epoch']:.2f}"]
    words += [f"{name} {value:.4g}" for name, value in row.items() if name not in NO_PART]
    words += [f"rate {row['learning_rate']:.3g}", f"{row['images_per_second']:.0f} images/s"]
    return ", ".join([*words, f"{row['seconds_left']:.0f} s left"])
