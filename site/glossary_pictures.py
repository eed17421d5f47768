"""The pictures of the glossary: images by the library's own functions, diagrams in its colours."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes

import advcl_nb as adv
from advcl_nb.plots._style import INK, PALETTE, RED, Picture, figure

BLUE, ORANGE, GREEN, GREY = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[7]
BASE = (0.5, 0.5)  # the two pixels of the image in the picture of the balls
AIM = (0.95, 0.75)  # where its loss is largest


def write(folder: Path) -> list[Path]:
    """Draw every picture into `folder` as glossary-NAME, make the folder where it is missing, and return the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "glossary"}):  # the same drawing is the same file
        return [_save(picture(), folder / f"glossary-{name}") for name, picture in PICTURES.items()]


def _save(picture: Picture, path: Path) -> Path:
    metadata = {"Date": None} if path.suffix == ".svg" else None
    picture.savefig(path, bbox_inches="tight", dpi=150, metadata=metadata)
    return path


def some_shapes(count: int, **settings: str) -> torch.Tensor:
    """Return the first image of each of `count` classes, the same silhouettes whatever the faint cue."""
    drawn = adv.shapes(200, adv.ShapeSettings(**settings))
    return adv.to_float(drawn.x[[int((drawn.y == k).nonzero()[0]) for k in range(count)]])


def some_views(count: int) -> tuple[torch.Tensor, adv.Views, adv.ViewDraw]:
    x = some_shapes(count)
    settings = adv.preset("teach").pretrain.views
    draw = adv.draw_views(count, *x.shape[2:], settings, generator=adv.Streams(0)("views"))
    return x, adv.make_views(x, draw), draw


def trained(method: str) -> tuple[adv.Encoder, adv.Images]:
    """Open the course's encoder of a method, and the images that it was trained on."""
    config = adv.preset("teach")
    config = replace(config, pretrain=replace(config.pretrain, method=method))
    train, _ = adv.load_data(config.data)
    return adv.open_or_train(config, train), train


def shapes() -> Picture:
    x, plain = some_shapes(5), some_shapes(5, cue="none")
    cue = x - plain
    return adv.show_images(torch.cat([x, plain, 0.5 + cue / (2 * cue.abs().max())]), columns=5)


def views() -> Picture:
    return adv.show_views(*some_views(2))


def high_pass() -> Picture:
    return adv.show_frequency(some_shapes(2)[1], [1, 2, 4, 6])


def adversarial_view() -> Picture:
    encoder, _ = trained("advcl")
    encoder.eval()
    _, made, _ = some_views(5)
    embed = lambda x: F.normalize(encoder(x), dim=1)  # noqa: E731
    fixed = embed(made.view1).detach()
    loss = lambda x: adv.multi_view_nt_xent([embed(x), fixed], 0.5)  # noqa: E731
    threat = adv.preset("teach").pretrain.attack
    return adv.show_attack(made.base, adv.pgd(loss, made.base, threat, generator=adv.Streams(0)("attack")))


def clusters() -> Picture:
    encoder, train = trained("simclr")
    part = train[:1000]
    found = adv.pseudo_labels(adv.extract_features(encoder, part.x), [10], seed=0)
    return adv.show_clusters(part, found[:, 0], clusters=4, each=6)


def network() -> Picture:
    picture, axes = _canvas(5.2, 2.4)
    parts = {"projector": ("embedding z", BLUE), "heads": ("clusters", ORANGE), "linear layer": ("classes", GREEN)}
    _word(axes, 0.5, 3, "image")
    _arrow(axes, (1.0, 3), (1.6, 3))
    _box(axes, 2.4, 3, "encoder", INK)
    _arrow(axes, (3.2, 3), (3.7, 3))
    _word(axes, 4.4, 3, "feature h")
    for y, (name, (result, color)) in zip((5, 3, 1), parts.items(), strict=True):
        _arrow(axes, (5.15, 3 + (y - 3) / 6), (5.85, y), color)
        _box(axes, 6.9, y, name, color, wide=2.0)
        _arrow(axes, (7.9, y), (8.4, y), color)
        _word(axes, 8.5, y, result, ha="left")
    return picture


def branches() -> Picture:
    picture, axes = _canvas(5.2, 2.7)
    rows = {"clean": ("view1, view2, high", BLUE), "adv": ("x + δ₁", RED), "adv_pseudo": ("x + δ₂", ORANGE)}
    _box(axes, 4.15, 3, "convo-\nlution,\none\nfor all", INK, wide=1.5, high=5.4)
    _box(axes, 9.3, 3, "ReLU,\nnext\nlayer", INK, wide=1.2, high=5.4)
    for y, (branch, (images, color)) in zip((5, 3, 1), rows.items(), strict=True):
        _word(axes, 2.5, y, images, ha="right", color=color)
        _arrow(axes, (2.6, y), (3.3, y), color)
        _arrow(axes, (4.95, y), (5.6, y), color)
        _box(axes, 6.8, y, f'batch norm\n"{branch}"', color, wide=2.3, high=1.5)
        _arrow(axes, (8.0, y), (8.65, y), color)
    return picture


def balls() -> Picture:
    picture, panels = figure(5.2, 2.8, columns=2)
    grid = torch.linspace(0.2, 0.95, 80)
    loss = lambda x: -((x - torch.tensor(AIM)).square()).sum()  # noqa: E731
    heights = torch.stack([torch.stack([loss(torch.stack([a, b])) for a in grid]) for b in grid])
    attacks = {"L-inf": (adv.Linf(0.2, 0.06, 8), 3), "L2": (adv.L2(0.2, 0.06, 8), 14)}  # and a start on the far side
    for axes, (name, (threat, seed)) in zip(panels, attacks.items(), strict=True):
        axes.contour(grid, grid, heights, levels=9, colors="#cccccc", linewidths=0.8)
        axes.add_patch(_ball(name))
        image = torch.tensor(BASE).view(1, 1, 1, 2)
        path = adv.pgd_path(loss, image, threat, generator=torch.Generator().manual_seed(seed))
        across, up = torch.stack([x.flatten() for x, _ in path]).T
        axes.plot(across, up, "o-", color=RED, markersize=4, linewidth=1.2)
        axes.plot(*BASE, "s", color=INK)
        axes.annotate("x", BASE, (-9, -11), textcoords="offset points", color=INK)
        axes.set(title=f"{name} ball", xlabel="pixel 1", aspect="equal", xlim=(0.25, 0.75), ylim=(0.25, 0.75))
        axes.set_xticks([0.3, 0.5, 0.7], ["x − ε", "x", "x + ε"])
        axes.set_yticks([0.3, 0.5, 0.7], ["x − ε", "x", "x + ε"])
        axes.grid(False)
    panels[0].set_ylabel("pixel 2")
    return picture


def _ball(name: str) -> matplotlib.patches.Patch:
    style = {"facecolor": BLUE, "alpha": 0.15, "edgecolor": BLUE}
    if name == "L2":
        return matplotlib.patches.Circle(BASE, 0.2, **style)
    return matplotlib.patches.Rectangle((0.3, 0.3), 0.4, 0.4, **style)


def contrast() -> Picture:
    picture, (axes,) = figure(3.4, 3.2)
    _circle(axes)
    anchor, positive, *negatives = (torch.tensor(a).deg2rad() for a in (90.0, 45.0, 130.0, 215.0, 320.0))
    place = lambda angle: (float(angle.cos()), float(angle.sin()))  # noqa: E731
    _arrow(axes, place(positive), place(torch.tensor(73.0).deg2rad()), GREEN, curve=0.25)
    _arrow(axes, place(negatives[0]), place(torch.tensor(155.0).deg2rad()), RED, curve=0.25)
    for angle in negatives:
        axes.plot(*place(angle), "o", color=RED)
    axes.plot(*place(anchor), "s", color=INK)
    axes.plot(*place(positive), "o", color=GREEN)
    _word(axes, 0, 1.17, "anchor")
    _word(axes, 0.8, 0.82, "positive: attract", ha="left", color=GREEN)
    _word(axes, -0.75, 0.9, "negative: repel", ha="right", color=RED)
    axes.set(xlim=(-1.9, 1.9), ylim=(-1.1, 1.3))
    return picture


def spread() -> Picture:
    picture, panels = figure(5.2, 2.6, columns=2)
    dice = torch.Generator().manual_seed(0)
    centres = {"aligned, not uniform": torch.linspace(1.2, 1.9, 5), "aligned and uniform": torch.linspace(0, 5.03, 5)}
    for axes, (title, angles) in zip(panels, centres.items(), strict=True):
        _circle(axes)
        for k, angle in enumerate(angles):
            pair = angle + 0.05 * torch.randn(2, generator=dice)
            axes.plot(pair.cos(), pair.sin(), "o", color=PALETTE[k], alpha=0.8)
        axes.set(title=title, xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    return picture


def mixing() -> Picture:
    picture, (axes,) = figure(4.8, 2.7)
    own, other = (
        {"anchor": (0.0, 0.0), "hardest\npositive": (-2.2, 1.6)},
        {"hardest\nnegative": (1.0, 0.9), "random\nnegative": (3.2, -1.3)},
    )
    for places, color in ((own, BLUE), (other, ORANGE)):
        for name, (x, y) in places.items():
            axes.plot(x, y, "o", color=color, markersize=8)
            _word(axes, x, y - 0.5, name, color=color)
    axes.plot((-2.2, 1.0), (1.6, 0.9), ":", color=INK)
    axes.plot((0.0, 3.2), (0.0, -1.3), ":", color=INK)
    for name, (x, y) in {"hard positive": (-0.6, 1.25), "semi-hard negative": (2.56, -1.04)}.items():
        axes.plot(x, y, "D", color=INK, markersize=7)
        _word(axes, x + 0.15, y + 0.3, name, ha="left")
    axes.axis("off")
    axes.set(xlim=(-3.2, 5.4), ylim=(-2.5, 2.1))
    return picture


def masking() -> Picture:
    picture, (axes,) = figure(4.6, 2.6)
    at = torch.linspace(0, 1, 400)
    margin = 3.4 - 5.5 * at
    axes.plot(at, margin, color=BLUE, label="the network's own: the slope shows the way")
    axes.plot(at, margin.round(), color=RED, label="rounded: slope zero almost everywhere")
    axes.axhline(0, color=INK, lw=1, ls="--")
    axes.plot(0.1, 2.85, "o", color=BLUE)
    axes.plot(0.1, 3.0, "o", color=RED)
    axes.text(0.02, -0.55, "below: wrong class", color=INK)
    axes.set(xlabel="way from the image x to the adversarial one", ylabel="margin of the right class", ylim=(-2.4, 5.6))
    axes.set_xticks([])
    axes.legend(frameon=False, loc="upper right")
    return picture


def _canvas(width: float, height: float) -> tuple[Picture, Axes]:
    """Make an empty drawing, ten wide and six high."""
    picture, (axes,) = figure(width, height)
    axes.set(xlim=(0, 10), ylim=(0, 6))
    axes.axis("off")
    return picture, axes


def _circle(axes: Axes) -> None:
    axes.add_patch(matplotlib.patches.Circle((0, 0), 1, fill=False, color="#cccccc"))
    axes.set_aspect("equal")
    axes.axis("off")


def _box(axes: Axes, x: float, y: float, text: str, color: str, *, wide: float = 1.6, high: float = 1.1) -> None:
    corner = x - wide / 2, y - high / 2
    style = {"boxstyle": "round,pad=0,rounding_size=0.15", "facecolor": color, "edgecolor": color}
    axes.add_patch(matplotlib.patches.FancyBboxPatch(corner, wide, high, alpha=0.15, **style))
    axes.add_patch(matplotlib.patches.FancyBboxPatch(corner, wide, high, **style | {"facecolor": "none"}))
    _word(axes, x, y, text)


def _word(axes: Axes, x: float, y: float, text: str, *, color: str = INK, ha: str = "center") -> None:
    axes.text(x, y, text, color=color, ha=ha, va="center", fontsize=10)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, *, curve: float = 0
) -> None:
    style = {"arrowstyle": "->", "color": color, "connectionstyle": f"arc3,rad={curve}"}
    axes.annotate("", end, start, arrowprops=style)


PICTURES = {
    "shapes.png": shapes, "views.png": views, "high_pass.png": high_pass, "adversarial_view.png": adversarial_view,
    "clusters.png": clusters, "network.svg": network, "branches.svg": branches, "contrast.svg": contrast,
    "spread.svg": spread, "mixing.svg": mixing, "balls.svg": balls, "masking.svg": masking,
}  # fmt: skip
