"""Whole sets of corrupted images: our own, and the published CIFAR-10-C and CIFAR-100-C from their files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from advcl_nb._batched import check_images
from advcl_nb._check import require, require_for_each, require_generator, require_one_of
from advcl_nb.corruptions import CORRUPTIONS, corrupt
from advcl_nb.data import data_root, to_float

SEVERITIES = (1, 2, 3, 4, 5)
STANDARD = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
PUBLISHED = {"cifar10": ("CIFAR-10-C", 2535967), "cifar100": ("CIFAR-100-C", 3555552)}  # folder and Zenodo record
AGAIN = "Delete it and unpack the download again."


class Corrupted(NamedTuple):
    """Images ``(n, c, h, w)`` under one corruption at one severity, their labels ``(n,)``, and where they come from.

    source: "own" for `own_corruptions`, "CIFAR-10-C" or "CIFAR-100-C" for `load_corruptions`.
    """

    name: str
    severity: int
    images: Tensor
    labels: Tensor
    source: str

    def to(self, device: torch.device | str) -> Corrupted:
        """The same set on `device`."""
        return self._replace(images=self.images.to(device), labels=self.labels.to(device))


def own_corruptions(images: Tensor, labels: Tensor, *, generator: Generator) -> Iterator[Corrupted]:
    """Yield uint8 or float images under each of `CORRUPTIONS` at each severity, made when asked for: 45 sets.

    To compare models on the same sets, begin each time with a generator of the same seed. Accuracies on these do not
    compare with published CIFAR-10-C figures. Raises ValueError unless there is a label for each image.
    """
    check_images(images)
    require_for_each(labels, "labels", images, "whole numbers")
    require_generator(generator)
    x, pairs = to_float(images), product(CORRUPTIONS, SEVERITIES)
    return (Corrupted(name, k, corrupt(x, name, k, generator=generator), labels, "own") for name, k in pairs)


def load_corruptions(
    name: str = "cifar10", *, root: str | Path | None = None, count: int | None = None
) -> Iterator[Corrupted]:
    """Yield the published CIFAR-10-C ("cifar10") or CIFAR-100-C ("cifar100"): 15 corruptions by 5 severities.

    These are the files of Hendrycks and Dietterich 2019, so accuracies on them compare with published ones. Images are
    uint8 ``(n, 3, 32, 32)``, labels int64, read from the disk set by set; `count` takes the first images of each
    severity, None all 10,000. For a model on a GPU, pass ``(item.to("cuda") for item in adv.load_corruptions())`` on.
    `root` is as for `load_images`, and the folder in it CIFAR-10-C or CIFAR-100-C. Raises FileNotFoundError for missing
    files, at once, and ValueError for files of another shape or type.
    """
    require_one_of(name, "name", tuple(PUBLISHED))
    folder = _whole_folder(*PUBLISHED[name], data_root(root))
    labels = _open(folder / "labels.npy")
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and len(labels) % 5 == 0 < len(labels)
    _require_array(whole, "labels.npy", "whole numbers of shape (5 n,), n for each severity", labels)
    each = len(labels) // 5
    require(count is None or 1 <= count <= each, "count", f"from 1 to the {each} images of a severity, or None", count)
    return _sets(folder, torch.from_numpy(labels.astype(np.int64)).view(5, each), count)


def _sets(folder: Path, labels: Tensor, count: int | None) -> Iterator[Corrupted]:
    """Yield the sets of a folder; `labels` ``(5, n)`` has a row for each severity, as the files have n images."""
    each = labels.shape[1]
    for name in STANDARD:
        images, shape = _open(folder / f"{name}.npy"), (5 * each, 32, 32, 3)
        _require_array(
            images.dtype == np.uint8 and images.shape == shape,
            f"{name}.npy",
            f"uint8 of shape {shape}, an image for each label",
            images,
        )
        for severity in SEVERITIES:
            rows = images[(severity - 1) * each : severity * each][:count]
            x = torch.from_numpy(np.array(rows)).permute(0, 3, 1, 2).contiguous()
            yield Corrupted(name, severity, x, labels[severity - 1, :count], folder.name)


def _whole_folder(folder: str, record: int, root: Path) -> Path:
    """Return the folder if none of its files is missing, else say how to get them."""
    place = (root / folder).absolute()  # not resolved: the name says which set it is, where a link leads does not
    missing = [f"{name}.npy" for name in (*STANDARD, "labels") if not (place / f"{name}.npy").is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise FileNotFoundError(
            f"{folder}: expected 16 .npy files in {place}, got none named {some}. Download {folder}.tar (2.9 GB) from "
            f"https://zenodo.org/records/{record} and unpack it in {place.parent}, or set $ADVCL_DATA to the folder "
            f"that holds {folder}. Without a download there is adv.own_corruptions, whose scores do not compare."
        )
    return place


def _open(path: Path) -> np.ndarray:
    """Map a .npy file into memory, so that only the rows used are read."""
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path.name}: expected a NumPy array, got a broken file ({error}). {AGAIN}") from error


def _require_array(ok: bool, name: str, expected: str, got: np.ndarray) -> None:
    if not ok:
        raise ValueError(f"{name}: expected {expected}, got {got.dtype} of shape {got.shape}. {AGAIN}")
