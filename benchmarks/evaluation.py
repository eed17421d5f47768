"""Print how long the slow parts of an evaluation take with the teach preset, on this machine.

    python benchmarks/evaluation.py

The robustness report on 500 images, AutoAttack beside PGD-20 with ten restarts on 100 and beside
itself with folded batch norms, and a UMAP of 10,000 features
beside t-SNE of the same. The report's time is also given by its parts: a smaller one, and half of the images.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch

import advcl_nb as adv

EPSILON = 8 / 255


def timed(name: str, call: Callable[[], object]) -> None:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    print(f"{name:52} {time.perf_counter() - start:7.1f} s", flush=True)


def main() -> None:
    config = adv.preset("teach")
    train, test = adv.load_data(config.data)
    encoder = adv.open_or_train(config, train)
    state = adv.FinetuneState.start(config.finetune["SLF"], encoder, len(train.classes))
    list(adv.finetune_epochs(state, train))
    model, dice = state.classifier, adv.Streams(0)("eval")
    print(f"{adv.cards.hardware()}, torch {torch.__version__}")
    small = adv.ReportSettings(steps=20, restarts=2, queries=100, noises=10)
    for n, settings in ((500, adv.ReportSettings()), (250, adv.ReportSettings()), (500, small)):
        told = "" if settings is not small else ", the smaller settings of notebook 06"
        timed(
            f"robustness_report, {n} images{told}",
            lambda n=n, settings=settings: adv.robustness_report(
                model, test.x[:n], test.y[:n], epsilon=EPSILON, generator=dice, settings=settings
            ),
        )
    x, y = test.x[:100], test.y[:100]
    pgd = adv.Linf(EPSILON, EPSILON / 4, 20)
    timed("PGD-20, 10 restarts, 100 images", lambda: adv.robust_accuracy(model, x, y, pgd, generator=dice, restarts=10))
    for told, attacked in {"": model, ", batch norms folded": model.folded()}.items():
        timed(
            f"AutoAttack, 100 images{told}",
            lambda m=attacked: adv.autoattack_accuracy(m, x, y, epsilon=EPSILON, seed=0),
        )
    many = adv.shapes(10_000, size=train.x.shape[-1])
    features = adv.extract_features(encoder, many.x)
    for method in ("umap", "tsne"):
        timed(f"{method} of 10,000 features", lambda method=method: adv.embed_2d(features, method=method, seed=0))


if __name__ == "__main__":
    main()
