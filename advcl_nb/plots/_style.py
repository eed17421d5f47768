"""One visual language: colours by name, fonts, sizes, and a figure that shows itself once in a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

DPI = 100
WIDTH = 10.0  # inches that a notebook's column holds
SMALL = 9  # points, for everything but titles
CHARACTER = 0.075  # inches that a small letter is wide

PALETTE = tuple(seaborn.color_palette("colorblind").as_hex())  # ten colours, told apart by colour-blind readers too
INK, RED = "#333333", PALETTE[3]
VIEW_COLORS = (PALETTE[9], PALETTE[1])  # view1, view2
METHOD_COLORS = {"simclr": PALETTE[0], "acl": PALETTE[1], "advcl": PALETTE[2], "rocl": PALETTE[4]}
PROTOCOL_COLORS = {
    "slf": PALETTE[9], "alf": PALETTE[3], "aff": PALETTE[5],
    "ce": PALETTE[7], "supcon": PALETTE[6], "core": PALETTE[8], "advcore": INK,
}  # fmt: skip

STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.size": SMALL, "axes.titlesize": SMALL + 1.5, "axes.labelsize": SMALL + 0.5,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "text.color": INK,
    "axes.edgecolor": "#999999", "grid.color": "#e5e5e5", "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


class Picture(Figure):
    """A matplotlib Figure without pyplot behind it: as a cell's value it shows once, whatever the backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Picture, list[Axes]]:
    """Make a figure of so many inches and its axes, row by row, in the package's style."""
    with rc_context(STYLE):
        picture = Picture(figsize=(width, height), dpi=DPI, layout="constrained")
        return picture, list(picture.subplots(rows, columns, squeeze=False).flat)


def colors_of(names: Iterable[str]) -> dict[str, str]:
    """Give a method or protocol its own colour, and every other name a free one, never a method's beside methods."""
    names, fixed = list(names), METHOD_COLORS | PROTOCOL_COLORS
    known = {name: fixed[name.lower()] for name in names if name.lower() in fixed}
    taken = {*METHOD_COLORS.values(), *known.values()} if known else set()
    free = [color for color in PALETTE if color not in taken]
    others = [name for name in names if name not in known]
    return {name: known.get(name) or free[others.index(name) % len(free)] for name in names}


def by_name(value: object) -> dict[str, object]:
    """Return a mapping as a dict; anything else stands alone, under an empty name."""
    return dict(value) if isinstance(value, Mapping) else {"": value}


def class_colors(classes: int) -> list[str]:
    """Return a colour per class; they repeat after ten."""
    return [PALETTE[k % len(PALETTE)] for k in range(classes)]


def legend(picture: Picture, colors: Mapping[str, str]) -> None:
    """Name the colours, right of everything, where the legend hides nothing."""
    colors = {name: color for name, color in colors.items() if name}
    handles = [Line2D([], [], color=color, marker="s", markersize=8, linestyle="") for color in colors.values()]
    with rc_context(STYLE):
        picture.legend(handles, list(colors), loc="outside right upper", frameon=False, alignment="left")


def percent_axis(axes: Axes, label: str) -> None:
    """Let the y axis show fractions as percent, from 0 to 100."""
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.set_ylabel(label)


def plain_ticks(axes: Axes, ticks: Sequence[int]) -> None:
    """Put the x ticks at these values and write them as plain numbers, also on a logarithmic axis."""
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
