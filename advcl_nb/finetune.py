"""Fine-tuning a pretrained encoder: every protocol with one state and one loop.

SLF and ALF train the linear layer, AFF, CE, SupCon, Core and AdvCore the whole model. Each loss is a short function
that returns its named parts and the logits; `finetune_step` is the rest of an update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advcl_nb._check import require, require_device, require_for_each, require_is
from advcl_nb._loop import Row, make_optimizer, require_batch, run, undone_if_broken_off
from advcl_nb.attacks import pgd
from advcl_nb.config import FinetuneConfig
from advcl_nb.data import Images, to_float
from advcl_nb.losses import focal_contrastive, kl_divergence, supervised_contrastive, trades_loss
from advcl_nb.mixing import draw_mixing, mix_hard_pairs
from advcl_nb.models import Classifier, Encoder, contrast_projector, evaluating
from advcl_nb.rng import Streams
from advcl_nb.views import flip, padded_crop

Parts = dict[str, Tensor]  # the loss's named parts; their sum is trained


@dataclass
class FinetuneState:
    """Everything that changes while fine-tuning. The model kept is the last epoch's, never chosen on the test set.

    projector: of the contrastive losses, else None; not used in testing. saved_to: the last file saved to or loaded.
    """

    config: FinetuneConfig
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    projector: nn.Module | None = None
    step: int = 0
    history: list[Row] = field(default_factory=list)
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    saved_to: Path | None = None

    @classmethod
    def start(
        cls, config: FinetuneConfig, encoder: Encoder, classes: int, *, device: str | torch.device = "cpu"
    ) -> FinetuneState:
        """Begin with a float32 copy of `encoder` (yours never changes) and a fresh linear layer of `classes` logits.

        The branch is the config's, else the encoder's own: "adv" for ACL and AdvCL, "clean" for SimCLR and RoCL.
        """
        require(isinstance(config, FinetuneConfig), "config", "one protocol's, as config.finetune['SLF']", type(config))
        require_is(encoder, "encoder", Encoder, "Of a state or a classifier write state.encoder.")
        require_device(device)
        generator = Streams(config.seed)("init")
        classifier = Classifier(encoder.copy(), classes, generator=generator, branch=config.branch).to(device)
        classifier.encoder.requires_grad_(config.trains_encoder)
        projector = None
        if config.contrasts:
            projector = contrast_projector(encoder.config.features, config.contrast_dim, generator=generator).to(device)
        parts = [classifier if config.trains_encoder else classifier.linear, *([projector] if projector else [])]
        trained = [parameter for part in parts for parameter in part.parameters()]
        return cls(config, classifier, make_optimizer(config, trained), projector)


def finetune_step(state: FinetuneState, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Make one update from uint8 images ``(n, c, h, w)`` and class labels ``(n,)``.

    Returns loss, its parts where it has several, and the accuracy on the trained batch: on clean images for SLF, CE,
    SupCon and Core, on adversarial ones otherwise.
    """
    _check(state, images, labels)
    fresh = state.step == 0 and len(images) > 1 and bool((state.classifier.scale == 1).all())
    if state.config.standardize and fresh:
        _measure_features(state, images)  # a step without `finetune_epochs`, which measures all images
    x = _augment(state, to_float(images))
    with undone_if_broken_off(state.classifier, state.optimizer):
        parts, logits = LOSSES[state.config.protocol](state, x, labels)
        loss = torch.stack(list(parts.values())).sum()
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
    state.step += 1
    named = {"loss": loss} | (parts if len(parts) > 1 else {})
    accuracy = (logits.argmax(1) == labels).float().mean()
    return {name: part.detach() for name, part in named.items()} | {"accuracy": accuracy}


def finetune_epochs(state: FinetuneState, images: Images, *, every: int | None = None) -> Iterator[Row]:
    """Train to the config's last epoch, and yield a row each `every` steps (once per epoch by default).

    A row has epoch, step, loss, accuracy on the trained batches, learning rate, images per second, seconds spent and
    left. A new call goes on from ``state.step``.
    """
    require_is(images, "images", Images, "Write adv.Images(x, y, classes).")
    _check(state, images.x, images.y)
    if state.config.standardize and state.step == 0:
        _measure_features(state, images.x)
    step = lambda chosen: finetune_step(state, images.x[chosen], images.y[chosen])  # noqa: E731
    yield from run(state, state.config, len(images), step, every)


def clean_loss(state: FinetuneState, x: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """SLF and CE: cross-entropy on clean images."""
    state.classifier.train(state.config.trains_encoder)  # frozen means frozen: batch norm too
    logits = state.classifier(x)
    return {"ce": F.cross_entropy(logits, labels)}, logits


def adversarial_loss(state: FinetuneState, x: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """ALF and AFF: cross-entropy on adversarial images, or TRADES."""
    adversarial = adversarial_images(state, x, labels)
    state.classifier.train(state.config.trains_encoder)
    logits = state.classifier(adversarial)
    if state.config.loss == "trades":
        return {"trades": trades_loss(state.classifier(x), logits, labels, state.config.beta)}, logits
    return {"ce": F.cross_entropy(logits, labels)}, logits


def supcon_loss(state: FinetuneState, x: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """SupCon: cross-entropy plus eta times the supervised contrastive loss of the projected features."""
    model, config = state.classifier.train(), state.config
    features = model.encoder(x, model.branch)
    logits = model.classify(features)
    parts = {"ce": F.cross_entropy(logits, labels)}
    if config.contrasts:
        embeddings = embed(state, features)
        parts["contrast"] = config.eta * supervised_contrastive(embeddings, labels, config.temperature)
    return parts, logits


def core_loss(state: FinetuneState, x: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """Core-tuning on clean images (Zhang et al. 2021; Core-tuning.py)."""
    model = state.classifier.train()
    return core_tuning(state, model.encoder(x, model.branch), labels)


def adversarial_core_loss(state: FinetuneState, x: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """AdvCore: Core-tuning on the features of clean images and of their adversarial twins, mixed as one pool.

    The attack is PGD on the cross-entropy of the model that will be used, without mixing and projector, in eval mode.
    Clean images pass the branch "clean", adversarial ones the classifier's own. The paper's adversarial training is
    not released: this form is ours.
    """
    adversarial = adversarial_images(state, x, labels)
    model, config = state.classifier.train(), state.config
    attacked = model.encoder(adversarial, model.branch)
    if config.pool == "adv":
        return core_tuning(state, attacked, labels)
    clean = model.encoder(x, "clean")
    if config.pool == "both":
        parts, logits = core_tuning(state, torch.cat([clean, attacked]), labels.repeat(2))
        return parts, logits[len(x) :]
    parts, _ = core_tuning(state, clean, labels)
    logits = model.classify(attacked)
    return parts | {"divergence": config.beta * kl_divergence(model.classify(clean), logits)}, logits


def core_tuning(state: FinetuneState, features: Tensor, labels: Tensor) -> tuple[Parts, Tensor]:
    """Cross-entropy on originals and mixed rows, plus eta times their focal contrastive loss; logits of the originals.

    `features` ``(n, d)`` are the encoder's, with their gradient. The total is reference eq. 1.6, variant by variant.
    """
    config, n = state.config, len(features)
    rows, targets, groups = mixed_rows(state, features, labels)
    logits = state.classifier.classify(rows)
    trained = len(rows) if config.smooth_classifier else n
    parts = {"ce": F.cross_entropy(logits[:trained], targets[:trained])}
    if config.contrasts:
        normalize = "release" if config.core_variant == "release" else "positives"
        focal = {"normalize": normalize, "gamma": float(config.focal)}
        contrast = focal_contrastive(embed(state, rows), groups, config.temperature, **focal)
        parts["contrast"] = config.eta * contrast
    return parts, logits[:n]


def mixed_rows(state: FinetuneState, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that Core-tuning trains on, their soft labels, and what tells who is whose positive.

    In our reading of the paper that is a group number, in the release the soft label itself; and there the originals
    carry no gradient into the encoder. Without mixing the rows are the originals.
    """
    config, n, classes = state.config, len(features), state.classifier.linear.out_features
    if not config.mixing:
        return features, F.one_hot(labels, classes).to(features), labels
    draw = draw_mixing(n, config.mixup_alpha, generator=Streams(config.seed)("mixing", state.step))
    rule = config.core_variant if config.hard_pairs else "random"
    mixed = mix_hard_pairs(features, labels, draw, rule=rule, classes=classes)
    if config.core_variant == "release":
        return torch.cat([features.detach(), mixed.features[n:]]), mixed.labels, mixed.labels
    return mixed.features, mixed.labels, mixed.groups


def embed(state: FinetuneState, features: Tensor) -> Tensor:
    """Return the unit vectors that the contrastive losses compare."""
    return F.normalize(state.projector(features), dim=1)


LOSSES: dict[str, Callable] = {
    "SLF": clean_loss, "CE": clean_loss, "ALF": adversarial_loss, "AFF": adversarial_loss,
    "SupCon": supcon_loss, "Core": core_loss, "AdvCore": adversarial_core_loss,
}  # fmt: skip


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


def _check(state: FinetuneState, images: Tensor, labels: Tensor) -> None:
    require_is(state, "state", FinetuneState, "Begin with adv.FinetuneState.start(config, encoder, classes).")
    classes, channels = state.classifier.linear.out_features, state.classifier.encoder.config.channels
    require_batch(images, channels)
    require_for_each(labels, "labels", images, "whole numbers")
    todo = "Start the state with len(images.classes); unlabelled images serve pretraining only."
    inside = bool(((labels >= 0) & (labels < classes)).all())
    require(inside, "labels", f"class numbers from 0 to {classes - 1}", labels, todo)


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
