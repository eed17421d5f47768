"""Read what the AdvCL authors published: checkpoints of their code, and their pseudo-labels."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from advcl_nb._check import require, require_one_of
from advcl_nb.data import data_root
from advcl_nb.models import BRANCHES, AdvCLModel, ModelConfig

LABELS_FILE = "imagenet_clPretrain_pseudo_labels.pkl"
RENAMED = (  # the release's names (resnet_cifar_multibn_ensembleFC.py) and ours, in this order
    (r"^module\.", ""),
    (r"^conv1\.", "encoder.stem."),
    (r"^bn1\.", "encoder.stem_norm."),
    (r"^(layer\d+\.\d+)\.bn(\d)\.", r"\1.norm\2."),
    (r"^(layer\d+\.\d+)\.downsample\.conv\.", r"\1.shortcut."),
    (r"^(layer\d+\.\d+)\.downsample\.bn\.", r"\1.shortcut_norm."),
    (r"^head_proj\.", "projector."),
)


class ReleaseCheckpoint(NamedTuple):
    """A model built from a file of the release, and what became of the file's keys.

    matched: number of tensors loaded. missing: our keys that the file lacks (heads or projector at most).
    unexpected: keys of the file that the method does not use (the release's head_pred and head_ce, for example).
    """

    model: AdvCLModel
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ReleaseCheckpoint: {self.matched} matched, {len(self.missing)} missing, {len(self.unexpected)} unused"


def load_release_checkpoint(path: str | Path, config: ModelConfig = ModelConfig()) -> ReleaseCheckpoint:  # noqa: B008
    """Load a pretraining checkpoint of the release, with or without ``module.`` before its keys.

    Nothing is skipped in silence: an encoder tensor that is missing or too many, a shape that differs or a file in
    which nothing matches raises ValueError. (The release's own loader then trains on random weights.)
    """
    weights = _release_weights(path)
    with torch.random.fork_rng(devices=[]):
        model = AdvCLModel(config)
    model.encoder.branch = "adv"
    ours = model.state_dict()
    renamed = {rename_release_key(key, config): (key, value) for key, value in weights.items()}
    known = {key: value for key, (_, value) in renamed.items() if key in ours}
    unexpected = tuple(key for name, (key, _) in renamed.items() if name not in ours)
    missing = tuple(key for key in ours if key not in known)
    todo = "Is it a checkpoint of the release's pretraining, with this ModelConfig?"
    require(bool(known), "path", "keys such as conv1.weight or module.conv1.weight", list(weights)[:3], todo)
    lost = [key for key in missing if key.startswith("encoder.")]
    require(not lost, "path", "every tensor of the encoder", f"a file without {lost[:3]}", todo)
    more = [key for name, (key, _) in renamed.items() if name.startswith("encoder.") and name not in ours]
    require(not more, "path", "an encoder of this config alone", f"more: {more[:3]}", todo)
    wrong = [key for key, value in known.items() if value.shape != ours[key].shape]
    require(not wrong, "path", "tensors of the model's shapes", f"others for {wrong[:3]}", todo)
    model.load_state_dict(ours | known)
    return ReleaseCheckpoint(model, len(known), missing, unexpected)


def rename_release_key(key: str, config: ModelConfig) -> str:
    """Return our name of a tensor of the release; a key that the method does not use stays as it is."""
    for pattern, name in RENAMED:
        key = re.sub(pattern, name, key)
    key = re.sub(r"\.bn_list\.(\d+)\.", lambda match: f".branches.{_branch(match)}.", key)
    key = re.sub(r"^layer(\d+)\.(\d+)\.", lambda match: f"encoder.blocks.{_block(match, config)}.", key)
    return re.sub(r"^fc_(\d+)\.", lambda match: f"heads.{_head(match, config)}.", key)


def load_release_pseudo_labels(
    path: str | Path | None = None, *, counts: Sequence[int] = (2, 10, 50, 100, 500), split: str = "train"
) -> Tensor:
    """Return the authors' CIFAR-10 pseudo-labels, int64 ``(n, len(counts))``, in torchvision's image order.

    They come from an encoder pretrained on **ImageNet**, so results made with them use more than CIFAR-10. `path`
    defaults to the published file's name in the data folder. The file is a pickle; it is read by an unpickler that
    admits numpy arrays and nothing else. Raises FileNotFoundError where it is absent, ValueError where it is foreign.
    """
    require_one_of(split, "split", ("train", "test"))
    path = data_root() / LABELS_FILE if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path: expected the authors' pseudo-labels, got no file {path}. "
            f"Put data/{LABELS_FILE} of github.com/LijieFan/AdvCL there, or use adv.own_pseudo_labels."
        )
    with open(path, "rb") as file:
        try:
            content = _ArraysOnly(file).load()
        except Exception as error:  # a foreign pickle can fail in any way
            raise ValueError(f"path: expected a pickle of numpy arrays alone, got {path} ({error}).") from error
    names = [f"pseudo_{split}_{count}" for count in counts]
    there = list(content) if isinstance(content, Mapping) else type(content).__name__
    require(isinstance(content, Mapping) and set(names) <= set(content), "path", f"arrays {names}", there)
    columns = [np.asarray(content[name]) for name in names]
    for name, column, count in zip(names, columns, counts, strict=True):
        alike = column.dtype.kind in "iu" and column.ndim == 1 and column.shape == columns[0].shape
        inside = alike and column.size > 0 and column.min() >= 0 and column.max() < count
        require(bool(inside), name, f"whole numbers from 0 to {count - 1}, one an image", column)
    return torch.stack([torch.as_tensor(column.astype(np.int64)) for column in columns], 1)


class _ArraysOnly(pickle.Unpickler):
    """Admits the four names that pickled numpy arrays need."""

    ADMITTED = {
        ("multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        module = re.sub(r"^numpy\._?core\.", "", module)
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ADMITTED[module, name]


def _release_weights(path: str | Path) -> Mapping[str, Tensor]:
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a foreign file can fail in any way
            got = f"{path}, which cannot be read ({type(error).__name__})"
            raise ValueError(f"path: expected a file of plain tensors, got {got}. Is it damaged?") from error
    inner = [content.get(entry) for entry in ("state_dict", "model")] if isinstance(content, Mapping) else []
    content = next((entry for entry in inner if isinstance(entry, Mapping)), content)
    plain = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
    require(plain, "path", "a dict of tensors, or one under 'state_dict' or 'model'", type(content).__name__)
    return content


def _branch(match: re.Match) -> str:
    number = int(match[1])
    return BRANCHES[number] if number < len(BRANCHES) else f"unknown_{number}"


def _block(match: re.Match, config: ModelConfig) -> str:
    stage, index = int(match[1]) - 1, int(match[2])
    inside = 0 <= stage < len(config.blocks) and index < config.blocks[stage]
    return str(sum(config.blocks[:stage]) + index) if inside else f"unknown_{stage + 1}.{index}"


def _head(match: re.Match, config: ModelConfig) -> str:
    count = int(match[1])
    return str(config.cluster_counts.index(count)) if count in config.cluster_counts else f"unknown_{count}"
