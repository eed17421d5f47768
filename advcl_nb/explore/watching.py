"""Follow a training loop: how far it is, its losses as they fall, and a button that ends it."""

from __future__ import annotations

import base64
import contextlib
import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import SupportsFloat

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import display
from jupyter_ui_poll import ui_events
from torch import Tensor

from advcl_nb._check import require
from advcl_nb.plots.training import BESIDE, show_history

PAUSE = 10  # at most one part in so many of the time goes into drawing
NOTHING = "no rows: is the run at its last epoch already?"
PASS_EPOCHS = "Pass what adv.pretrain_epochs or adv.finetune_epochs returns."
Row = Mapping[str, SupportsFloat]


def watch(epochs: Iterable[Row], *, name: str = "") -> Watch:
    """Follow a training loop with a progress bar, live curves and a button that ends it.

    Write ``for row in adv.watch(adv.pretrain_epochs(state, images)): ...``. `epochs` is any iterable of rows, mappings
    from names to numbers; "loss", "accuracy" and other names become curves over "epoch" (over the count of rows
    without one), and "seconds_left" or the length of `epochs` moves the bar. The stop button ends the loop after the
    row at hand, and the state goes on from there when it is trained again; ``every=10`` in `adv.pretrain_epochs` gives
    a row, and a chance to stop, every ten steps. Where a front end sends no clicks to a busy kernel, interrupt the
    kernel instead: the state stays usable too. Outside Jupyter a row is a line of text, at most one a second. `name`
    tells one loop from another. Raises ValueError for what gives no rows of numbers.
    """
    return Watch(epochs, name)


class Watch(widgets.VBox):
    """A loop's rows, to iterate over, with a progress bar, a button to stop them, and their curves.

    `stop` is the button, `bar` the progress bar (0 to 1), `words` the sentence about the last row, `picture` the
    curves (PNG), and `rows` the rows so far.
    """

    looking = False  # whether one is looking at clicks: of a loop within a loop, the outer one does it for both

    def __init__(self, epochs: Iterable[Row], name: str = "") -> None:
        require(isinstance(epochs, Iterable), "epochs", "an iterable of rows", epochs, PASS_EPOCHS)
        wide = {"style": {"description_width": "initial"}, "layout": {"width": "30em"}}
        self.bar = widgets.FloatProgress(value=0.0, max=1.0, description=name or "trained", **wide)
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="End the loop after the row at hand")
        self.words, self.picture = widgets.HTML("waiting for the first row"), widgets.Image(format="png")
        super().__init__([widgets.HBox([self.bar, self.stop]), self.words, self.picture])
        self.rows, self.name = [], name
        self._epochs, self._stopped, self._length = iter(epochs), False, getattr(epochs, "__len__", lambda: 0)()
        self.stop.on_click(self._end)

    def _end(self, button: widgets.Button) -> None:
        self._stopped, button.description = True, "Stopping"

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows until there are no more, or the button is pressed."""
        self._stopped, end = False, object()
        with self._notebook() if hasattr(get_ipython(), "kernel") else self._terminal() as show:
            while not self._stopped and (row := next(self._epochs, end)) is not end:
                self._take(row)
                show()
                yield row

    @contextlib.contextmanager
    def _notebook(self) -> Iterator[Callable[[], None]]:
        """Show the widget; redraw it as often as is cheap, and at the end, also after a break or an error."""
        handle, due = display(self, display_id=True), 0.0
        self.stop.disabled, self.stop.description = False, "Stop"

        def show() -> None:
            nonlocal due
            look(10)
            if (start := time.perf_counter()) > due:
                self._draw()
                due = time.perf_counter() + PAUSE * (time.perf_counter() - start)

        with _clicks(self.stop) as look:
            try:
                yield show
            finally:
                self._draw()
                self._end_bar()
                self.stop.disabled, self.stop.description = True, "Stopped" if self._stopped else "Ended"
                handle.update(self)  # leaves the last picture where no kernel lives

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[Callable[[], None]]:
        """Print a row as a line, at most one a second, and the last one in any case."""
        printed, due = "", 0.0

        def show(late: bool = False) -> None:
            nonlocal printed, due
            if self.rows and self.words.value != printed and (late or time.perf_counter() > due):
                printed, due = self.words.value, time.perf_counter() + 1
                print(printed, flush=True)

        try:
            yield show
        finally:
            show(late=True)
            if not self.rows:
                print(NOTHING)

    def _end_bar(self) -> None:
        if not self.rows:
            self.words.value = NOTHING
        elif not self._stopped and self.bar.value == 0:
            self.bar.value = 1.0  # nobody knew how long it would be

    def _take(self, row: object) -> None:
        fits = isinstance(row, Mapping) and len(row) > 0 and all(_is_number(value) for value in row.values())
        require(fits, "epochs", "rows that map names to numbers", row, PASS_EPOCHS)
        self.rows.append({"epoch": len(self.rows) + 1} | {name: float(value) for name, value in row.items()})
        spent, left = self.rows[-1].get("seconds", 0.0), self.rows[-1].get("seconds_left")
        if self._length or left is not None:
            self.bar.value = len(self.rows) / self._length if self._length else spent / max(spent + left, 1e-9)
        self.words.value = html.escape(self._said(), quote=False)

    def _said(self) -> str:
        row = self.rows[-1]
        told = [
            f"{self.name}: " * bool(self.name) + f"epoch {row['epoch']:.2f}",
            *(f"{name} {row[name]:.4g}" for name in row if name not in BESIDE),
        ]
        told += [f"{row['images_per_second']:.0f} images/s"] if "images_per_second" in row else []
        return ", ".join(told + ([f"{row['seconds_left']:.0f} s left"] if "seconds_left" in row else []))

    def _draw(self) -> None:
        if any(set(row) - BESIDE for row in self.rows):
            rows = {self.name: self.rows} if self.name else self.rows
            self.picture.value = show_history(rows)._repr_png_()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        bundle = super()._repr_mimebundle_() | {"text/plain": self.words.value}
        still = {"image/png": base64.b64encode(self.picture.value).decode()} if self.picture.value else {}
        return bundle | still


def _is_number(value: object) -> bool:
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


@contextlib.contextmanager
def _clicks(button: widgets.Button) -> Iterator[Callable[[int], object]]:
    """Yield a function that looks at so many clicks, for the loop keeps the kernel busy.

    From version 7 on, ipykernel takes clicks in a thread of their own, where the front end asks for it; 7.4 sends them
    to the busy thread all the same where that one changed the button last, unless it forgets.
    """
    getattr(button.comm, "__dict__", {}).pop("_reply_subshell_id", None)
    if Watch.looking or not hasattr(get_ipython().kernel, "do_one_iteration"):
        yield lambda count: None
        return
    Watch.looking = True
    try:
        with ui_events() as look:
            yield look
    finally:
        Watch.looking = False
