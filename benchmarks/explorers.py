"""Print how long an explorer takes from a control's change to its new picture, in the kernel.

    python benchmarks/explorers.py

On 10,000 images of 32x32 pixels, the median of 60 changes of each explorer's main control, beside the same content as a
matplotlib figure, which is what a reader would otherwise wait for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import advcl_nb as adv


def median_ms(change: Callable[[int], object]) -> float:
    seconds = []
    for count in range(60):
        start = time.perf_counter()
        change(count)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def main() -> None:
    images = adv.shapes(10_000, size=32)
    x = adv.to_float(images.x[:1])
    settings = adv.ViewSettings()
    draw = adv.draw_views(1, 32, 32, settings, generator=adv.Streams(0)("views"))
    figures = {
        "explore_frequency": lambda count: adv.show_frequency(x[0], [1 + count % 16])._repr_png_(),
        "explore_views": lambda count: adv.show_views(x, adv.make_views(x, draw), draw)._repr_png_(),
    }
    labels = adv.pseudo_labels(images.x[:1000].flatten(1).float(), (2, 10, 50), seed=0)
    qualities = [adv.cluster_quality(column, images.y[:1000]) for column in labels.T]
    figures["explore_clusters"] = lambda count: [
        picture._repr_png_()
        for picture in (
            adv.show_clusters(images[:1000], labels[:, 1], clusters=5, each=8),
            adv.show_cluster_quality(qualities),
        )
    ]
    explorers = {
        "explore_clusters": adv.explore_clusters(labels, images[:1000], images.y[:1000]),
        "explore_frequency": adv.explore_frequency(images),
        "explore_views": adv.explore_views(images, seed=0),
    }
    print(f"{adv.cards.hardware()}\n{'explorer':20} {'control':8} {'ms to the picture':>18} {'as a figure':>12}")
    for name, explorer in explorers.items():
        control = "cluster" if "cluster" in explorer.controls else "radius"
        slider = explorer.controls[control]
        if control == "cluster":
            explorer.controls["column"].value = 2

        def change(count: int, slider: object = slider) -> None:
            slider.value = 1 + count % 16

        print(f"{name:20} {control:8} {median_ms(change):18.1f} {median_ms(figures[name]):12.1f}")


if __name__ == "__main__":
    main()
