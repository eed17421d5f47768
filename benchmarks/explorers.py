"""Print how long an explorer takes from a control's change to its new picture, in the kernel.

    python benchmarks/explorers.py

On 10,000 images of 32x32 pixels, the median of 60 changes of each explorer's main control, beside much the same content
as matplotlib figures, which is what a reader would otherwise wait for. The attacks are PGD-20 on two networks of the
`cifar` preset.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import advcl_nb as adv

PGD20 = adv.Linf(8 / 255, 2 / 255, 20)


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
    config = adv.preset("cifar")
    streams = adv.Streams(0)
    nets = [adv.build_model(config.model, generator=streams("init", k)).encoder for k in range(2)]
    models = {f"model {k}": adv.Classifier(net, 10, generator=streams("init", 9)) for k, net in enumerate(nets)}
    figures["explore_attack"] = lambda count: [
        adv.show_attack(x, adv.pgd(lambda z, f=f: f(z).logsumexp(1).sum(), x, PGD20, generator=streams("attack")))
        for f in models.values()
    ]
    places = adv.embed_2d(images.x.flatten(1)[:, ::16].float(), method="pca", seed=0)
    figures["explore_embedding"] = lambda count: adv.show_embedding(places, images.y, images.classes)._repr_png_()
    explorers = {
        "explore_attack": adv.explore_attack(models, images[:100], images.y[:100], seed=0),
        "explore_clusters": adv.explore_clusters(labels, images[:1000], images.y[:1000]),
        "explore_embedding": adv.explore_embedding(places, images, images.y, moved=places + 0.1),
        "explore_frequency": adv.explore_frequency(images),
        "explore_views": adv.explore_views(images, seed=0),
    }
    print(f"{adv.cards.hardware()}\n{'explorer':20} {'control':9} {'ms to the picture':>18} {'as a figure':>12}")
    for name, explorer in explorers.items():
        control = next(name for name in ("cluster", "epsilon", "radius", "selection") if name in explorer.controls)
        slider = explorer.controls[control]
        if control == "cluster":
            explorer.controls["column"].value = 2

        def change(count: int, slider: object = slider, name: str = name) -> None:
            slider.value = list(range(count % 16, 10_000, 16)) if name == "explore_embedding" else 1 + count % 16

        print(f"{name:20} {control:9} {median_ms(change):18.1f} {median_ms(figures[name]):12.1f}")


if __name__ == "__main__":
    main()
