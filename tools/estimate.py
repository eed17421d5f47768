"""How long the parts of `reproduce.py` should take on this machine, from two steps of each kind."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from plans import CHECKED, ON, POINTS, REPORTED, Job

import advcl_nb as adv
from advcl_nb.autoattack import COSTS, STANDARD

PGD20 = 60  # forwards an image: a gradient costs two more than the forward it starts from
FIRST, *OTHERS = (100 * COSTS[name] for name in STANDARD)  # of AutoAttack: the others meet what the first leaves right
GUESS = 0.6, 0.2  # SA and RA where no card says them
REPORT = 3500  # of the robustness report


class Clock:
    """Seconds of each part; a kind of step is timed once."""

    def __init__(self, train: adv.Images, device: str) -> None:
        self.train, self.device, self.known = train, device, {}

    def step(self, kind: object, step: Callable[[], object]) -> float:
        """Return the seconds of a step, the second of two."""
        for _ in range(0 if kind in self.known else 2):
            started = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.known[kind] = time.perf_counter() - started
        return self.known[kind]

    def pretraining(self, config: adv.Config) -> float:
        settings = config.pretrain
        batch = self.train[: settings.batch_size]
        state = adv.PretrainState.start(config, device=self.device)
        labels = torch.stack([batch.y % count for count in config.model.cluster_counts], 1)
        labels = labels if settings.uses_pseudo_labels else None
        kind = str((config.model, {**vars(settings), "seed": 0}))
        step = self.step(kind, lambda: adv.pretrain_step(state, batch.x, labels))
        return settings.epochs * (len(self.train) / settings.batch_size) * step

    def tuning(self, job: Job) -> float:
        settings = job.settings
        batch, state = self.train[: settings.batch_size], self.start(job)
        step = self.step(str({**vars(settings), "seed": 0}), lambda: adv.finetune_step(state, batch.x, batch.y))
        training = settings.epochs * job.tuning.share * (len(self.train) / settings.batch_size) * step
        if job.tuning.checked:  # with another encoder's, to transfer from
            return 2 * training + self.autoattack(job, CHECKED) + self.forwards(job, REPORT * REPORTED)
        images = (job.config.data.test or 10_000) + (POINTS * ON if job.tuning.whole else 0)
        return training + self.forwards(job, PGD20 * images)

    def autoattack(self, job: Job, images: int, card: adv.Card | None = None) -> float:
        clean, robust = (score.value for score in card.scored[:2]) if card else GUESS
        return self.forwards(job, (clean * FIRST + robust * sum(OTHERS)) * images)

    def forwards(self, job: Job, count: float) -> float:
        some = self.train[:250]  # scored folded and channels_last, as reproduce.py scores
        model = self.start(job).classifier.folded().to(memory_format=torch.channels_last)
        step = self.step(str(job.config.model), lambda: adv.standard_accuracy(model, some.x, some.y))
        return count * step / len(some)

    def start(self, job: Job) -> adv.FinetuneState:
        encoder = adv.PretrainState.start(job.config, device=self.device).encoder
        return adv.FinetuneState.start(job.settings, encoder, len(self.train.classes), device=self.device)
