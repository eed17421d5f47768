"""What each process of `fabric run` executes for test_ranks.py: one step, or steps until somebody is killed.

ranks_script.py METHOD FILE      writes loss, loss parts and gradients of one step to FILE
ranks_script.py METHOD --kill    the last process kills itself in its third step
ranks_script.py METHOD --differ  the last process has other weights
"""

import os
import signal
import sys

import torch
from lightning_fabric import Fabric
from torch import nn

import advcl_nb as adv
from advcl_nb import pretrain


def start(method: str) -> tuple[adv.PretrainState, torch.Tensor, torch.Tensor]:
    """A state in double precision whose batch norm keeps to its running statistics, images and pseudo-labels."""
    model = adv.ModelConfig(width=8, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
    attack = adv.Linf(8 / 255, 2 / 255, 2, start="none" if method == "acl" else "uniform")
    config = adv.Config(
        model=model, pretrain=adv.PretrainConfig(method, batch_size=16, attack=attack, learning_rate=0.1)
    )
    state = adv.PretrainState.start(config)
    state.model.double()
    for module in state.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, norm=module: norm
    images = adv.shapes(16, size=16).x
    return state, images, torch.stack([torch.arange(16) % 2, torch.arange(16) % 5], 1)


def one_step(state: adv.PretrainState, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Make a step in double precision; return its parts, the gradients that it used, and the weights after it."""
    labels = labels if state.settings.uses_pseudo_labels else None
    parts = adv.pretrain_step(state, images, labels)
    gradients = {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    return parts | gradients | {f"after {name}": p.detach() for name, p in state.model.named_parameters()}


def to_double(images: torch.Tensor) -> torch.Tensor:
    """Takes the place of `to_float`."""
    return images.double() / 255


if __name__ == "__main__":
    pretrain.to_float = to_double
    method, target = sys.argv[1:]
    fabric = Fabric()  # launched by the command
    state, images, labels = start(method)
    if target == "--differ" and fabric.global_rank == fabric.world_size - 1:
        next(state.model.parameters()).data += 1
    state.join(fabric)
    if target == "--kill":
        for step in range(1000):
            if step == 2 and fabric.global_rank == fabric.world_size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            one_step(state, images, labels)
    found = one_step(state, images, labels)
    if fabric.is_global_zero:
        torch.save(found, target)
