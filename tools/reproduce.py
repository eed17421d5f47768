"""Make what is missing of a preset's cards, encoders, heads and training histories (tools/plans.py lists them).

    python tools/reproduce.py teach|cifar|budget [--plan] [--again]
        [--only NAME ...] [--protocols NAME ...] [--seeds 0 ...] [--data NAME ...]

Prints first what is to do and how long it should take here, from a few steps of each kind. Goes on where it was broken
off: finished encoders are opened, finished cards left alone, and a training or an AutoAttack continues from its file in
runs/. With --again, cards are made again from what runs/ and data/checkpoints have; to make something from nothing,
delete it there. AutoAttack, which takes longest, comes last.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from estimate import PGD20 as FORWARDS
from estimate import Clock
from plans import CHECKED, IMAGENET, ON, POINTS, REPORTED, Job, jobs_of
from tqdm.auto import tqdm

import advcl_nb as adv
from advcl_nb.cards import named_file, score_fields
from advcl_nb.config import PROTOCOLS

PGD20 = adv.Linf(8 / 255, 2 / 255, 20)
ATTACKED = 1000  # test images for AutoAttack
RUNS, CHECKPOINTS = Path("runs"), Path("data/checkpoints")


class Trained(NamedTuple):
    """An encoder as committed (half precision), its file, and the seconds that its training took."""

    encoder: adv.Encoder
    path: Path
    seconds: float


class Maker:
    """Makes jobs of a preset on a device."""

    def __init__(self, preset: str, device: str) -> None:
        self.preset, self.config, self.device = preset, adv.preset(preset), device
        self.images, self.labels = cache(self.images), cache(self.labels)

    def images(self, data: adv.DataConfig) -> adv.Images:
        """The training images of a set."""
        return adv.load_data(data)[0].to(self.device)

    def labels(self, kind: str, counts: tuple[int, ...]) -> torch.Tensor | None:
        """Pseudo-labels of a kind of `plans.Run`; None where the library makes them itself."""
        if kind == "release":
            return adv.load_release_pseudo_labels(counts=counts)
        if kind == "own":
            return None
        simclr = next(job for job in jobs_of(self.preset) if job.config.pretrain == self.simclr)
        features = adv.extract_features(self.encoder(simclr).encoder, self.images(simclr.config.data).x)
        return adv.pseudo_labels(features, counts, seed=adv.Streams(self.simclr.seed).number("clusters"))

    @property
    def simclr(self) -> adv.PretrainConfig:
        """The preset's SimCLR."""
        return replace(self.config.pretrain, method="simclr")

    def path(self, job: Job) -> Path:
        """Where the job's encoder is, or will be."""
        images = self.images(job.config.data)
        if not job.run.kept:
            return RUNS / f"{adv.run_name(job.config, images)}-{job.run.labels}.pt"
        labels = self.labels(job.run.labels, job.config.model.cluster_counts)
        return CHECKPOINTS / f"{adv.run_name(job.config, images, labels)}.pt"

    def card(self, job: Job) -> adv.Card | None:
        """The card of this job, if it is there, and the encoder with it where that is kept."""
        if job.run.kept and not self.path(job).is_file():
            return None
        encoder = named_file(self.path(job)) if job.run.kept else None
        for card in adv.read_cards():
            same = (card.title, card.protocol, card.transfer_to, card.checkpoint) == (*job.identity, encoder)
            same = same and (len(card.curve) > 0 or not job.tuning.whole)
            if same and settings_of(card.settings, job) == settings_of(job.config, job):
                return card
        return None

    def trainings(self, job: Job) -> dict[str, tuple[str, adv.Config]]:
        """What `encoder` has to train, each by the name of its run: first SimCLR, if it makes the pseudo-labels."""
        source = replace(job.config, pretrain=replace(job.config.pretrain, method="simclr"))
        name = adv.run_name(source, self.images(job.config.data))
        own = job.config.pretrain.uses_pseudo_labels and job.run.labels == "own"
        first = {"SimCLR for its pseudo-labels": (name, source)} if own and not adv.find_run(name) else {}
        return first | {"pretrain": (self.path(job).stem.removesuffix("-own"), job.config)}

    def encoder(self, job: Job) -> Trained:
        """Open or train the job's encoder."""
        path = self.path(job)
        if not path.is_file():
            images = self.images(job.config.data)
            labels = self.labels(job.run.labels, job.config.model.cluster_counts)
            adv.open_or_train(job.config, images, labels, device=self.device)
            trained = adv.find_run(adv.run_name(job.config, images, labels))
            adv.save_encoder(adv.load_encoder(trained), path, config=job.config, history=adv.load_history(trained))
        return Trained(adv.load_encoder(path, device=self.device), path, adv.load_history(path)[-1]["seconds"])

    def tuned(self, job: Job) -> Path:
        """Where the fine-tuning of the job's encoder is kept; that of another encoder under its name is another."""
        return RUNS / f"{self.path(job).stem}-{job.key}-{named_file(self.path(job))['sha256'][:10]}.pt"

    def tune(self, job: Job) -> tuple[adv.FinetuneState, adv.Images]:
        """Fine-tune a copy of the encoder, from where it was broken off; a whole job is scored as it goes."""
        trained, file = self.encoder(job), self.tuned(job)
        train, test = (images.to(self.device) for images in adv.load_data(job.data))
        train = train.subset(round(job.tuning.share * len(train)), seed=0) if job.tuning.share < 1 else train
        some = test[:ON] if job.data.test else test.subset(min(ON, len(test)), seed=job.data.seed)  # the same images
        state = adv.load(file, device=self.device) if file.is_file() else None
        if state is None or job.tuning.whole and "SA" not in state.history[-1]:  # it was not scored as it went
            state = adv.FinetuneState.start(job.settings, trained.encoder, len(train.classes), device=self.device)
        state.classifier.to(memory_format=torch.channels_last)  # the same but for last digits, and faster on a CPU
        steps = job.settings.epochs * math.ceil(len(train) / job.settings.batch_size)
        rows = adv.finetune_epochs(state, train, every=math.ceil(steps / POINTS) if job.tuning.whole else None)
        for row in tqdm(rows, desc=f"{job.note}, {job.tuning.protocol}", unit="row"):
            if job.tuning.whole:  # the row is the history's own, so the file keeps the scores
                row["SA"], row["RA"] = (score.value for score in standard_scores(job, state.classifier, some))
            adv.save(state, file)
        return state, test

    def make(self, job: Job) -> None:
        """Fine-tune, score, and write the card, without AutoAttack but for a check."""
        trained = self.encoder(job)
        state, test = self.tune(job)
        head, found = self.keep(job, trained, state), ""
        if job.tuning.checked:
            scores, found = self.check(job, state.classifier, test)
        else:
            scores = standard_scores(job, state.classifier, test)
        print(job.note, job.tuning.protocol, *scores, sep="\n", flush=True)
        if not job.run.kept:
            found += f": {command(self.preset, job)}"
        told = {"seconds": trained.seconds, "checkpoint": trained.path if job.run.kept else None, "head": head}
        told |= {"note": job.note + found, "transfer_to": job.tuning.transfer_to, "device": self.device}
        card = adv.make_card(job.config, job.tuning.protocol, scores, curve=curve_of(state, len(test)), **told)
        old = self.card(job)
        if old and head and (old.head, old.checkpoint) == (card.head, card.checkpoint):
            card = replace(card, scores=[*card.scores, *old.scores[2:]])  # the same: AutoAttack's hours are not lost
        adv.write_card(card)

    def keep(self, job: Job, trained: Trained, state: adv.FinetuneState) -> Path | None:
        """Write the head, and the encoder too where it was changed and the job says so; both are scored as written."""
        changed = job.settings.trains_encoder
        if not (job.tuning.whole and job.run.kept) or changed and not job.tuning.keep:
            return None
        parts = trained.path.stem, job.tuning.protocol, job.tuning.transfer_to
        stem, encoder = "-".join(part for part in parts if part), trained.path
        if changed:
            encoder, model = CHECKPOINTS / f"{stem}-encoder.pt", state.classifier.encoder
            adv.save_encoder(model, encoder, config=job.config, history=state.history)
            model.load_state_dict(adv.load_encoder(encoder).state_dict())
        return adv.save_head(state.classifier, CHECKPOINTS / f"{stem}-head.pt", encoder=encoder)

    def check(self, job: Job, classifier: adv.Classifier, test: adv.Images) -> tuple[list[adv.Score], str]:
        """Return AutoAttack's and the robustness report's scores, and what they found."""
        other = "advcl" if job.config.pretrain.method == "simclr" else "simclr"
        source = replace(job.config, pretrain=replace(job.config.pretrain, method=other))
        encoder = adv.open_or_train(source, self.images(job.config.data), device=self.device)
        start = adv.FinetuneState.start(job.settings, encoder, len(test.classes), device=self.device)
        for _ in adv.finetune_epochs(start, self.images(job.config.data)):
            pass
        attacked = self.autoattack(job, classifier.folded(), test[:CHECKED])
        some, generator = test[:REPORTED], adv.Streams(job.settings.seed)("eval")
        report = adv.robustness_report(
            classifier, some.x, some.y, epsilon=PGD20.epsilon, generator=generator, transfer_from=start.classifier
        )
        print(report, flush=True)
        return [attacked, *report.scores], ": " + ("; ".join([*report.signs, *attacked.flags]) or "none")

    def attack(self, job: Job) -> None:
        """Add AutoAttack's score to a whole job's card, and that of PGD-20 on the same images."""
        card, test = self.card(job), adv.load_data(job.data)[1].to(self.device)
        if card.head:
            model = adv.load_classifier(card, device=self.device)
        else:
            lost, (state, _) = not is_tuned(self, job), self.tune(job)
            model = state.classifier
            if lost:  # and made again: its scores may differ by an image or two
                scores = [score_fields(score) for score in standard_scores(job, model, test)]
                card = replace(card, scores=scores, curve=curve_of(state, len(test)))
        lacking, some = lacks(card, job), test[:ATTACKED]
        added = standard_scores(job, model, some)[1:] if "RA" in lacking else []
        added += [self.autoattack(job, model.folded(), some)] if "AA" in lacking else []
        adv.write_card(replace(card, scores=[*card.scores, *map(score_fields, added)]))

    def autoattack(self, job: Job, model: adv.Classifier, images: adv.Images) -> adv.AutoAttackScore:
        RUNS.mkdir(exist_ok=True)
        model = model.to(memory_format=torch.channels_last)
        weights = hashlib.sha256(b"".join(w.cpu().numpy().tobytes() for w in model.state_dict().values())).hexdigest()
        file = RUNS / f"{self.path(job).stem}-{job.key}-{len(images)}-{weights[:10]}.autoattack.json"
        score = adv.autoattack_accuracy(model, images.x, images.y, epsilon=PGD20.epsilon, seed=0, state_path=file)
        print(job.note, job.tuning.protocol, score, flush=True)
        return score


def settings_of(config: adv.Config, job: Job) -> tuple:
    """What of a config decides the job's result."""
    return config.data, config.model, config.pretrain, config.finetune[job.tuning.protocol]


def with_labels(jobs: list[Job]) -> list[Job]:
    """Leave out, and say so, what the authors' pseudo-labels are needed for where they are not here."""
    if any(job.run.labels == "release" for job in jobs):
        try:
            adv.load_release_pseudo_labels()
        except FileNotFoundError as error:
            print(f"left out: {IMAGENET}; {error}", flush=True)
            return [job for job in jobs if job.run.labels != "release"]
    return jobs


def command(preset: str, job: Job) -> str:
    """How to make a job's encoder and card again."""
    told = f"python tools/reproduce.py {preset} --only {shlex.quote(job.run.name)} --protocols {job.tuning.protocol}"
    return f"{told} --seeds {job.config.pretrain.seed} --data {job.config.data.name} --again"


def standard_scores(job: Job, model: adv.Classifier, images: adv.Images) -> list[adv.Score]:
    """SA, and RA under PGD-20 at 8/255."""
    generator, model = adv.Streams(job.settings.seed)("eval"), model.folded().to(memory_format=torch.channels_last)
    standard = adv.standard_accuracy(model, images.x, images.y)
    return [standard, adv.robust_accuracy(model, images.x, images.y, PGD20, generator=generator)]


def curve_of(state: adv.FinetuneState, images: int) -> list[dict]:
    """The scores that `tune` has put into the history, of so many test images, as a card holds them."""
    names = ("epoch", "seconds", "SA", "RA")
    return [{name: row[name] for name in names} | {"n": min(ON, images)} for row in state.history if "SA" in row]


def lacks(card: adv.Card | None, job: Job) -> list[str]:
    """What a whole job's card lacks of AutoAttack, and of PGD-20 on the same images."""
    count = min(ATTACKED, job.data.test or ATTACKED)
    known = {(score.metric, score.n) for score in card.scored} if card else set()
    return [metric for metric in ("RA", "AA") if job.tuning.whole and (metric, count) not in known]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=("smoke", "teach", "cifar", "budget"))
    parser.add_argument("--plan", action="store_true", help="print the plan and its time, and stop")
    parser.add_argument("--only", nargs="*", help="names of runs, as the cards' notes have them")
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, help="protocols to score; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, help="seeds of pretraining; all by default")
    parser.add_argument("--data", nargs="*", help="sets of pretraining; all by default")
    parser.add_argument("--again", action="store_true", help="make also what has a card")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    maker = Maker(options.preset, options.device)
    jobs = [
        job
        for job in jobs_of(options.preset)
        if job.run.name in (options.only or [job.run.name])
        and job.tuning.protocol in (options.protocols or [job.tuning.protocol])
        and job.config.pretrain.seed in (options.seeds or [job.config.pretrain.seed])
        and job.config.data.name in (options.data or [job.config.data.name])
    ]
    names = dict.fromkeys(job.run.name for job in jobs_of(options.preset))
    if not jobs or not set(options.only or []) <= set(names):
        parser.error(f"expected a run of {', '.join(names)}, and a protocol, seed and data that it has")
    if Path.cwd() != adv.data.project_folder():
        parser.error(f"expected to be started in {adv.data.project_folder()}, got {Path.cwd()}")
    jobs = with_labels(jobs)
    print_plan(maker, jobs, again=options.again)
    if options.plan:
        return
    for job in jobs:
        if options.again or maker.card(job) is None:
            maker.make(job)
    for job in jobs:
        if lacks(maker.card(job), job):
            maker.attack(job)


def print_plan(maker: Maker, jobs: list[Job], *, again: bool = False) -> None:
    """Print what is to do, and the hours that it should take on this machine."""
    clock, total, planned = Clock(maker.images(maker.config.data), maker.device), 0.0, set()
    for job in jobs:
        card, parts = None if again else maker.card(job), {}
        lacking = lacks(card, job)
        if card is None or lacking and not (card.head or is_tuned(maker, job)):
            for part, (run, config) in ({} if maker.path(job).is_file() else maker.trainings(job)).items():
                parts |= {} if run in planned else {part: clock.pretraining(config)}
                planned.add(run)
            parts["fine-tune and score"] = clock.tuning(job)
        if "AA" in lacking:
            parts["AutoAttack"] = clock.autoattack(job, ATTACKED, card)
        elif lacking:
            parts["PGD-20 on AutoAttack's images"] = clock.forwards(job, FORWARDS * ATTACKED)
        total += sum(parts.values())
        if parts:
            told = ", ".join(f"{part} {seconds / 60:.0f} min" for part, seconds in parts.items())
            print(f"{job}: {told}", flush=True)
    print(f"{len(jobs)} cards; about {total / 3600:.1f} hours to do, on {adv.cards.hardware(maker.device)}", flush=True)


def is_tuned(maker: Maker, job: Job) -> bool:
    """Whether the job's fine-tuning is still in runs/."""
    return maker.path(job).is_file() and maker.tuned(job).is_file()


if __name__ == "__main__":
    main()
