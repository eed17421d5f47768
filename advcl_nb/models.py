"""The encoder with its batch-norm branches, the projector, the pseudo-label heads and the classifier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from advcl_nb._check import require, require_count, require_generator, require_is, require_one_of
from advcl_nb._fold import fold_norms

BRANCHES = ("clean", "adv", "adv_pseudo")  # the release's bn_names normal, pgd, pgd_ce


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network; the defaults are the release's ResNet-18 for 32x32 images.

    channels: of the images. width: channels of the first stage, doubled in each later one. blocks: residual blocks
    per stage. stem: kernel and stride of the first convolution. projector: hidden and output width.
    cluster_counts: one linear head for each pseudo-label clustering.
    """

    channels: int = 3
    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem: tuple[int, int] = (3, 1)
    projector: tuple[int, int] = (512, 128)
    cluster_counts: tuple[int, ...] = (2, 10, 50, 100, 500)

    def __post_init__(self) -> None:
        for name in ("channels", "width"):
            require_count(getattr(self, name), name)
        for name, length, least in (("blocks", 0, 1), ("stem", 2, 1), ("projector", 2, 1), ("cluster_counts", None, 2)):
            values = getattr(self, name)
            fits = isinstance(values, Sequence) and all(isinstance(k, int) and k >= least for k in values)
            fits = fits and (len(values) == length if length else len(values) > 0 or length is None)
            require(fits, name, f"{length or 'some'} counts >= {least}", values)

    @property
    def features(self) -> int:
        """Width d of the encoder's feature vector."""
        return self.width * 2 ** (len(self.blocks) - 1)


class BranchNorm(nn.Module):
    """A batch norm for each branch: own affine parameters and own running statistics, chosen per call."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({branch: nn.BatchNorm2d(channels) for branch in BRANCHES})

    def forward(self, x: Tensor, branch: str) -> Tensor:
        return self.branches[branch](x)


class Block(nn.Module):
    """A basic residual block (He et al. 2016): two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = BranchNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = BranchNorm(outputs)
        self.shortcut = self.shortcut_norm = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = BranchNorm(outputs)

    def forward(self, x: Tensor, branch: str) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x), branch))
        y = self.norm2(self.conv2(y), branch)
        return F.relu(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x), branch)))


class Encoder(nn.Module):
    """Map images ``(n, c, h, w)`` in [0, 1] to features ``(n, d)`` through one of three batch-norm branches.

    A residual network after He et al. 2016, in the form of the release's resnet_cifar_multibn_ensembleFC.py.
    `branch` is the one used where a call names none: "adv" after adversarial pretraining, else "clean". `precision`
    is float32, or bfloat16 for autocast in pretraining; evaluation and fine-tuning always use float32.
    """

    def __init__(self, config: ModelConfig = ModelConfig(), branch: str = "clean") -> None:  # noqa: B008 (frozen)
        super().__init__()
        require_is(config, "config", ModelConfig, "Of a Config write config.model.")
        self.config, self.branch, self.precision = config, check_branch(branch), torch.float32
        kernel, stride = config.stem
        self.stem = nn.Conv2d(config.channels, config.width, kernel, stride, (kernel - stride + 1) // 2, bias=False)
        self.stem_norm = BranchNorm(config.width)
        widths = [config.width * 2**stage for stage in range(len(config.blocks))]
        sizes = [(width, depth, stage) for stage, (width, depth) in enumerate(zip(widths, config.blocks, strict=True))]
        inputs, blocks = config.width, []
        for width, depth, stage in sizes:
            for index in range(depth):
                blocks.append(Block(inputs, width, 2 if stage > 0 and index == 0 else 1))
                inputs = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Float[Tensor, "n c h w"], branch: str | None = None) -> Float[Tensor, "n d"]:
        """Return the features h; `branch` chooses the batch norm, None the encoder's own."""
        branch = self.branch if branch is None else check_branch(branch)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            x = F.relu(self.stem_norm(self.stem(images), branch))
            for block in self.blocks:
                x = block(x, branch)
        return x.float().mean((2, 3)) if x.dtype == torch.bfloat16 else x.mean((2, 3))

    def copy(self) -> Encoder:
        """Return an independent float32 encoder of the same weights, statistics and branch, on the same device."""
        with torch.random.fork_rng(devices=[]):
            twin = Encoder(self.config, self.branch).to(self.stem.weight.device)
        twin.load_state_dict(self.state_dict())
        return twin


class AdvCLModel(nn.Module):
    """What pretraining trains: the encoder, a projector shared by all branches, and a linear head for each K."""

    def __init__(self, config: ModelConfig = ModelConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.encoder, self.config = Encoder(config), config
        hidden, outputs = config.projector
        self.projector = nn.Sequential(
            nn.Linear(config.features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        self.heads = nn.ModuleList(nn.Linear(config.features, count) for count in config.cluster_counts)

    def forward(self, images: Float[Tensor, "n c h w"], branch: str) -> Float[Tensor, "n k"]:
        """Return the embedding z: the projected feature, as a unit vector."""
        return F.normalize(self.projector(self.encoder(images, branch)), dim=1)

    def head_logits(self, images: Float[Tensor, "n c h w"], branch: str) -> Sequence[Float[Tensor, "n _"]]:
        """Return one ``(n, K)`` tensor of logits for each of the config's cluster_counts."""
        features = self.encoder(images, branch)
        return [head(features) for head in self.heads]


class Classifier(nn.Module):
    """Map images in [0, 1] to class logits: an encoder's branch and a linear layer, drawn with `generator`.

    Features pass through (h - shift) / scale first: 0 and 1, unless fine-tuning standardises them.
    """

    def __init__(self, encoder: Encoder, classes: int, *, generator: Generator, branch: str | None = None) -> None:
        super().__init__()
        require_is(encoder, "encoder", Encoder, "Of an AdvCLModel or a Classifier write model.encoder.")
        require(isinstance(classes, int) and classes >= 2, "classes", "two or more", classes)
        require_generator(generator)
        self.encoder = encoder
        self.branch = encoder.branch if branch is None else check_branch(branch)
        with torch.random.fork_rng(devices=[]):
            self.linear = nn.Linear(encoder.config.features, classes)
        _draw_weights(self.linear, generator)
        self.register_buffer("shift", torch.zeros(encoder.config.features))
        self.register_buffer("scale", torch.ones(encoder.config.features))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        return self.classify(self.encoder(images, self.branch))

    def classify(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return the logits of features h."""
        return self.linear((features - self.shift) / self.scale)

    def folded(self) -> Classifier:
        """Return a copy for evaluation alone, its batch norms folded into the convolutions before them.

        The same logits but for rounding, and less to compute, which a long attack is worth.
        """
        twin = deepcopy(self).eval()
        fold_norms(twin.encoder, self.branch)
        return twin


def contrast_projector(features: int, outputs: int, *, generator: Generator) -> nn.Sequential:
    """Return Core-tuning's projector G_c (Core-tuning.py): two linear layers and a ReLU, without batch norm."""
    with torch.random.fork_rng(devices=[]):
        projector = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs))
    for module in projector:
        _draw_weights(module, generator)
    return projector


def build_model(config: ModelConfig, *, generator: Generator) -> AdvCLModel:
    """Build a model whose weights are a function of `generator` alone; the global random generator is not touched.

    Convolutions are drawn as the release does (He et al. 2015, normal, fan-out), linear layers as PyTorch does.
    """
    require_generator(generator)
    with torch.random.fork_rng(devices=[]):
        model = AdvCLModel(config)
    for module in model.modules():
        _draw_weights(module, generator)
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode and float32 for the length of a ``with``; then everything is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    encoders = [(module, module.precision) for module in model.modules() if isinstance(module, Encoder)]
    model.eval()
    for encoder, _ in encoders:
        encoder.precision = torch.float32
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for encoder, precision in encoders:
            encoder.precision = precision


def check_branch(branch: str) -> str:
    """Return `branch` if it names one of `BRANCHES`, else raise ValueError."""
    require_one_of(branch, "branch", BRANCHES)
    return branch


def _draw_weights(module: nn.Module, generator: Generator) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, math.sqrt(5), generator=generator)
        bound = 1 / math.sqrt(module.in_features)
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
