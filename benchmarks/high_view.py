"""What the cost of the high-frequency view depends on, on the made-up data: AdvCL with and without it, by faint cue.

    python benchmarks/high_view.py [high low none]

For each kind of faint cue it draws the data anew, trains SimCLR (whose clusters are the pseudo-labels), then AdvCL with
and without the high-pass view, and prints SLF accuracy beside the share of the cue's energy that the view keeps.
"""

import sys
from dataclasses import replace

import torch

import advcl_nb as adv

PGD20 = adv.Linf(8 / 255, 2 / 255, 20)


def train(config: adv.Config, images: adv.Images, labels: torch.Tensor | None, **changes: object) -> adv.Encoder:
    state = adv.PretrainState.start(replace(config, pretrain=replace(config.pretrain, **changes)))
    for row in adv.pretrain_epochs(state, images, labels):
        print(f"\r{changes} epoch {row['epoch']:.0f}, loss {row['loss']:.3f}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return state.encoder


def scores(config: adv.Config, encoder: adv.Encoder, images: adv.Images, test: adv.Images) -> str:
    state = adv.FinetuneState.start(config.finetune["SLF"], encoder, len(images.classes))
    for _ in adv.finetune_epochs(state, images):
        pass
    clean = adv.standard_accuracy(state.classifier, test.x, test.y)
    attacked = adv.robust_accuracy(state.classifier, test.x, test.y, PGD20, generator=adv.Streams(0)("eval"))
    return f"{100 * clean.value:.1f} / {100 * attacked.value:.1f} ({100 * attacked.low:.1f}-{100 * attacked.high:.1f})"


def kept(settings: adv.ShapeSettings, radius: float) -> str:
    """The share of the cue's energy, and of all the rest but the mean, that the high-pass keeps."""
    if settings.cue == "none":
        return "no cue"
    with_cue = adv.to_float(adv.shapes(500, settings).x)
    without = adv.to_float(adv.shapes(500, replace(settings, cue="none")).x)
    parts = with_cue - without, without - without.mean((2, 3), keepdim=True)
    shares = [adv.high_pass(part, radius).square().sum() / part.square().sum() for part in parts]
    return f"{shares[0]:.0%} of the cue, {shares[1]:.0%} of the rest"


def main() -> None:
    config = adv.preset("teach")
    radius = config.pretrain.views.radius
    print("| faint cue | the view keeps | SimCLR | AdvCL with the view | AdvCL without |\n|---|---|---|---|---|")
    for cue in sys.argv[1:] or ("high", "low", "none"):
        settings = adv.ShapeSettings(cue=cue)
        images, test = adv.shapes(config.data.train, settings), adv.shapes(config.data.test, settings, split="test")
        simclr = train(config, images, None, method="simclr")
        features = adv.extract_features(simclr, images.x)
        labels = adv.pseudo_labels(features, config.model.cluster_counts, seed=adv.Streams(0).number("clusters"))
        encoders = [simclr, *(train(config, images, labels, high_view=there) for there in (True, False))]
        cells = " | ".join(scores(config, encoder, images, test) for encoder in encoders)
        print(f"| {cue} | {kept(settings, radius)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
