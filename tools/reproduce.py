"""Make every committed card, encoder and training history of a preset again.

    python tools/reproduce.py teach|cifar [--only NAME ...] [--device cuda]

Goes on where it was broken off: finished encoders are opened, finished cards are left alone. Delete a card or an
encoder to make it again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

import advcl_nb as adv

PGD20 = adv.Linf(8 / 255, 2 / 255, 20)


@dataclass(frozen=True)
class Run:
    """One encoder: what differs from the preset's pretraining, and which protocols are scored on it."""

    name: str
    changes: dict = field(default_factory=dict)
    protocols: tuple[str, ...] = ("SLF",)
    release_labels: bool = False


def runs_of(preset: str) -> Iterator[Run]:
    """The runs behind the notebooks; the first, SimCLR, also makes the pseudo-labels of the others."""
    everything = ("SLF", "ALF", "AFF")
    if preset == "cifar":
        yield Run("SimCLR", {"method": "simclr"})
        yield Run("ACL", {"method": "acl"})
        yield Run("AdvCL", {}, everything)
        yield Run("AdvCL with the authors' pseudo-labels (ImageNet)", release_labels=True)
        return
    for seed in range(3):
        yield Run("SimCLR", {"method": "simclr", "seed": seed}, everything if seed == 0 else ("SLF",))
        yield Run("AdvCL", {"seed": seed}, everything if seed == 0 else ("SLF",))
        yield Run("AdvCL without pseudo-labels", {"pseudo_weight": 0.0, "seed": seed})
        yield Run("AdvCL without the high-frequency view", {"high_view": False, "seed": seed})
    yield Run("ACL", {"method": "acl"})
    for radius in (1.0, 2.0, 6.0):
        yield Run(f"AdvCL, radius {radius:g}", {"radius": radius})


def config_of(preset: str, run: Run) -> adv.Config:
    """The preset with the run's changes; the seed also goes to fine-tuning."""
    config, changes = adv.preset(preset), dict(run.changes)
    views = replace(config.pretrain.views, radius=changes.pop("radius", config.pretrain.views.radius))
    seed = changes.get("seed", 0)
    finetune = {name: replace(settings, seed=seed) for name, settings in config.finetune.items()}
    return replace(config, pretrain=replace(config.pretrain, views=views, **changes), finetune=finetune)


def make_encoder(config: adv.Config, run: Run, train: adv.Images, device: str) -> tuple[adv.Encoder, Path, float]:
    """Open or train the encoder and return it as committed (half precision), its file, and the seconds it took."""
    labels = adv.load_release_pseudo_labels(counts=config.model.cluster_counts) if run.release_labels else None
    path = Path("data/checkpoints") / f"{adv.run_name(config, train, labels)}.pt"
    if not path.is_file():
        adv.open_or_train(config, train, labels, device=device)
        trained = adv.find_run(path.stem)
        adv.save_encoder(adv.load_encoder(trained), path, config=config, history=adv.load_history(trained))
    return adv.load_encoder(path, device=device), path, adv.load_history(path)[-1]["seconds"]


def score(config: adv.Config, protocol: str, encoder: adv.Encoder, train: adv.Images, test: adv.Images, device: str):
    """Fine-tune a copy of the encoder and return its SA and PGD-20 scores on the test images."""
    settings = config.finetune[protocol]
    state = adv.FinetuneState.start(settings, encoder, len(train.classes), device=device)
    for row in tqdm(adv.finetune_epochs(state, train), desc=protocol, total=settings.epochs, unit="epoch"):
        last = row
    generator = adv.Streams(settings.seed)("eval")
    scores = [
        adv.standard_accuracy(state.classifier, test.x, test.y),
        adv.robust_accuracy(state.classifier, test.x, test.y, PGD20, generator=generator),
    ]
    print(protocol, *scores, f"accuracy in training {last['accuracy']:.3f}, {last['seconds']:.0f} s", flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=("smoke", "teach", "cifar"))
    parser.add_argument("--only", nargs="*", help="names of runs, as the cards' notes have them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    train, test = (images.to(options.device) for images in adv.load_data(adv.preset(options.preset).data))
    for run in runs_of(options.preset):
        config = config_of(options.preset, run)
        if options.only and run.name not in options.only:
            continue
        print(f"\n{run.name}, seed {config.pretrain.seed}", flush=True)
        encoder, path, seconds = make_encoder(config, run, train, options.device)
        done = [card.protocol for card in adv.read_cards() if card.checkpoint and card.checkpoint["file"] == path.name]
        for protocol in run.protocols:
            if protocol not in done:
                scores = score(config, protocol, encoder, train, test, options.device)
                card = adv.make_card(config, protocol, scores, seconds=seconds, checkpoint=path, note=run.name)
                adv.write_card(card)


if __name__ == "__main__":
    main()
