"""Images as one tensor, index batches, the data sets by name and the built-in one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advcl_nb._check import require, require_count, require_device, require_generator, require_is
from advcl_nb._shapes import DEFAULT_SETTINGS, SILHOUETTES, ShapeSettings, draw_shapes
from advcl_nb.config import DataConfig
from advcl_nb.rng import Streams

SPLITS = dict.fromkeys(("shapes", "digits", "cifar10", "cifar100"), ("train", "test"))
SPLITS |= {"stl10": ("train", "test", "unlabeled", "train+unlabeled")}


@dataclass(frozen=True, repr=False, eq=False)
class Images:
    """A data set held as tensors: `x` uint8 `(n, c, h, w)`, `y` int64 `(n,)` and the class names.

    An image without a label has `y == -1`. Index with an integer for one `(x, y)` pair, with a slice, a list, an index
    tensor or a mask for the `Images` chosen. Raises ValueError for other types, shapes and labels out of range.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        x, y = self.x, self.y
        convert = "For floats in [0, 1] write (x * 255).round().to(torch.uint8)."
        require(x.dtype == torch.uint8, "x", "uint8 images", x, convert)
        require(x.ndim == 4, "x", "shape (n, c, h, w)", x, "For one image write x[None], for grey ones x[:, None].")
        require(y.dtype == torch.int64, "y", "int64 labels", y, "Write y.long().")
        require(y.shape == x.shape[:1], "y", f"one label for each of {len(x)} images", y, "Check the lengths.")
        inside = len(y) == 0 or (int(y.min()) >= -1 and int(y.max()) < len(self.classes))
        require(inside, "y", f"labels from 0 to {len(self.classes) - 1}, or -1", y, "Name every class in `classes`.")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Images | tuple[Tensor, Tensor]:
        x, y = self.x[index], self.y[index]
        return Images(x, y, self.classes) if y.ndim else (x, y)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.x.shape[1:]))
        names = ", ".join(self.classes[:3]) + (", ..." if len(self.classes) > 3 else "")
        kinds = "unlabelled" if len(self) and bool((self.y < 0).all()) else f"{len(self.classes)} classes: {names}"
        return f"Images({len(self)} of {shape}, {kinds})"

    def subset(self, count: int, *, seed: int) -> Images:
        """A random choice of `count` images, the classes as balanced as they can be.

        With the same seed, a smaller subset is the beginning of a larger one. Where all are unlabelled, it is a plain
        random choice. Raises ValueError when there are fewer than `count`.
        """
        fits = isinstance(count, int) and 0 <= count <= len(self)
        require(fits, "count", f"at most the {len(self)} images there are", count, "Ask for fewer.")
        order = torch.randperm(len(self), generator=Streams(seed)("data"))
        labels, by_class = self.y.cpu()[order].sort(stable=True)
        turn = torch.empty_like(order)  # 0 for the first of its class in this order, 1 for the second, ...
        turn[by_class] = torch.arange(len(self)) - torch.searchsorted(labels, labels)
        return self[order[turn.argsort(stable=True)[:count]].to(self.x.device)]

    def to(self, device: torch.device | str) -> Images:
        """The same images on `device`."""
        require_device(device)
        return Images(self.x.to(device), self.y.to(device), self.classes)

    @classmethod
    def from_arrays(cls, x: Any, y: Any = None, classes: Sequence[str] | None = None) -> Images:
        """Make `Images` from NumPy arrays or tensors: uint8 `(n, c, h, w)` or `(n, h, w, c)`, and integer labels.

        The last dimension is read as colour when it is 1 or 3 and the second is not. Without `y` the images are
        unlabelled; without `classes` their names are their numbers. Raises ValueError as `Images` does; floats are
        refused.
        """
        x = _tensor(x)
        y = torch.full((len(x),), -1) if y is None else _tensor(y)
        if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
            x = x.permute(0, 3, 1, 2).contiguous()
        whole = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
        require(whole or y.numel() == 0, "y", "integer labels", y, "Write y.astype(int) or y.long().")
        if classes is None:
            classes = [str(k) for k in range(int(y.max()) + 1 if y.numel() else 0)]
        return cls(x, y.long(), tuple(classes))

    @classmethod
    def from_folder(cls, path: str | Path, size: int | None = None) -> Images:
        """Read a folder of pictures with one folder per class, named by it (the layout of torchvision's ImageFolder).

        `size` resizes the shorter side (bilinear, antialiased) and crops the middle square. Raises FileNotFoundError
        for a folder without classes or pictures, ValueError when sizes differ and no `size` is given.
        """
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import functional as TF

        if not Path(path).is_dir():
            raise FileNotFoundError(f"path: expected a folder with one folder of pictures per class, got {path}.")
        require_count(1 if size is None else size, "size")
        folder = ImageFolder(str(path))
        pictures = [TF.pil_to_tensor(picture) for picture, _ in folder]
        if size is not None:
            pictures = [TF.center_crop(TF.resize(x, [size], antialias=True), [size]) for x in pictures]
        sizes = sorted({tuple(picture.shape[1:]) for picture in pictures})
        require(len(sizes) == 1, "path", "pictures of one size", sizes[:5], "Give `size=`, for example size=32.")
        return cls(torch.stack(pictures), torch.tensor(folder.targets), tuple(folder.classes))


def _tensor(array: Any) -> Tensor:
    """A tensor of the same numbers, sharing memory where that is safe."""
    array = array if isinstance(array, Tensor) else np.require(array, requirements=["C", "W"])
    require(isinstance(array, Tensor) or array.dtype.kind in "biufc", "array", "numbers", array)
    return torch.as_tensor(array)


def _resize(x: Tensor, size: int) -> Tensor:
    """Resize uint8 images to a square, a thousand at a time, rounding to the nearest grey level."""
    parts = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in x.split(1000)]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def project_folder() -> Path:
    """The nearest folder, from the current one upward, that holds `data/README.md`; else the current one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "data" / "README.md").is_file()), here)


def data_root(root: str | Path | None = None) -> Path:
    """Where data sets lie: `root`, else `$ADVCL_DATA`, else `data/` of the project folder."""
    return Path(root or os.environ.get("ADVCL_DATA") or project_folder() / "data").expanduser()


def shapes(
    count: int, settings: ShapeSettings = DEFAULT_SETTINGS, *, size: int = 16, seed: int = 0, split: str = "train"
) -> Images:
    """Draw `count` images of the built-in data set: ten silhouettes, each with a faint grating of its class.

    These are made-up data, built to show what adversarial training does: the silhouette is large and of strong
    contrast, the grating fainter than an attack of 8/255. Equal arguments give equal images; `seed` and `split`
    together name a stream of random numbers, so train and test share no image. Returns uint8 `(count, 3, size, size)`.
    Raises ValueError for a `count` under 1, a `size` under 8 and a wrong `split`.
    """
    require(isinstance(count, int) and count >= 1, "count", "at least 1", count)
    require(isinstance(size, int) and size >= 8, "size", "at least 8 pixels", size, "The silhouettes need that many.")
    require(split in SPLITS["shapes"], "split", "'train' or 'test'", split)
    require_is(settings, "settings", ShapeSettings)
    generator = Streams(seed)("data", SPLITS["shapes"].index(split))
    return Images(*draw_shapes(count, size, settings, generator), tuple(SILHOUETTES))


def load_images(
    name: str, split: str, *, root: str | Path | None = None, download: bool = False,
    size: int | None = None, count: int | None = None, seed: int = 0,
) -> Images:  # fmt: skip
    """Load a data set by name: "shapes", "digits", "cifar10", "cifar100" or "stl10".

    `split` is "train" or "test"; STL-10 has "unlabeled" and "train+unlabeled" too. `size` resizes to a square
    (bilinear, antialiased). `count` takes a class-balanced subset, chosen by `seed`. For "shapes" alone, `seed` names
    the data set itself, and without `count` there are 2,048 training and 512 test images. The digits are scikit-learn's
    (8x8); the last fifth after a fixed shuffle is the test split. `root` is as in `data_root`, the files as torchvision
    lays them out. Raises ValueError for a wrong name or split and for damaged files (torchvision checks each md5),
    FileNotFoundError for missing ones.
    """
    require(name in SPLITS, "name", f"one of {', '.join(SPLITS)}", name, "Your own: adv.Images.from_arrays.")
    require(split in SPLITS[name], "split", f"one of {', '.join(SPLITS[name])} for {name}", split)
    require(size is None or (isinstance(size, int) and size >= 1), "size", "at least 1 pixel, or None", size)
    if name == "shapes":
        count = (2048 if split == "train" else 512) if count is None else count
        return shapes(count, size=size or 16, seed=seed, split=split)
    images = _digits(split) if name == "digits" else _from_torchvision(name, split, data_root(root), download)
    images = images if count is None else images.subset(count, seed=seed)
    return images if size is None else Images(_resize(images.x, size), images.y, images.classes)


def _digits(split: str) -> Images:
    """Scikit-learn's handwritten digits, `(n, 1, 8, 8)`, their 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images * (255 / 16)).round().astype(np.uint8)[:, None]
    order = torch.randperm(len(x), generator=Streams(0)("data"))
    edge = len(x) - len(x) // 5
    images = Images.from_arrays(x, digits.target, [str(k) for k in range(10)])
    return images[order[:edge] if split == "train" else order[edge:]]


def _from_torchvision(name: str, split: str, root: Path, download: bool) -> Images:
    """Read CIFAR or STL-10 through torchvision's own class, which checks every file's md5."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    class_file = kind.class_names_file if name == "stl10" else kind.meta["filename"]
    files = [class_file, *(file for file, _ in [*kind.train_list, *kind.test_list])]
    folder = (root / kind.base_folder).resolve()
    missing = ", ".join(file for file in files if not (folder / file).is_file())
    # `make data` fetches CIFAR only: STL-10 is 2.6 GB.
    get = "Pass download=True to fetch them." if name == "stl10" else "Run `make data` or pass download=True."
    if missing and not download:
        elsewhere = f"If you have them elsewhere, set $ADVCL_DATA to the folder that holds {kind.base_folder}."
        raise FileNotFoundError(f"{name}: expected its files in {folder}, got none named {missing}. {get} {elsewhere}")
    try:
        which = {"split": split} if name == "stl10" else {"train": split == "train"}
        data = kind(str(root), download=download, **which)
    except RuntimeError as error:  # torchvision's word for a wrong md5
        again = f"Delete that folder, then get them again. {get}"
        raise ValueError(f"{name}: expected intact files in {folder}, got damaged ones ({error}). {again}") from error
    return Images.from_arrays(data.data, data.labels if name == "stl10" else data.targets, data.classes)


def load_data(config: DataConfig) -> tuple[Images, Images]:
    """Load the training and the test images that a `DataConfig` names."""
    require_is(config, "config", DataConfig, "Write adv.load_data(config.data).")
    part = lambda split, n: load_images(config.name, split, size=config.size, count=n, seed=config.seed)  # noqa: E731
    return part("train", config.train), part("test", config.test)


def to_float(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]: uint8 becomes float32 / 255, floats pass through unchanged."""
    ok = isinstance(images, Tensor) and (images.dtype == torch.uint8 or images.is_floating_point())
    todo = "Of Images write images.x, of an array torch.as_tensor(array)."
    require(ok, "images", "a tensor of uint8 or floats", images, todo)
    return images.float().div_(255) if images.dtype == torch.uint8 else images  # in place: new memory is what costs


def batches(n: int, size: int, *, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Index tensors that go once through `n` images, `size` at a time, in random order (None: in order).

    The last batch is kept, however small (the AdvCL release drops none), but a single image joins the batch before it,
    because batch norm cannot take one. Raises ValueError for `n` under 1 or `size` under 2.
    """
    for name, value, least, of in (("n", n, 1, "image"), ("size", size, 2, "images a batch")):
        fits = isinstance(value, int) and value >= least
        require(fits, name, f"at least {least} {of}", value, "Batch norm cannot take a single image.")
    require_generator(torch.default_generator if generator is None else generator)
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator, device=generator.device)
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return iter(parts)
