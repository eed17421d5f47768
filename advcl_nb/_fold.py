"""Fold batch norms into the convolutions before them: the same function in eval mode, and less to compute."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advcl_nb._check import require

PAIRS = (("stem", "stem_norm"), ("conv1", "norm1"), ("conv2", "norm2"), ("shortcut", "shortcut_norm"))


class FoldedNorm(nn.Module):
    """Stands where a batch norm was that is now part of a convolution."""

    def __init__(self, branch: str) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, branch: str) -> Tensor:
        require(branch == self.branch, "branch", f"{self.branch}, the one folded", branch)
        return x


def fold_norms(encoder: nn.Module, branch: str) -> None:
    """Fold one branch's norms, in place, and drop the other branches'; the encoder must be in eval mode."""
    for module in list(encoder.modules()):
        for conv, norm in PAIRS:
            if getattr(module, conv, None) is not None and not isinstance(getattr(module, norm), FoldedNorm):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm).branches[branch])
                setattr(module, conv, fused)
                setattr(module, norm, FoldedNorm(branch))
