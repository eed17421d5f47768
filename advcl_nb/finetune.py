"""Fine-tuning a pretrained encoder: SLF, ALF and AFF with one state and one loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from advcl_nb._check import require
from advcl_nb._loop import Row, make_optimizer, run
from advcl_nb.attacks import pgd
from advcl_nb.config import FinetuneConfig
from advcl_nb.data import Images, to_float
from advcl_nb.losses import kl_divergence, trades_loss
from advcl_nb.models import Classifier, Encoder, evaluating
from advcl_nb.rng import Streams
from advcl_nb.views import flip, padded_crop


@dataclass
class FinetuneState:
    """Everything that changes while fine-tuning. The model kept is the last epoch's, never chosen on the test set."""

    config: FinetuneConfig
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[Row] = field(default_factory=list)
    sums: dict[str, Tensor | float] = field(default_factory=dict)

    @classmethod
    def start(
        cls, config: FinetuneConfig, encoder: Encoder, classes: int, *, device: str | torch.device = "cpu"
    ) -> FinetuneState:
        """Begin with a float32 copy of `encoder` (yours never changes) and a fresh linear layer of `classes` logits.

        The branch is the config's, else the encoder's own: "adv" for ACL and AdvCL, "clean" for SimCLR.
        """
        generator = Streams(config.seed)("init")
        classifier = Classifier(encoder.copy(), classes, generator=generator, branch=config.branch).to(device)
        trained = classifier if config.protocol == "AFF" else classifier.linear
        classifier.encoder.requires_grad_(config.protocol == "AFF")
        return cls(config, classifier, make_optimizer(config, trained.parameters()))


def finetune_step(state: FinetuneState, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Make one update from uint8 images ``(n, c, h, w)`` and class labels ``(n,)``; return loss and accuracy.

    The accuracy is of the trained batch, on the images that the loss saw (clean for SLF, adversarial otherwise).
    """
    x = _augment(state, to_float(images))
    adversarial = x if state.config.protocol == "SLF" else adversarial_images(state, x, labels)
    state.classifier.train(state.config.protocol == "AFF")  # frozen means frozen: batch norm too
    logits = state.classifier(adversarial)
    if state.config.loss == "trades":
        loss = trades_loss(state.classifier(x), logits, labels, state.config.beta)
    else:
        loss = F.cross_entropy(logits, labels)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.step += 1
    return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == labels).float().mean()}


def finetune_epochs(state: FinetuneState, images: Images, *, every: int | None = None) -> Iterator[Row]:
    """Train to the config's last epoch, and yield a row each `every` steps (once per epoch by default).

    A row has epoch, step, loss, accuracy on the trained batches, learning rate, images per second, seconds spent and
    left. A new call goes on from ``state.step``.
    """
    classes = state.classifier.linear.out_features
    todo = "Start the state with len(images.classes)."
    require(int(images.y.min()) >= 0, "images", "labelled images", images.y, "Others serve pretraining only.")
    require(int(images.y.max()) < classes, "images", f"labels below {classes}", images.y, todo)
    if state.config.standardize and state.step == 0:
        _measure_features(state, images.x)
    step = lambda chosen: finetune_step(state, images.x[chosen], images.y[chosen])  # noqa: E731
    yield from run(state, state.config, len(images), step, every)


def adversarial_images(state: FinetuneState, x: Tensor, labels: Tensor) -> Tensor:
    """Attack the classifier in eval mode: its cross-entropy, or for TRADES the divergence from its clean prediction."""
    model = state.classifier
    with evaluating(model):
        if state.config.loss == "trades":
            with torch.no_grad():
                clean = model(x)
            loss = lambda x: kl_divergence(clean, model(x))  # noqa: E731
        else:
            loss = lambda x: F.cross_entropy(model(x), labels)  # noqa: E731
        generator = Streams(state.config.seed)("attack", state.step)
        return pgd(loss, x, state.config.attack, generator=generator)


def _measure_features(state: FinetuneState, images: Tensor) -> None:
    """Set the classifier's shift and scale to the mean and standard deviation of the training images' features."""
    model = state.classifier
    with evaluating(model), torch.no_grad():
        features = torch.cat([model.encoder(to_float(x), model.branch) for x in images.split(500)])
    model.shift.copy_(features.mean(0))
    model.scale.copy_(features.std(0).clamp(min=1e-6))


def _augment(state: FinetuneState, x: Tensor) -> Tensor:
    """Random crop with padding, and flip: the release's augmentation in fine-tuning."""
    padding = state.config.padding
    if padding is None:
        return x
    generator = Streams(state.config.seed)("views", state.step)
    offsets = torch.randint(2 * padding + 1, (len(x), 2), generator=generator).to(x.device)
    flips = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
    return flip(padded_crop(x, offsets, padding), flips)
