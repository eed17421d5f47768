"""Features of a frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from advcl_nb.data import to_float
from advcl_nb.models import Encoder, evaluating

BATCH = 500


def extract_features(encoder: Encoder, images: Tensor, *, branch: str | None = None) -> Tensor:
    """Return the features h ``(n, d)`` of uint8 or float images ``(n, c, h, w)``, in eval mode and float32.

    `branch` is one of ``BRANCHES``; None takes the encoder's own. The encoder comes back as it was.
    """
    with evaluating(encoder), torch.no_grad():
        bar = tqdm(images.split(BATCH), desc="features", unit="batch", leave=False, delay=2)
        return torch.cat([encoder(to_float(batch), branch) for batch in bar])
