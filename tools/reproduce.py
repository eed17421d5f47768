"""Make every committed card, encoder and training history of a preset again.

    python tools/reproduce.py teach|cifar [--only NAME ...] [--device cuda]

Goes on where it was broken off: finished encoders are opened, finished cards are left alone. Delete a card or an
encoder to make it again.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

import advcl_nb as adv

PGD20 = adv.Linf(8 / 255, 2 / 255, 20)
SEEDS = (0, 1, 2)
CHECKED, REPORTED = 500, 250  # test images for AutoAttack, and for the robustness report


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning and its scores: what differs from the preset's protocol, and the share of labels it has.

    checked: scored by AutoAttack and the robustness report, with transfer from SimCLR (to SimCLR from AdvCL).
    """

    protocol: str
    changes: dict = field(default_factory=dict)
    share: float = 1.0
    transfer_to: str | None = None
    checked: bool = False

    @property
    def note(self) -> str:
        """What the card's note says beside the encoder's name; a seed stands in the card's config."""
        told = [f"{name}={value}" for name, value in self.changes.items() if name not in HIDDEN]
        told = ([f"{self.share:.0%} of the labels"] if self.share < 1 else []) + told
        return "".join(f", {part}" for part in told + ([REPORT] if self.checked else []))


REPORT = "AutoAttack and report"
HIDDEN = ("seed", "epochs", "milestones", "batch_size")


@dataclass(frozen=True)
class Run:
    """One encoder: what differs from the preset's pretraining, and how it is fine-tuned and scored."""

    name: str
    changes: dict = field(default_factory=dict)
    tunings: tuple[Tuning, ...] = (Tuning("SLF"),)
    release_labels: bool = False


def protocols(*names: str, seeds: tuple[int, ...] = (0,), **options) -> tuple[Tuning, ...]:
    """A tuning for each protocol and seed; `options` are a Tuning's, or changes to the protocol's settings."""
    share, target = options.pop("share", 1.0), options.pop("transfer_to", None)
    return tuple(
        Tuning(name, ({"seed": seed} if seed else {}) | options, share, target) for name in names for seed in seeds
    )


FEW = {  # 10% of the labels, the same for each seed: smaller batches, and more epochs
    "smoke": {"share": 0.1, "batch_size": 16},
    "teach": {"share": 0.1, "batch_size": 64, "epochs": 30, "milestones": (18, 24)},
    "cifar": {"share": 0.1, "batch_size": 64, "epochs": 10, "milestones": (6, 8)},
}


CHECK = Tuning("SLF", checked=True)


def runs_of(preset: str) -> Iterator[Run]:
    """The runs behind the notebooks; the first, SimCLR, also makes the pseudo-labels of the others."""
    whole = protocols("SLF", "ALF", "AFF")
    trio = protocols("CE", "SupCon", "Core", seeds=SEEDS)
    trio += protocols("CE", "SupCon", "Core", seeds=SEEDS, **FEW[preset])
    if preset == "cifar":
        slf, moved = protocols("SLF"), protocols("SLF", transfer_to="cifar100")
        yield Run("SimCLR", {"method": "simclr"}, (*slf, *trio, *moved, CHECK))
        yield Run("ACL", {"method": "acl"}, (*slf, *protocols("CE", "Core"), *moved, CHECK))
        yield Run("AdvCL", {}, (*whole, *protocols("AdvCore", "CE", "Core"), *moved, CHECK))
        yield Run("AdvCL with the authors' pseudo-labels (ImageNet)", {}, (*slf, CHECK), release_labels=True)
        return
    for seed in SEEDS:
        more = (*whole, *trio, *studies(FEW[preset]), CHECK)
        yield Run("SimCLR", {"method": "simclr", "seed": seed}, more if seed == 0 else whole[:1])
        more = (*whole, *protocols("AdvCore"), *protocols("AFF", "AdvCore", **FEW[preset]), CHECK)
        yield Run("AdvCL", {"seed": seed}, more if seed == 0 else whole[:1])
        yield Run("AdvCL without pseudo-labels", {"pseudo_weight": 0.0, "seed": seed})
        yield Run("AdvCL without the high-frequency view", {"high_view": False, "seed": seed})
    yield Run("RoCL", {"method": "rocl"})
    yield Run("ACL", {"method": "acl"})
    for radius in (1.0, 2.0, 6.0):
        yield Run(f"AdvCL, radius {radius:g}", {"radius": radius})


def studies(few: dict) -> tuple[Tuning, ...]:
    """Core-tuning's ablation, the sweep over eta for both variants, and AdvCore, on SimCLR's encoder."""
    parts = ({"eta": 0.0}, {"mixing": False}, {"hard_pairs": False}, {"focal": False}, {"smooth_classifier": False})
    ablation = [tuning for part in parts for tuning in protocols("Core", seeds=SEEDS, **few | part)]
    sweep = []
    for variant in ({}, {"core_variant": "release"}):
        for eta in (0.003, 0.03, 0.1, 0.3, 1.0):
            if variant or eta != 0.1:  # this is the preset's own
                sweep += protocols("Core", seeds=SEEDS, **few | variant | {"eta": eta})
    return (*ablation, *sweep, *protocols("AdvCore"), *protocols("AFF", "AdvCore", **few))


def config_of(preset: str, run: Run) -> adv.Config:
    """The preset with the run's changes; the seed also goes to fine-tuning."""
    config, changes = adv.preset(preset), dict(run.changes)
    views = replace(config.pretrain.views, radius=changes.pop("radius", config.pretrain.views.radius))
    seed = changes.get("seed", 0)
    finetune = {name: replace(settings, seed=seed) for name, settings in config.finetune.items()}
    return replace(config, pretrain=replace(config.pretrain, views=views, **changes), finetune=finetune)


def config_with(config: adv.Config, tuning: Tuning) -> adv.Config:
    """The run's config with the tuning's changes in its protocol."""
    settings = replace(config.finetune[tuning.protocol], **tuning.changes)
    return replace(config, finetune=dict(config.finetune) | {tuning.protocol: settings})


def make_encoder(config: adv.Config, run: Run, train: adv.Images, device: str) -> tuple[adv.Encoder, Path, float]:
    """Open or train the encoder and return it as committed (half precision), its file, and the seconds it took."""
    labels = adv.load_release_pseudo_labels(counts=config.model.cluster_counts) if run.release_labels else None
    path = Path("data/checkpoints") / f"{adv.run_name(config, train, labels)}.pt"
    if not path.is_file():
        adv.open_or_train(config, train, labels, device=device)
        trained = adv.find_run(path.stem)
        adv.save_encoder(adv.load_encoder(trained), path, config=config, history=adv.load_history(trained))
    return adv.load_encoder(path, device=device), path, adv.load_history(path)[-1]["seconds"]


def tune(config: adv.Config, tuning: Tuning, encoder: adv.Encoder, device: str) -> tuple[adv.Classifier, adv.Images]:
    """Fine-tune a copy of the encoder on the tuning's images; return the classifier and the test images."""
    settings = config.finetune[tuning.protocol]
    data = replace(config.data, name=tuning.transfer_to or config.data.name)
    train, test = (images.to(device) for images in adv.load_data(data))
    train = train.subset(round(tuning.share * len(train)), seed=0) if tuning.share < 1 else train
    state = adv.FinetuneState.start(settings, encoder, len(train.classes), device=device)
    for row in tqdm(adv.finetune_epochs(state, train), desc=tuning.protocol, total=settings.epochs, unit="epoch"):
        last = row
    print(tuning, f"accuracy in training {last['accuracy']:.3f}, {last['seconds']:.0f} s", flush=True)
    return state.classifier, test


def score(config: adv.Config, tuning: Tuning, encoder: adv.Encoder, device: str) -> tuple[list[adv.Score], str]:
    """Fine-tune a copy of the encoder and return its SA and PGD-20 scores, and nothing that was found."""
    classifier, test = tune(config, tuning, encoder, device)
    generator = adv.Streams(config.finetune[tuning.protocol].seed)("eval")
    standard = adv.standard_accuracy(classifier, test.x, test.y)
    return [standard, adv.robust_accuracy(classifier, test.x, test.y, PGD20, generator=generator)], ""


def check(
    config: adv.Config, tuning: Tuning, encoder: adv.Encoder, device: str, *, name: str
) -> tuple[list[adv.Score], str]:
    """Fine-tune a copy of the encoder; return AutoAttack's and the robustness report's scores, and what it found."""
    classifier, test = tune(config, tuning, encoder, device)
    other = "advcl" if config.pretrain.method == "simclr" else "simclr"
    source = replace(config, pretrain=replace(config.pretrain, method=other))
    train, _ = (images.to(device) for images in adv.load_data(config.data))
    source, _ = tune(source, tuning, adv.open_or_train(source, train, device=device), device)
    Path("runs").mkdir(exist_ok=True)
    weights = hashlib.sha256(b"".join(w.cpu().numpy().tobytes() for w in classifier.state_dict().values())).hexdigest()
    state = Path("runs") / f"{name}-{tuning.protocol}-{weights[:10]}.autoattack.json"
    some = test[:CHECKED]
    attacked = adv.autoattack_accuracy(classifier, some.x, some.y, epsilon=PGD20.epsilon, seed=0, state_path=state)
    print(attacked, flush=True)
    generator = adv.Streams(config.finetune[tuning.protocol].seed)("eval")
    some = test[:REPORTED]
    report = adv.robustness_report(
        classifier, some.x, some.y, epsilon=PGD20.epsilon, generator=generator, transfer_from=source
    )
    print(report, flush=True)
    return [attacked, *report.scores], ": " + ("; ".join([*report.signs, *attacked.flags]) or "none")


def is_done(config: adv.Config, run: Run, tuning: Tuning, path: Path) -> bool:
    """Whether a card of this result is there."""
    settings, note = config.finetune[tuning.protocol], run.name + tuning.note
    return any(
        (card.note.split(": ")[0], card.protocol, card.transfer_to) == (note, tuning.protocol, tuning.transfer_to)
        and card.settings.finetune[card.protocol] == settings
        and card.checkpoint["file"] == path.name
        for card in adv.read_cards()
        if card.checkpoint
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=("smoke", "teach", "cifar"))
    parser.add_argument("--only", nargs="*", help="names of runs, as the cards' notes have them")
    parser.add_argument("--protocols", nargs="*", help="protocols to score; all by default")
    parser.add_argument("--checks", action="store_true", help="AutoAttack and the robustness report alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    train, _ = (images.to(options.device) for images in adv.load_data(adv.preset(options.preset).data))
    for run in runs_of(options.preset):
        config = config_of(options.preset, run)
        if options.only and run.name not in options.only:
            continue
        print(f"\n{run.name}, seed {config.pretrain.seed}", flush=True)
        encoder, path, seconds = make_encoder(config, run, train, options.device)
        for tuning in run.tunings:
            wanted = not options.protocols or tuning.protocol in options.protocols
            wanted = wanted and (tuning.checked or not options.checks)
            tuned = config_with(config, tuning)
            if wanted and not is_done(tuned, run, tuning, path):
                if tuning.checked:
                    scores, found = check(tuned, tuning, encoder, options.device, name=path.stem)
                else:
                    scores, found = score(tuned, tuning, encoder, options.device)
                print(*scores, sep="\n", flush=True)
                told = {"seconds": seconds, "checkpoint": path, "note": run.name + tuning.note + found}
                adv.write_card(adv.make_card(tuned, tuning.protocol, scores, transfer_to=tuning.transfer_to, **told))


if __name__ == "__main__":
    main()
