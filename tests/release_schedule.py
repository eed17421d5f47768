"""Oracles of pretraining, written as loops from the formulas of the release: no matrices, no optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from reference import Release
from torch import Tensor


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


class FirstStep:
    """SGD's first step, when the momentum buffer is the gradient itself; weight decay is on everything."""

    def __init__(self, parameters, constants: Release) -> None:
        self.parameters, self.constants = list(parameters), constants

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                change = parameter.grad + self.constants.weight_decay * parameter
                parameter -= self.constants.learning_rate * change


def logged_constant(views: int, batch: int, cluster_counts: Sequence[int], constants: Release) -> tuple[float, float]:
    """The contrastive and the pseudo-label part where all embeddings and all logits are equal."""
    scale = constants.temperature / constants.base_temperature
    entropy = sum(map(math.log, cluster_counts)) / len(cluster_counts)
    return scale * math.log(views * batch - 1), constants.ce_weight * entropy
