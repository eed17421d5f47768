"""One AdvCL step as the release schedules it: thirty forwards, nothing reused. The oracle of `pretrain_step`.

Written from the description of pretraining_advCL.py and losses.py, not from the package: only the network is shared.
In each attack step, in this order: the contrastive image, the pseudo-label image, the two clean views and the
high-pass view are all encoded in train mode, one joint loss is formed, and both images move along its gradient's sign.
The update then encodes all five again. Plain loops over contiguous tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Release:
    """The release's constants (its command line's defaults), and the two ablations of it."""

    epsilon: float = 8 / 255
    alpha: float = 2 / 255
    steps: int = 5
    temperature: float = 0.5
    base_temperature: float = 0.07
    ce_weight: float = 0.2
    high_view: bool = True
    learning_rate: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 1e-4


class ReleaseStep(NamedTuple):
    """What a step leaves behind: the adversarial images and the parts of the loss that was trained."""

    x_cl: Tensor
    x_ce: Tensor
    contrast: Tensor
    pseudo: Tensor


def sup_con_loss(views: Sequence[Tensor], temperature: float, base_temperature: float = 0.07) -> Tensor:
    """The release's SupConLoss without labels, anchor by anchor: every vector against all the others."""
    count, rows = len(views[0]), torch.cat(list(views))
    total = rows.new_zeros(())
    for anchor in range(len(rows)):
        similarity = rows @ rows[anchor] / temperature
        others = [k for k in range(len(rows)) if k != anchor]
        denominator = similarity[others].exp().sum().log()
        positives = [k for k in others if k % count == anchor % count]
        for positive in positives:
            total = total - (similarity[positive] - denominator) / len(positives)
    return temperature / base_temperature * total / len(rows)


def cross_entropies(logits: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    """Each image's cross-entropy under each head: a vector for every column of `labels`."""
    images = torch.arange(len(labels))
    return [head.exp().sum(1).log() - head[images, labels[:, k]] for k, head in enumerate(logits)]


def encode_all(model, x_cl: Tensor, x_ce: Tensor, clean: Sequence[Tensor], labels: Tensor, constants: Release):
    """Encode everything once; return the contrastive loss and the heads' cross-entropies."""
    z_cl = model(x_cl, "adv")
    crosses = cross_entropies(model.head_logits(x_ce, "adv_pseudo"), labels) if constants.ce_weight else []
    embeddings = [z_cl] + [model(view, "clean") for view in clean]
    return sup_con_loss(embeddings, constants.temperature, constants.base_temperature), crosses


def release_step(
    model, base: Tensor, starts: tuple[Tensor, Tensor], clean: Sequence[Tensor], labels: Tensor, constants: Release
) -> ReleaseStep:
    """Attack and update `model` in place. `clean`: view1, view2, high-pass; `starts`: where x_cl and x_ce begin."""
    model.train()
    clean = clean if constants.high_view else clean[:2]
    x_cl, x_ce = (start.clone() for start in starts)
    for _ in range(constants.steps):
        x_cl.requires_grad_()
        x_ce.requires_grad_()
        contrast, crosses = encode_all(model, x_cl, x_ce, clean, labels, constants)
        summed = sum((cross.sum() for cross in crosses), contrast.new_zeros(()))  # the release sums in the attack
        joint = contrast + constants.ce_weight * summed / max(len(crosses), 1)
        gradients = torch.autograd.grad(joint, [x_cl, x_ce], allow_unused=True)
        x_cl, x_ce = (move(x, g, base, constants) for x, g in zip((x_cl, x_ce), gradients, strict=True))
    contrast, crosses = encode_all(model, x_cl, x_ce, clean, labels, constants)
    pseudo = constants.ce_weight * sum((cross.mean() for cross in crosses), contrast.new_zeros(()))
    pseudo = pseudo / max(len(crosses), 1)
    for parameter in model.parameters():
        parameter.grad = None
    (contrast + pseudo).backward()
    first_sgd_step(model, constants)
    return ReleaseStep(x_cl, x_ce, contrast.detach(), pseudo.detach())


def move(x: Tensor, gradient: Tensor | None, base: Tensor, constants: Release) -> Tensor:
    """Ascend along the sign, then project into the ball around `base`, then clip to [0, 1]."""
    if gradient is None:
        return x.detach()
    moved = x.detach() + constants.alpha * gradient.sign()
    moved = torch.min(torch.max(moved, base - constants.epsilon), base + constants.epsilon)
    return moved.clamp(0, 1)


@torch.no_grad()
def first_sgd_step(model, constants: Release) -> None:
    """SGD's first step, when the momentum buffer is the gradient itself; weight decay is on everything."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter -= constants.learning_rate * (parameter.grad + constants.weight_decay * parameter)


def logged_constant(views: int, batch: int, cluster_counts: Sequence[int], constants: Release) -> tuple[float, float]:
    """The contrastive and the pseudo-label part where all embeddings and all logits are equal."""
    scale = constants.temperature / constants.base_temperature
    entropy = sum(map(math.log, cluster_counts)) / len(cluster_counts)
    return scale * math.log(views * batch - 1), constants.ce_weight * entropy
