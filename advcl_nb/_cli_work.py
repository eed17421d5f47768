"""What the commands do: pretrain, fine-tune and score, each from its options, and each tells where its run stands."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advcl_nb._check import require
from advcl_nb._cli_commands import PGD20, Computing, Evaluate, Finetune, Keeping, Pretrain
from advcl_nb._cli_runs import add_scores, find, read_head, read_note, run_summary, runs_folder, write_note
from advcl_nb._cli_train import Progress, train
from advcl_nb._plain import flat, to_plain
from advcl_nb._ranks import Ranks, launched
from advcl_nb._revive import from_plain
from advcl_nb.attacks import L2, Linf
from advcl_nb.autoattack import autoattack_accuracy
from advcl_nb.cards import Card, make_card, write_card
from advcl_nb.checkpoint import find_run, load, load_encoder, load_history, own_pseudo_labels, run_name
from advcl_nb.config import Config, DataConfig, FinetuneConfig, PretrainConfig
from advcl_nb.data import Images, batches, load_data, load_images, project_folder
from advcl_nb.evaluate import robust_accuracy, standard_accuracy
from advcl_nb.finetune import FinetuneState, finetune_epochs
from advcl_nb.models import Encoder
from advcl_nb.presets import preset
from advcl_nb.pretrain import PretrainState, pretrain_epochs
from advcl_nb.release import load_release_pseudo_labels
from advcl_nb.report import robustness_report
from advcl_nb.rng import Streams
from advcl_nb.score import Score


def pretrain(command: Pretrain) -> dict:
    """Train the encoder of these settings, before it the one that makes its pseudo-labels; return where it stands."""
    ranks = launched()
    device = command.computing.device if ranks.fabric is None else ranks.fabric.device
    config = replace(preset(command.preset), data=command.data, model=command.model, pretrain=command.settings)
    labels = given_labels(command.pseudo_labels, config)
    images = fetched(command.data, command.computing)[0].to(device)
    path = runs_folder() / f"{run_name(config, images, labels)}.pt"
    if not is_finished(path, command.keeping) and config.pretrain.uses_pseudo_labels and labels is None:
        first = replace(config, pretrain=replace(config.pretrain, method="simclr"))
        name = run_name(first, images)
        file = find_run(name) or runs_folder() / f"{name}.pt"
        stands = train_encoder(first, images, None, file, command.keeping, ranks=ranks)
        if stands["stopped"] != "finished":
            return stands
        labels = own_pseudo_labels(config, images, device=device)
        labels = labels if ranks.count == 1 else ranks.fabric.broadcast(labels.cpu())  # k-means may differ in a bit
    return train_encoder(config, images, labels, path, command.keeping, ranks=ranks)


def train_encoder(
    config: Config, images: Images, labels: Tensor | None, path: Path, keeping: Keeping, *, ranks: Ranks
) -> dict:
    """Train one encoder from where its file stands to the end; return where it then stands."""
    if is_finished(path, keeping):
        return run_summary(path) | {"stopped": "finished"}
    device = images.x.device
    state = load(path, device=device) if path.is_file() else PretrainState.start(config, device=device)
    state.join(ranks.fabric)
    every, steps = rhythm(len(images), config.pretrain, keeping)
    rows = pretrain_epochs(state, images, None if labels is None else labels.to(device), every=every)
    why = train(state, rows, path, keeping.limits, Progress(config.pretrain.method, state.step, steps), ranks=ranks)
    return run_summary(path) | {"stopped": why}


def finetune(command: Finetune) -> dict:
    """Fine-tune on the encoder, score the result and write its card; return where the run stands."""
    require(command.scores or not command.card, "card", "scores to put on it", "--no-scores", "Leave one of them out.")
    source, device = find(command.encoder), command.computing.device
    encoder = load_encoder(source, device=device)
    check_finished(source)
    images, test = (part.to(device) for part in fetched(command.data, command.computing))
    path = runs_folder() / f"{source.stem}-{command.settings.protocol}-{digest(command, encoder)}.pt"
    stands = tune(command, encoder, images, path)
    if stands["finished"] and command.scores:
        stands["scores"] = usual_scores(command, path, test)
    if stands["finished"] and command.card:
        stands["card"] = str(write_card(card_of(command, source, stands["scores"])))
    return stands


def check_finished(source: Path) -> None:
    """Refuse a pretraining run that was broken off; an encoder's file counts as finished."""
    stands = run_summary(source)
    done = stands["kind"] == "encoder" or stands["finished"]
    got = f"epoch {stands['epoch']:.3g} of {stands['epochs']}"
    require(done, "encoder", "a finished encoder", got, "Go on with: advcl-nb pretrain ... --resume")


def usual_scores(command: Finetune, path: Path, test: Images) -> list[dict]:
    """Return SA and RA under PGD-20 on all of `test`: those in the run's note, or else new ones."""
    wanted = [("SA", None, len(test)), ("RA", str(PGD20), len(test))]
    scores = read_note(path).get("scores", [])
    known = {(s["metric"], s["attack"], s["n"]): s for s in scores if "data" not in s}  # with data: of other images
    if all(key in known for key in wanted):
        return [known[key] for key in wanted]
    state = load(path, device=command.computing.device)
    scores = standard_scores(state, test, Streams(command.settings.seed), PGD20)
    return add_scores(path, scores, command.data)


def tune(command: Finetune, encoder: Encoder, images: Images, path: Path) -> dict:
    """Train a classifier from where its file stands to the end; return where it then stands."""
    settings, keeping, device = command.settings, command.keeping, images.x.device
    finished = is_finished(path, keeping)
    write_note(path, {"data": to_plain(command.data), "encoder": command.encoder})
    if finished:
        return run_summary(path) | {"stopped": "finished"}
    resumes, classes = path.is_file(), len(images.classes)
    state = load(path, device=device) if resumes else FinetuneState.start(settings, encoder, classes, device=device)
    every, steps = rhythm(len(images), settings, keeping)
    rows = finetune_epochs(state, images, every=every)
    why = train(state, rows, path, keeping.limits, Progress(settings.protocol, state.step, steps))
    return run_summary(path) | {"stopped": why}


def evaluate(command: Evaluate) -> dict:
    """Score a fine-tuned run, print the scores and keep them beside it; return where the run stands."""
    path, device = find(command.run), command.computing.device
    state = load(path, device=device)
    require(isinstance(state, FinetuneState), "run", "a fine-tuned run", path.name, "Make one: advcl-nb finetune.")
    known = bool("data" in read_note(path) or command.preset)
    require(known, "data", "the images to score on", f"{path.name} without a note of them", "Give --preset.")
    test = fetched(command.data, command.computing)[1][: command.count].to(device)
    attack, model, streams = command.attack, state.classifier.eval(), Streams(command.seed)
    scores = standard_scores(state, test, streams, attack, restarts=command.restarts)
    kept = add_scores(path, scores, command.data)  # at once: AutoAttack takes hours
    ball = {"epsilon": attack.epsilon, "norm": type(attack).__name__}
    if command.autoattack:
        file = autoattack_file(path, [to_plain(command.data), command.count, command.seed, ball])
        score = autoattack_accuracy(model, test.x, test.y, seed=command.seed, state_path=file, **ball)
        print(score, flush=True)
        kept += add_scores(path, [score], command.data)
    if command.report:
        report = robustness_report(model, test.x, test.y, generator=streams("eval"), **ball)
        print(report, flush=True)
        kept += add_scores(path, report.scores, command.data)
    return run_summary(path) | {"stopped": "finished", "scores": kept}


def autoattack_file(path: Path, evaluation: list) -> Path:
    """Where AutoAttack keeps how far it is: beside the run, one file for each evaluation."""
    name = hashlib.sha256(json.dumps(evaluation, sort_keys=True).encode()).hexdigest()[:10]
    return path.with_suffix(f".{name}.autoattack.json")


def standard_scores(
    state: FinetuneState, test: Images, streams: Streams, attack: Linf | L2, *, restarts: int = 1
) -> list[Score]:
    """Return SA and RA under the attack, and print them."""
    scores = [standard_accuracy(state.classifier, test.x, test.y)]
    options = {"generator": streams("eval"), "restarts": restarts}
    scores.append(robust_accuracy(state.classifier, test.x, test.y, attack, **options))
    print(*scores, sep="\n", flush=True)
    return scores


def card_of(command: Finetune, source: Path, scores: list[dict]) -> Card:
    """Make the card of a fine-tuned run; what differs in its images from the encoder's stands in the note."""
    config = from_plain(Config, read_head(source)["config"])
    settings, protocol = command.settings, command.settings.protocol
    moved = command.data.name if command.data.name != config.data.name else None
    mine, others = flat(command.data), flat(config.data)
    changed = [f"data {name}={mine[name]}" for name in mine if name != "name" and mine[name] != others[name]]
    return make_card(
        replace(config, finetune=dict(config.finetune) | {protocol: settings}),
        protocol,
        [Score(score["metric"], score["correct"], score["n"], score["attack"]) for score in scores],
        seconds=load_history(source)[-1]["seconds"],
        checkpoint=source if source.parent == project_folder() / "data" / "checkpoints" else None,
        transfer_to=moved,
        note=", ".join([command.note] * bool(command.note) + changed),
        device=command.computing.device,
    )


def is_finished(path: Path, keeping: Keeping) -> bool:
    """Whether a run is there and finished; raises where it is there, unfinished, and is not to go on."""
    if not path.is_file():
        return False
    stands = run_summary(path)
    todo = "Add --resume to go on, or move the file away to begin anew."
    goes_on = stands["finished"] or keeping.resume
    require(goes_on, "resume", "no unfinished run", f"{path}, epoch {stands['epoch']:.2f} of {stands['epochs']}", todo)
    return stands["finished"]


def rhythm(n: int, settings: PretrainConfig | FinetuneConfig, keeping: Keeping) -> tuple[int, int]:
    """Return the steps from row to row, and the steps in all, of training on n images."""
    per_epoch = sum(1 for _ in batches(n, settings.batch_size, generator=None))
    return keeping.every or math.ceil(per_epoch / 10), per_epoch * settings.epochs


def digest(command: Finetune, encoder: Encoder) -> str:
    """Hash what makes a fine-tuned run: what differs from the default settings, the images, and the encoder's weights.

    Only what differs, so that a setting added later does not rename the runs there are.
    """
    weights = hashlib.sha256(b"".join(w.cpu().numpy().tobytes() for w in encoder.state_dict().values())).hexdigest()
    parts = [(command.settings, FinetuneConfig()), (replace(command.data, test=None), DataConfig())]
    changes = [{k: to_plain(v) for k, v in flat(a).items() if v != flat(b)[k]} for a, b in parts]
    return hashlib.sha256(json.dumps([changes, weights], sort_keys=True).encode()).hexdigest()[:10]


def fetched(config: DataConfig, computing: Computing) -> tuple[Images, Images]:
    """Load the training and the test images, downloaded where that is allowed."""
    if computing.download:
        load_images(config.name, "train", download=True)
    return load_data(config)


def given_labels(text: str, config: Config) -> Tensor | None:
    """Return the pseudo-labels that the option names, or None for own ones."""
    if text == "own":
        return None
    todo = "Leave --pseudo-labels out."
    require(config.pretrain.uses_pseudo_labels, "pseudo_labels", "own, for this method takes none", text, todo)
    if text.endswith(".npy"):
        return torch.from_numpy(np.load(text, allow_pickle=False))
    return load_release_pseudo_labels(None if text == "release" else text, counts=config.model.cluster_counts)
