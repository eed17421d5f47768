"""Classifiers with something done to their answers: what an evaluation has to see through."""

import torch
from torch import nn


class Changed(nn.Module):
    """The model with something done to its logits."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


class Dynamic(nn.Module):
    """The model with a gradient of its own inside its forward."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.model(z).sum(), z)
        return self.model(x) + 0 * slope.sum()
