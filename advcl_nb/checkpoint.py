"""Write, rebuild and find runs: one file holds a run, and the file alone rebuilds it."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from advcl_nb._check import require, require_device, require_is
from advcl_nb._fold import FoldedNorm
from advcl_nb._loop import Row
from advcl_nb._plain import flat, to_plain
from advcl_nb._revive import from_plain
from advcl_nb._saved import read_file, write_file
from advcl_nb.clustering import pseudo_labels
from advcl_nb.config import Config, FinetuneConfig
from advcl_nb.data import SPLITS, Images, project_folder
from advcl_nb.features import extract_features
from advcl_nb.finetune import FinetuneState
from advcl_nb.models import Encoder, ModelConfig
from advcl_nb.pretrain import PretrainState, pretrain_epochs
from advcl_nb.rng import Streams

READERS = {"encoder": "load_encoder", "pretrain": "load", "finetune": "load", "head": "load_classifier(card)"}
UNUSED = {  # fields of PretrainConfig that a method does not read, so that they do not tell its runs apart
    "simclr": ("attack", "attack_mode", "bn_updates", "high_view", "pseudo_weight"),
    "rocl": ("high_view", "pseudo_weight"),
    "acl": ("high_view", "pseudo_weight"),
}


def save(state: PretrainState | FinetuneState, path: str | Path) -> Path:
    """Write a run to one file: all or nothing, also when the process dies. Returns the path.

    The file holds tensors and plain types only. `load` rebuilds the run, and what it then does is, on a CPU bit for
    bit, what the uninterrupted run would have done. A run that has diverged is refused: the last good file stays.
    """
    require_is(state, "state", (PretrainState, FinetuneState))
    model = state.model if isinstance(state, PretrainState) else state.classifier
    numbers = {**model.state_dict(), **{name: torch.as_tensor(value) for name, value in state.sums.items()}}
    lost = [name for name, tensor in numbers.items() if not bool(tensor.isfinite().all())]
    todo = "The run has diverged: go on from the last file, with a lower learning rate."
    require(not lost, "state", "finite numbers", f"others in {lost[:3]}", todo)
    common = {"step": state.step, "history": state.history, "sums": dict(state.sums)}
    common |= {"config": to_plain(state.config), "optimizer": state.optimizer.state_dict()}
    if isinstance(state, PretrainState):
        content = {"kind": "pretrain", "weights": model.state_dict()}
    else:
        content = {"kind": "finetune", "weights": model.state_dict(), "classes": model.linear.out_features}
        content |= {"model": to_plain(model.encoder.config), "encoder_branch": model.encoder.branch}
        content |= {"projector": {} if state.projector is None else state.projector.state_dict()}
    state.saved_to = write_file(content | common, path)
    return state.saved_to


def save_encoder(encoder: Encoder, path: str | Path, *, config: Config, history: list[Row]) -> Path:
    """Write an encoder alone, in half precision, with the config and training history that made it."""
    require_is(encoder, "encoder", Encoder, "Of a state write state.encoder, of a classifier classifier.encoder.")
    require_is(config, "config", Config)
    folded = any(isinstance(module, FoldedNorm) for module in encoder.modules())
    require(not folded, "encoder", "one with its batch norms", "a folded one", "Save what it was folded from.")
    weights = {k: v.half() if v.is_floating_point() else v for k, v in encoder.state_dict().items()}
    content = {"kind": "encoder", "config": to_plain(config), "branch": encoder.branch, "history": history}
    return write_file(content | {"weights": weights}, path)


def load(path: str | Path, *, device: str | torch.device = "cpu") -> PretrainState | FinetuneState:
    """Rebuild a run from `save`'s file, on `device`. Raises OSError or ValueError where the file cannot be read."""
    content = read_file(path)
    todo = f"Use {READERS[content['kind']]}."
    require(content["kind"] in ("pretrain", "finetune"), "path", "a saved run", content["kind"], todo)
    try:
        state = _rebuild(content, device)
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        message = f"path: expected a run whose parts fit together, got {path} ({str(error)[:300]})."
        raise ValueError(message) from error
    state.saved_to = Path(path)
    return state


def _rebuild(content: Mapping, device: str | torch.device) -> PretrainState | FinetuneState:
    if content["kind"] == "pretrain":
        state = PretrainState.start(from_plain(Config, content["config"]), device=device)
        state.model.load_state_dict(content["weights"])
    else:
        with torch.random.fork_rng(devices=[]):
            encoder = Encoder(from_plain(ModelConfig, content["model"]), content["encoder_branch"])
        config = from_plain(FinetuneConfig, content["config"])
        state = FinetuneState.start(config, encoder, content["classes"], device=device)
        state.classifier.load_state_dict(content["weights"])
        if state.projector is not None:
            require("projector" in content, "path", "a run with its projector", sorted(content))
            state.projector.load_state_dict(content["projector"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.step, state.history, state.sums = content["step"], content["history"], content["sums"]
    return state


def load_encoder(path: str | Path, *, device: str | torch.device = "cpu") -> Encoder:
    """Return the float32 encoder of a saved encoder or of a pretraining run, with its own branch set."""
    content = read_file(path)
    todo = f"Use {READERS[content['kind']]}."
    require(content["kind"] in ("pretrain", "encoder"), "path", "a pretrained encoder", content["kind"], todo)
    require_device(device)
    if content["kind"] == "pretrain":
        return load(path, device=device).encoder.copy()
    with torch.random.fork_rng(devices=[]):
        encoder = Encoder(from_plain(Config, content["config"]).model, content["branch"]).to(device)
    encoder.load_state_dict(content["weights"])
    return encoder


def load_history(path: str | Path) -> list[Row]:
    """Return the rows of the training behind a saved run or encoder."""
    return read_file(path)["history"]


def run_name(config: Config, images: Images, labels: Tensor | None = None) -> str:
    """Return a run's name: data set, method, and a hash of data, model, pretraining and pseudo-labels.

    A set that `load_images` knows counts by number and shape of its images, for its config says which they are;
    images of your own count by their pixels. Pseudo-labels count by content; those that `open_or_train` makes itself
    count as "own".
    """
    require_is(config, "config", Config)
    require_is(images, "images", Images, "Write adv.Images(x, y, classes).")
    require(labels is None or isinstance(labels, Tensor), "labels", "a tensor (n, k), or None", labels)
    method = config.pretrain.method
    key = {
        "data": _changes(config.data, ("test",)),
        "images": list(images.x.shape) if config.data.name in SPLITS else _sha256(images.x),
        "model": _changes(config.model),
        "pretrain": _changes(config.pretrain, UNUSED.get(method, ())),
        "labels": ("own" if labels is None else _sha256(labels)) if config.pretrain.uses_pseudo_labels else None,
    }
    key = json.loads(json.dumps(key), parse_int=float)  # 4 and 4.0 are equal settings
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{config.data.name}-{method}-{digest[:10]}"


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(str(tuple(tensor.shape)).encode() + tensor.cpu().numpy().tobytes()).hexdigest()


def _changes(config: object, but: tuple[str, ...] = ()) -> dict[str, object]:
    """Return what differs from the defaults, so that a field added later does not rename the runs there are."""
    default = flat(type(config)())
    return {k: to_plain(v) for k, v in flat(config).items() if v != default[k] and k not in but}


def find_run(name: str) -> Path | None:
    """Return the file of the run `name` from ``runs/``, ``data/checkpoints/`` or the package, or None."""
    require(isinstance(name, str) and Path(name).name == name, "name", "a name of `run_name`, no path", name)
    files = (folder / f"{name}.pt" for folder in (project_folder() / "runs", *committed_folders()))
    return next((file for file in files if file.is_file()), None)


def committed_folders() -> list[Path]:
    """Where committed encoders and heads lie: ``data/checkpoints/`` of the project, and in an installed package."""
    folders = [project_folder() / "data" / "checkpoints"]
    with suppress(ModuleNotFoundError):  # an editable install has the same files in data/checkpoints alone
        folders.append(Path(str(importlib.resources.files("advcl_nb._checkpoints"))))
    return folders


def open_or_train(
    config: Config, images: Images, labels: Tensor | None = None, *, device: str | torch.device = "cpu"
) -> Encoder:
    """Return this config's encoder: opened where it exists, else trained with a progress bar and saved in ``runs/``.

    Looks in ``runs/``, ``data/checkpoints/`` and the package, by `run_name`, and prints which it was. A run that was
    broken off goes on. AdvCL without `labels` makes its own with `own_pseudo_labels`.
    """
    name = run_name(config, images, labels)
    path = find_run(name) or project_folder() / "runs" / f"{name}.pt"
    if path.is_file() and not _unfinished(path):
        print(f"{config.pretrain.method}: opened {_short(path)}")
        return load_encoder(path, device=device)
    if config.pretrain.uses_pseudo_labels and labels is None:
        labels = own_pseudo_labels(config, images, device=device)
    started = time.perf_counter()
    state = load(path, device=device) if path.is_file() else PretrainState.start(config, device=device)
    rows = pretrain_epochs(state, images.to(device), None if labels is None else labels.to(device))
    bar = tqdm(rows, desc=config.pretrain.method, total=config.pretrain.epochs, unit="epoch")
    for row in bar:
        bar.set_postfix(loss=f"{row['loss']:.3f}")
        save(state, path)
    print(f"{config.pretrain.method}: trained in {time.perf_counter() - started:.0f} s, saved {_short(path)}")
    return load_encoder(path, device=device)


def own_pseudo_labels(config: Config, images: Images, *, device: str | torch.device = "cpu") -> Tensor:
    """Return pseudo-labels made from the same images alone: SimCLR by `open_or_train`, features, k-means.

    A column for each of the model's cluster_counts, int64 ``(n, k)``. No class label and no other data set is used.
    """
    require_is(config, "config", Config)
    encoder = open_or_train(replace(config, pretrain=replace(config.pretrain, method="simclr")), images, device=device)
    features = extract_features(encoder, images.x.to(device))
    return pseudo_labels(features, config.model.cluster_counts, seed=Streams(config.pretrain.seed).number("clusters"))


def _unfinished(path: Path) -> bool:
    """Whether a file holds a pretraining run that was broken off before its last epoch."""
    content = read_file(path)
    rows = content["history"]
    return content["kind"] == "pretrain" and (not rows or rows[-1]["epoch"] < content["config"]["pretrain"]["epochs"])


def _short(path: Path) -> str:
    folder = project_folder()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
