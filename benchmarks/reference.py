"""AdvCL's pretraining as the release schedules it: what `bench.py` times ours against, and the tests hold it against.

Written from the description of pretraining_advCL.py, fr_util.py and utils.py, not from the package; only the network
and the contrastive loss are shared. In each attack step, in this order: the contrastive image, the pseudo-label image,
the two clean views and the high-pass view are all encoded in train mode, one joint loss is formed, and both images
move along its gradient's sign. The update then encodes all five again: thirty forwards. Everything is float32 and
contiguous, and images come one by one from PIL through torchvision's transforms in a DataLoader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import advcl_nb as adv


@dataclass(frozen=True)
class Release:
    """The release's constants (its command line's defaults), and the two ablations of it."""

    epsilon: float = 8 / 255
    alpha: float = 2 / 255
    steps: int = 5
    temperature: float = 0.5
    base_temperature: float = 0.07
    ce_weight: float = 0.2
    radius: float = 8.0
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


class ReleaseImages(Dataset):
    """Per-image augmentation from PIL: two strong views and the weak one, each an independent draw."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        size = images.shape[-1]
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
        flip, last = transforms.RandomHorizontalFlip(), transforms.ToTensor()
        crop = transforms.RandomResizedCrop(size, scale=(0.2, 1.0))
        self.strong = transforms.Compose([crop, flip, jitter, transforms.RandomGrayscale(0.2), last])
        self.weak = transforms.Compose([transforms.RandomCrop(size, padding=4), flip, last])
        self.pixels, self.labels = images.permute(0, 2, 3, 1).numpy(), labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image = Image.fromarray(self.pixels[index])
        return self.strong(image), self.strong(image), self.weak(image), self.labels[index]


def high_pass(images: Tensor, radius: float) -> Tensor:
    """One batched transform, shifted over all axes, and a mask that a loop makes anew on every call, for each plane.

    The loop takes NumPy's root of each Python number, as fr_util.py does; the shift of planes is undone at the end.
    """
    rows, columns = images.shape[-2:]
    keep = torch.ones(rows, columns)
    for i in range(rows):
        for j in range(columns):
            if np.sqrt((i - rows / 2) ** 2 + (j - rows / 2) ** 2) < radius:
                keep[i, j] = 0
    planes = images.reshape(-1, rows, columns)
    shifted = torch.fft.fftshift(torch.fft.fft2(planes)) * keep.repeat(len(planes), 1, 1).to(images.device)
    return torch.fft.ifft2(torch.fft.ifftshift(shifted)).real.reshape(images.shape)


def encode_all(
    model: nn.Module, x_cl: Tensor, x_ce: Tensor, clean: Sequence[Tensor], labels: Tensor, constants: Release
):
    """Encode everything once; return the contrastive loss and each head's cross-entropies.

    The contrastive loss is the package's, which the tests hold against a loop: it costs nothing beside the encoder, and
    where roundings agree, adversarial images can be compared bit for bit.
    """
    z_cl = model(x_cl, "adv")
    logits = model.head_logits(x_ce, "adv_pseudo") if constants.ce_weight else []
    crosses = [F.cross_entropy(head, labels[:, k], reduction="none") for k, head in enumerate(logits)]
    embeddings = [z_cl] + [model(view, "clean") for view in clean]
    scale = constants.temperature / constants.base_temperature
    return scale * adv.multi_view_nt_xent(embeddings, constants.temperature), crosses


def release_step(
    model: nn.Module, base: Tensor, starts: tuple[Tensor, Tensor], clean: Sequence[Tensor], labels: Tensor, *,
    constants: Release, optimizer: torch.optim.Optimizer,
) -> ReleaseStep:  # fmt: skip
    """Attack and update `model` in place. `clean`: view1, view2, high-pass; `starts`: where x_cl and x_ce begin."""
    model.train()
    clean = clean if constants.high_view else clean[:2]
    x_cl, x_ce = (start.clone() for start in starts)
    for _ in range(constants.steps):
        x_cl.requires_grad_()
        x_ce.requires_grad_()
        contrast, crosses = encode_all(model, x_cl, x_ce, clean, labels, constants)
        summed = sum((cross.sum() for cross in crosses), contrast.new_zeros(()))  # the release sums in the attack
        joint = contrast + constants.ce_weight * (summed / max(len(crosses), 1))
        gradients = torch.autograd.grad(joint, [x_cl, x_ce], allow_unused=True)
        x_cl, x_ce = (move(x, g, base, constants) for x, g in zip((x_cl, x_ce), gradients, strict=True))
    contrast, crosses = encode_all(model, x_cl, x_ce, clean, labels, constants)
    pseudo = sum((cross.mean() for cross in crosses), contrast.new_zeros(())) / max(len(crosses), 1)
    pseudo = constants.ce_weight * pseudo
    optimizer.zero_grad()
    (contrast + pseudo).backward()
    optimizer.step()
    return ReleaseStep(x_cl, x_ce, contrast.detach(), pseudo.detach())


def move(x: Tensor, gradient: Tensor | None, base: Tensor, constants: Release) -> Tensor:
    """Ascend along the sign, then project into the ball around `base`, then clip to [0, 1]."""
    if gradient is None:
        return x.detach()
    moved = x.detach() + constants.alpha * gradient.sign()
    moved = torch.min(torch.max(moved, base - constants.epsilon), base + constants.epsilon)
    return moved.clamp(0, 1)


def make_optimizer(model: nn.Module, constants: Release) -> torch.optim.SGD:
    """SGD over everything, biases and batch norm too."""
    return torch.optim.SGD(
        model.parameters(), constants.learning_rate, constants.momentum, weight_decay=constants.weight_decay
    )


class Reference:
    """The reference's model, optimiser and loader; `step` is one update, with its images made by the loader."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, constants: Release, *, workers: int) -> None:
        self.model, self.device, self.workers = model, images.device, workers
        self.constants = constants
        self.optimizer = make_optimizer(model, self.constants)
        self.images = ReleaseImages(
            images.cpu().repeat(max(workers, 1), 1, 1, 1), labels.cpu().repeat(max(workers, 1), 1)
        )
        self.batches = self.endless(len(images))

    def endless(self, size: int) -> Iterator[list[Tensor]]:
        loader = DataLoader(
            self.images, size, shuffle=True, num_workers=self.workers, persistent_workers=self.workers > 0
        )
        while True:
            yield from loader

    def step(self) -> None:
        view1, view2, base, labels = (part.to(self.device, non_blocking=True) for part in next(self.batches))
        noise = [(2 * torch.rand_like(base) - 1) * self.constants.epsilon for _ in range(2)]
        clean = (view1, view2, high_pass(base, self.constants.radius))
        starts = (base + noise[0], base + noise[1])
        release_step(self.model, base, starts, clean, labels, constants=self.constants, optimizer=self.optimizer)
