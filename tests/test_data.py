"""Images, index batches, data sets by name, and the built-in set."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets
from torchvision.transforms import functional as TF

from advcl_nb.data import Images, ShapeSettings, batches, data_root, load_images, project_folder, shapes, to_float

LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
BLACK = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
PLAIN = ShapeSettings(cue="none", noise=0.0)  # silhouettes alone


def some_images(n=12, classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, 3, 8, 8), generator=g, dtype=torch.uint8)
    return Images(x, torch.arange(n) % classes, tuple("abcdefghij"[:classes]))


def same(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and a.classes == b.classes


# Images


def test_indexing_agrees_with_indexing_the_tensors():
    images = some_images()
    for one in (-1, np.int64(11), torch.tensor(11)):
        x, y = images[one]
        assert torch.equal(x, images.x[11]) and int(y) == int(images.y[11])
    mask = [True] + [False] * 11
    for index in (slice(2, 9, 3), [4, 1], mask, torch.tensor([5, 5]), images.y == 1, np.array([0, 3]), []):
        picked = images[index]
        rows = torch.arange(12)[index]
        assert isinstance(picked, Images) and picked.classes == images.classes
        assert torch.equal(picked.x, images.x[rows]) and torch.equal(picked.y, images.y[rows])
    with pytest.raises(IndexError):
        images[12]


def test_iterating_goes_through_the_pairs_once():
    images = some_images(5)
    assert [int(y) for _, y in images] == images.y.tolist()
    assert len(images) == 5


def test_images_cannot_be_changed_by_assignment():
    with pytest.raises(AttributeError):
        some_images().y = torch.zeros(12)


def test_repr_says_how_many_of_what():
    assert repr(some_images(12, 3)) == "Images(12 of 3x8x8, 3 classes: a, b, c)"
    assert repr(some_images(12, 4)) == "Images(12 of 3x8x8, 4 classes: a, b, c, ...)"
    assert repr(Images(some_images().x, torch.full((12,), -1), ())) == "Images(12 of 3x8x8, unlabelled)"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(2, 3, 8, 8), torch.zeros(2).long(), r"x: expected uint8 images, got float32 .*round\(\)"),
        (BLACK[0], torch.zeros(3).long(), r"x: expected shape \(n, c, h, w\), got .*x\[None\]"),
        (BLACK, torch.zeros(2), r"y: expected int64 labels, got float32 .*y\.long"),
        (BLACK, torch.zeros(3).long(), r"y: expected one label for each of 2 images, got .*\(3,\)"),
        (BLACK, torch.tensor([0, 2]), r"y: expected labels from 0 to 1, or -1, got .*\[0, 2\]"),
        (BLACK, torch.tensor([0, -2]), r"y: expected labels from 0 to 1, or -1, got .*\[-2, 0\]"),
    ],
)
def test_images_refuse_what_they_cannot_hold(x, y, message):
    with pytest.raises(ValueError, match=message):
        Images(x, y, ("a", "b"))


@pytest.mark.parametrize("count", [0, 1, 7, 20, 30])
def test_a_subset_is_as_balanced_as_the_classes_allow(count):
    labels = torch.tensor([0] * 15 + [1] * 10 + [2] * 5)
    images = Images(torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1), labels, ("a", "b", "c"))
    chosen = images.subset(count, seed=3)
    left, expected = [15, 10, 5], [0, 0, 0]  # hand out one of each class in turn
    while sum(expected) + sum(n > 0 for n in left) <= count and sum(left):
        for k in range(3):
            if left[k]:
                left[k], expected[k] = left[k] - 1, expected[k] + 1
    counts = torch.bincount(chosen.y, minlength=3)
    assert len(chosen) == count and len(chosen.x.flatten().unique()) == count
    assert sum(expected) <= count and all(int(n) - e in (0, 1) for n, e in zip(counts, expected, strict=True))
    assert torch.equal(labels[chosen.x.flatten().long()], chosen.y)


def test_a_subset_depends_on_its_seed_and_begins_a_larger_one():
    images = some_images(200, 4)
    assert same(images.subset(30, seed=1), images.subset(90, seed=1)[:30])
    assert not torch.equal(images.subset(30, seed=1).x, images.subset(30, seed=2).x)


def test_the_left_over_images_of_a_subset_come_from_any_class():
    images = some_images(40, 4)
    assert {int(images.subset(1, seed=seed).y[0]) for seed in range(40)} == {0, 1, 2, 3}


def test_an_unlabelled_subset_is_a_plain_random_choice():
    unlabelled = Images(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1), torch.full((50,), -1), ())
    chosen = unlabelled.subset(20, seed=0).x.flatten().tolist()
    assert len(set(chosen)) == 20 and chosen != list(range(20))


def test_a_subset_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match="count: expected at most the 12 images there are, got 13"):
        some_images().subset(13, seed=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_a_gpu_stay_there():
    images = some_images().to("cuda")
    for part in (images, images[2:5], images.subset(6, seed=0)):
        assert part.x.is_cuda and part.y.is_cuda
    assert same(images.subset(6, seed=0).to("cpu"), some_images().subset(6, seed=0))


# A reader's own data


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_may_have_their_colours_first_or_last(channels):
    rng = np.random.default_rng(0)
    first = rng.integers(256, size=(4, channels, 6, 5), dtype=np.uint8)
    last = first.transpose(0, 2, 3, 1)
    for x in (first, last, torch.from_numpy(first), torch.from_numpy(last.copy())):
        images = Images.from_arrays(x, np.array([0, 1, 2, 1], dtype=np.int32))
        assert np.array_equal(images.x.numpy(), first) and images.x.is_contiguous()
        assert images.y.tolist() == [0, 1, 2, 1] and images.classes == ("0", "1", "2")


def test_colours_stay_first_where_both_readings_are_possible():
    x = np.arange(4 * 3 * 5 * 3, dtype=np.uint8).reshape(4, 3, 5, 3)
    assert np.array_equal(Images.from_arrays(x, [0, 0, 1, 1], ["cat", "dog"]).x.numpy(), x)
    assert Images.from_arrays(x).y.tolist() == [-1] * 4  # unlabelled


def test_float_arrays_are_refused_with_the_conversion_that_works():
    x = np.random.default_rng(0).random((2, 8, 8, 3))
    with pytest.raises(ValueError, match=r"x: expected uint8 images, got float64.*\(x \* 255\)\.round\(\)") as caught:
        Images.from_arrays(x, [0, 1])
    assert "(x * 255).round().to(torch.uint8)" in str(caught.value)
    with pytest.raises(ValueError, match="y: expected integer labels, got float64"):
        Images.from_arrays((x * 255).astype(np.uint8), [0.0, 1.0])


def write_pictures(folder, sizes):
    """One picture per size and class, each of one colour; returns the colours by class."""
    colours = {"bee": (250, 200, 0), "ant": (40, 10, 5)}
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for i, size in enumerate(sizes):
            Image.new("RGB", size, colour).save(folder / name / f"{i}.png")
    return colours


def test_a_folder_of_folders_gives_one_class_each(tmp_path):
    colours = write_pictures(tmp_path, [(10, 8), (10, 8)])
    images = Images.from_folder(tmp_path)
    assert images.classes == ("ant", "bee") and images.x.shape == (4, 3, 8, 10)
    for x, y in images:
        assert x[:, 0, 0].tolist() == list(colours[images.classes[y]])


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    write_pictures(tmp_path, [(10, 8), (9, 20)])
    with pytest.raises(ValueError, match=r"pictures of one size, got \[\(8, 10\), \(20, 9\)\]. Give `size=`"):
        Images.from_folder(tmp_path)
    assert Images.from_folder(tmp_path, size=6).x.shape == (4, 3, 6, 6)


def test_a_size_resizes_the_shorter_side_and_crops_the_middle(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(20, 36, 3), dtype=np.uint8)
    (tmp_path / "one").mkdir()
    Image.fromarray(noise).save(tmp_path / "one" / "0.png")
    oracle = Image.fromarray(noise).resize((18, 10), Image.Resampling.BILINEAR).crop((4, 0, 14, 10))
    ours = Images.from_folder(tmp_path, size=10).x[0].permute(1, 2, 0)
    assert (ours.int() - torch.from_numpy(np.array(oracle)).int()).abs().max() <= 1


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="one folder of pictures per class, got .*nowhere"):
        Images.from_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="class folder"):
        Images.from_folder(tmp_path)


# Where data lie


def test_the_root_is_the_argument_then_the_variable_then_the_project_then_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVCL_DATA", str(tmp_path / "variable"))
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("ADVCL_DATA")
    deep = tmp_path / "project" / "notebooks" / "solutions"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert project_folder() == deep and data_root() == deep / "data"
    (tmp_path / "project" / "data").mkdir()
    assert project_folder() == deep  # a folder named data is not yet a project
    (tmp_path / "project" / "data" / "README.md").touch()
    assert project_folder() == tmp_path / "project" and data_root() == tmp_path / "project" / "data"


# Data sets by name


def test_a_wrong_name_or_split_lists_the_choices():
    with pytest.raises(ValueError, match="name: expected one of shapes, digits, cifar10, cifar100, stl10, got 'mnist'"):
        load_images("mnist", "train")
    with pytest.raises(ValueError, match="split: expected one of train, test for cifar10, got 'unlabeled'"):
        load_images("cifar10", "unlabeled")
    with pytest.raises(ValueError, match=r"split: .*train, test, unlabeled, train\+unlabeled for stl10, got 'val'"):
        load_images("stl10", "val")


@pytest.mark.parametrize(
    ("name", "folder", "remedy"),
    [("cifar10", "cifar-10-batches-py", "make data"), ("cifar100", "cifar-100-python", "make data"),
     ("stl10", "stl10_binary", "Pass download=True")],
)  # fmt: skip
def test_a_missing_set_says_where_it_looked_and_what_to_do(tmp_path, name, folder, remedy):
    with pytest.raises(FileNotFoundError) as caught:
        load_images(name, "train", root=tmp_path)
    for part in (str(tmp_path / folder), remedy, "download=True", "ADVCL_DATA", folder):
        assert part in str(caught.value)


def test_digits_are_scikit_learns_split_in_two():
    sklearn = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert train.x.shape[1:] == (1, 8, 8) and len(test) == 1797 // 5 and len(train) + len(test) == 1797

    def rows(levels, labels):
        return sorted(tuple(level) + (int(label),) for level, label in zip(levels.tolist(), labels, strict=True))

    ours = torch.cat([train.x, test.x]).flatten(1) * (16 / 255)
    expected = rows(sklearn.data.astype(int), sklearn.target)
    assert rows(ours.round().int(), torch.cat([train.y, test.y])) == expected
    assert train.x.max() == 255 and train.x.min() == 0
    assert torch.bincount(test.y).min() >= 20
    assert test.y.tolist() != sklearn.target[-359:].tolist()  # shuffled: scikit-learn's order is by writer


def test_count_and_size_take_a_part_and_resize_it():
    part = load_images("digits", "train", count=50, seed=4)
    assert same(part, load_images("digits", "train").subset(50, seed=4))
    large = load_images("digits", "train", count=50, seed=4, size=20)
    oracle = TF.resize(part.x.double(), [20, 20], antialias=True)
    assert large.x.shape == (50, 1, 20, 20) and (large.x - oracle).abs().max() <= 0.5 + 1e-3
    with pytest.raises(ValueError, match="count: expected at most the 359 images"):
        load_images("digits", "test", count=360)
    with pytest.raises(ValueError, match="size: expected at least 1 pixel"):
        load_images("digits", "test", size=0)


@pytest.mark.cifar
@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10_is_torchvisions_element_for_element(cifar_root, split):
    ours = load_images("cifar10", split, root=cifar_root)
    oracle = datasets.CIFAR10(str(cifar_root), train=split == "train")
    assert ours.x.shape == (len(oracle), 3, 32, 32) and ours.classes == tuple(oracle.classes)
    for i in range(0, len(oracle), 97):
        picture, label = oracle[i]
        assert torch.equal(ours.x[i], TF.pil_to_tensor(picture)) and int(ours.y[i]) == label
    assert np.array_equal(ours.x.permute(0, 2, 3, 1).numpy(), oracle.data) and ours.y.tolist() == oracle.targets


@pytest.mark.cifar
def test_cifar100_is_torchvisions_element_for_element(cifar_root):
    if not (cifar_root / datasets.CIFAR100.base_folder).is_dir():
        pytest.skip("CIFAR-100 is not beside CIFAR-10; make data fetches it")
    ours, oracle = load_images("cifar100", "test", root=cifar_root), datasets.CIFAR100(str(cifar_root), train=False)
    assert np.array_equal(ours.x.permute(0, 2, 3, 1).numpy(), oracle.data) and ours.y.tolist() == oracle.targets
    assert ours.classes == tuple(oracle.classes) and len(ours.classes) == 100


@pytest.mark.cifar
def test_cifar_takes_the_variable_a_count_and_a_size(cifar_root, monkeypatch):
    monkeypatch.setenv("ADVCL_DATA", str(cifar_root))
    images = load_images("cifar10", "test", count=100, size=16, seed=2)
    assert images.x.shape == (100, 3, 16, 16) and torch.bincount(images.y).tolist() == [10] * 10


def linked_cifar(cifar_root, folder):
    """A CIFAR-10 tree whose files are links, but for test_batch, which is a copy."""
    tree = folder / "cifar-10-batches-py"
    tree.mkdir()
    for file in (cifar_root / "cifar-10-batches-py").iterdir():
        (tree / file.name).symlink_to(file.resolve())
    (tree / "test_batch").unlink()
    shutil.copyfile(cifar_root / "cifar-10-batches-py" / "test_batch", tree / "test_batch")
    return tree


@pytest.mark.cifar
def test_one_flipped_bit_is_damage_and_a_lost_file_is_missing(cifar_root, tmp_path):
    tree = linked_cifar(cifar_root, tmp_path)
    assert len(load_images("cifar10", "test", root=tmp_path)) == 10_000
    content = bytearray((tree / "test_batch").read_bytes())
    content[1_000_000] ^= 1
    (tree / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=r"cifar10: expected intact files in .*got damaged ones.*Delete.*make data"):
        load_images("cifar10", "test", root=tmp_path)
    (tree / "test_batch").unlink()
    with pytest.raises(FileNotFoundError, match=r"got none named test_batch\."):
        load_images("cifar10", "test", root=tmp_path)


@pytest.fixture
def stl_root(tmp_path, monkeypatch):
    """A small STL-10 in the layout of its archive: column-major bytes, labels from 1. Returns root and the images."""
    import hashlib

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    x = {part: torch.randint(256, (n, 3, 96, 96), generator=g, dtype=torch.uint8)
         for part, n in (("train", 10), ("test", 6), ("unlabeled", 4))}  # fmt: skip
    y = {"train": torch.arange(10), "test": torch.tensor([3, 1, 4, 1, 5, 9])}
    for part, images in x.items():
        images.transpose(2, 3).contiguous().numpy().tofile(folder / f"{part}_X.bin")
        if part in y:
            (y[part] + 1).byte().numpy().tofile(folder / f"{part}_y.bin")
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    (folder / "fold_indices.txt").write_text("0 1\n" * 10)

    def checked(*files):
        return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in files]

    monkeypatch.setattr(datasets.STL10, "train_list", checked("train_X.bin", "train_y.bin", "unlabeled_X.bin"))
    monkeypatch.setattr(datasets.STL10, "test_list", checked("test_X.bin", "test_y.bin"))
    return tmp_path, x, y, tuple(names)


def test_stl10_reads_its_four_splits(stl_root):
    root, x, y, names = stl_root
    for split in ("train", "test"):
        images = load_images("stl10", split, root=root)
        assert torch.equal(images.x, x[split]) and torch.equal(images.y, y[split]) and images.classes == names
    unlabelled = load_images("stl10", "unlabeled", root=root)
    assert torch.equal(unlabelled.x, x["unlabeled"]) and unlabelled.y.tolist() == [-1] * 4
    assert repr(unlabelled) == "Images(4 of 3x96x96, unlabelled)"
    both = load_images("stl10", "train+unlabeled", root=root)
    assert torch.equal(both.x, torch.cat([x["train"], x["unlabeled"]])) and both.y.tolist() == [*range(10), *[-1] * 4]


def test_stl10_is_resized_on_load(stl_root):
    root, x, _, _ = stl_root
    images = load_images("stl10", "test", root=root, size=32)
    oracle = TF.resize(x["test"].double(), [32, 32], antialias=True).round()
    assert images.x.shape == (6, 3, 32, 32) and (images.x - oracle).abs().max() <= 1
    assert len(load_images("stl10", "unlabeled", root=root, count=3)) == 3


def test_stl10_tells_damaged_from_missing(stl_root):
    root = stl_root[0]
    with open(root / "stl10_binary" / "unlabeled_X.bin", "r+b") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="stl10: expected intact files .*got damaged ones.*Pass download=True"):
        load_images("stl10", "train", root=root)
    (root / "stl10_binary" / "class_names.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"got none named class_names\.txt"):
        load_images("stl10", "train", root=root)


# The built-in set


def luminance(images):
    """`(n, h, w)`."""
    return (to_float(images.x) * LUMINANCE).sum(dim=1)


def test_shapes_are_a_function_of_their_arguments():
    state = torch.random.get_rng_state()
    first = shapes(64)
    assert torch.equal(state, torch.random.get_rng_state())
    assert same(first, shapes(64)) and same(first, load_images("shapes", "train", count=64))
    assert first.x.shape == (64, 3, 16, 16) and shapes(8, size=24).x.shape == (8, 3, 24, 24)
    assert not torch.equal(first.x, shapes(64, seed=1).x)
    assert len(load_images("shapes", "train")) == 2048 and len(load_images("shapes", "test")) == 512


def test_no_image_is_in_two_splits_or_two_seeds():
    sets = [shapes(500, seed=seed, split=split) for seed in (0, 1) for split in ("train", "test")]
    pictures = {x.numpy().tobytes() for images in sets for x in images.x}
    assert len(pictures) == 2000
    plain = [shapes(500, PLAIN, split=split) for split in ("train", "test")]  # nor when the noise is taken away
    assert len({x.numpy().tobytes() for images in plain for x in images.x}) == 1000


def test_classes_are_balanced_named_and_mixed():
    images = shapes(1003)
    assert sorted(torch.bincount(images.y).tolist()) == [100] * 7 + [101] * 3
    assert images.classes == ("disc", "square", "triangle", "plus", "ring", "frame", "bars", "crescent", "L", "dots")
    assert len(images.y[:100].unique()) == 10 and len(images.y[:10].unique()) < 10  # neither sorted nor in turn


@pytest.mark.parametrize("contrast", [0.1, 0.35, 0.45])
def test_silhouette_and_ground_keep_their_luminance_on_either_side_of_the_middle(contrast):
    images = shapes(300, ShapeSettings(contrast=contrast, cue="none", noise=0.0), size=32)
    grey = luminance(images).flatten(1)
    assert (grey.amax(dim=1) - (0.5 + contrast)).abs().max() < 2 / 255
    assert (grey.amin(dim=1) - (0.5 - contrast)).abs().max() < 2 / 255
    far = (grey - 0.5).abs() > contrast - 2 / 255  # all but the soft edge
    assert far.float().mean() > 0.7
    bright = luminance(images)[images.y == 0, 16, 16] > 0.5  # the middle of the picture is always disc
    assert 0.2 < bright.float().mean() < 0.8


def silhouettes(count, **wanted):
    """Coverage of each pixel by the silhouette, from black-and-white pictures; the ground is what the corners show."""
    images = shapes(count, ShapeSettings(cue="none", noise=0.0, **wanted), size=64)
    cover = (luminance(images) - 0.15) / 0.7
    corners = cover[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(dim=1)
    return torch.where((corners > 0.5)[:, None, None], 1 - cover, cover), images.y


@pytest.mark.parametrize("fill", [0.5, 1.0])
def test_a_disc_covers_what_the_formula_says_and_has_an_edge_of_one_pixel(fill):
    cover, y = silhouettes(100, fill=(fill, fill), shift=0.0, turn=0.0)
    discs, around = cover[y == 0], 64 * fill * math.pi  # the circumference, in pixels
    assert (discs.mean(dim=(1, 2)) - math.pi / 4 * fill**2).abs().max() < 0.01
    partly = ((discs > 0.01) & (discs < 0.99)).sum(dim=(1, 2))
    assert (partly / around - 1).abs().max() < 0.15


def test_silhouettes_move_by_at_most_the_shift():
    cover, y = silhouettes(1000, fill=(0.5, 0.5), shift=0.12, turn=22.0)
    discs, at = cover[y == 0], (torch.arange(64) + 0.5) / 64 - 0.5
    mass = discs.sum(dim=(1, 2))
    centre = torch.stack([(discs.sum(dim=1) * at).sum(dim=1) / mass, (discs.sum(dim=2) * at).sum(dim=1) / mass])
    assert centre.abs().max() < 0.12 + 0.005 and (centre.abs().amax(dim=1) > 0.11).all()


def test_silhouettes_turn_by_at_most_the_turn():
    cover, y = silhouettes(1000, fill=(0.6, 0.6), shift=0.0, turn=22.0)
    bars, at = cover[y == 6], (torch.arange(64) + 0.5) / 64 - 0.5
    mass = bars.sum(dim=(1, 2))
    cxy = (bars * at[:, None] * at[None, :]).sum(dim=(1, 2)) / mass
    cyy = (bars.sum(dim=2) * at**2).sum(dim=1) / mass
    cxx = (bars.sum(dim=1) * at**2).sum(dim=1) / mass
    # Two lying bars of half-length 0.95 from 0.28 to 0.88: second moments on the axes, then turned by the angle.
    angle = torch.rad2deg(torch.atan2(2 * cxy, cxx - cyy) / 2)
    mean_xx, mean_yy = 0.95**2 / 3, (0.88**3 - 0.28**3) / (3 * 0.6)
    angle = angle if mean_xx > mean_yy else angle.sign() * (90 - angle.abs())
    assert angle.abs().max() < 22.5 and angle.max() > 15 and angle.min() < -15


def test_the_ten_silhouettes_differ_from_one_another():
    cover, y = silhouettes(100, fill=(0.9, 0.9), shift=0.0, turn=0.0)
    mean = torch.stack([cover[y == k].mean(dim=0) for k in range(10)])
    apart = torch.cdist(mean.flatten(1), mean.flatten(1), p=1) / 64**2 + torch.eye(10)
    assert apart.min() > 0.05  # a twentieth of the picture at least


def cue_alone(cue, size, **wanted):
    """What the grating adds, in grey levels: the same pictures with it and without it."""
    with_cue = shapes(200, ShapeSettings(cue=cue, **wanted), size=size)
    without = shapes(200, ShapeSettings(cue="none", **wanted), size=size)
    assert torch.equal(with_cue.y, without.y)
    return with_cue.x.float() - without.x.float(), with_cue.y


@pytest.mark.parametrize("cue", ["high", "low"])
def test_the_cue_stays_under_its_amplitude_and_survives_rounding(cue):
    added, _ = cue_alone(cue, 16)
    assert added.abs().max() <= 4 + 1  # each picture is rounded by half a level
    assert added.abs().amax(dim=(1, 2, 3)).min() > 3
    assert added.std() == pytest.approx(4 / math.sqrt(2), abs=0.3)  # a cosine's root mean square
    loud, _ = cue_alone(cue, 16, cue_amplitude=8 / 255)
    assert loud.std() == pytest.approx(8 / math.sqrt(2), abs=0.6)


def peaks(added, y, pad=256):
    """Where each class's mean power spectrum peaks, in cycles per pixel, as (fx, fy) with fy >= 0."""
    power = torch.fft.fft2(added.mean(dim=1), s=(pad, pad)).abs().square()
    found = []
    for k in range(10):
        row, column = divmod(int(power[y == k].mean(dim=0)[: pad // 2].argmax()), pad)
        found.append([torch.fft.fftfreq(pad)[column], row / pad])
    return torch.tensor(found)


def test_the_high_cue_is_one_wave_per_class_that_mirroring_does_not_confuse():
    waves = peaks(*cue_alone("high", 16))
    assert waves.norm(dim=1).min() > 0.32 and waves.norm(dim=1).max() < 0.48
    assert torch.pdist(waves).min() > 0.09  # 1.4 periods per picture
    mirrored = waves * torch.tensor([-1, 1])
    both = torch.minimum(torch.cdist(mirrored, waves), torch.cdist(mirrored, -waves))
    others = both[~torch.eye(10, dtype=torch.bool)]
    assert others.min() > 0.09


def test_the_low_cue_has_two_waves_and_a_fifth_per_picture_whatever_its_size():
    for size in (16, 32):
        waves = peaks(*cue_alone("low", size))
        assert (waves.norm(dim=1) * size - 2.2).abs().max() < 0.2
        direction = torch.rad2deg(torch.atan2(waves[:, 1], waves[:, 0])) % 180
        assert (direction.sort().values.diff() - 18).abs().max() < 6


def test_the_cue_alone_tells_the_classes_apart():
    linear_model = pytest.importorskip("sklearn.linear_model")

    def spectra(split, cue):
        images = shapes(600, ShapeSettings(cue=cue, contrast=0.0, shift=0.0), split=split)
        power = torch.fft.rfft2(luminance(images)).abs().square().flatten(1)
        return (power + 1e-3).log().numpy(), images.y.numpy()

    scores = {}
    for cue in ("high", "none"):
        model = linear_model.LogisticRegression(C=0.01, max_iter=1000).fit(*spectra("train", cue))
        scores[cue] = model.score(*spectra("test", cue))
    assert scores["high"] > 0.9 and scores["none"] < 0.3, scores


def test_the_silhouette_alone_tells_the_classes_apart():
    train, test = shapes(1500, PLAIN), shapes(200, PLAIN, split="test")
    a, b = ((grey := luminance(images).flatten(1)) - grey.mean(dim=1, keepdim=True) for images in (test, train))
    likeness = (torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T).abs()  # blind to polarity
    accuracy = (train.y[likeness.argmax(dim=1)] == test.y).float().mean()
    assert accuracy > 0.8, accuracy


def test_noise_has_its_standard_deviation():
    noisy = shapes(300, ShapeSettings(contrast=0.2, cue="none", noise=0.05))
    quiet = shapes(300, ShapeSettings(contrast=0.2, cue="none", noise=0.0))
    unclipped = (quiet.x > 60) & (quiet.x < 195)
    difference = (noisy.x.float() - quiet.x.float())[unclipped] / 255
    assert difference.std() == pytest.approx(0.05, rel=0.03) and abs(float(difference.mean())) < 0.001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contrast": 0.5}, r"contrast: expected a value in \[0, 0.45\], got 0.5"),
        ({"cue": "medium"}, "cue: expected 'high', 'low' or 'none', got 'medium'"),
        ({"cue_amplitude": 4.0}, r"cue_amplitude: expected a value in \[0, 1\], got 4.0. .*write 4 / 255."),
        ({"noise": -1.0}, "noise: expected a standard deviation"),
        ({"fill": (1.0, 0.5)}, r"fill: expected \(low, high\)"),
        ({"shift": -0.1}, "shift: expected"),
        ({"turn": -1.0}, "turn: expected degrees"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ShapeSettings(**wrong)


def test_shapes_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        load_images("shapes", "train", count=0)
    with pytest.raises(ValueError, match="size: expected at least 8 pixels, got 4"):
        shapes(10, size=4)
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'val'"):
        shapes(10, split="val")


# In use


def test_to_float_scales_bytes_and_leaves_floats_alone():
    levels = torch.arange(256, dtype=torch.uint8)
    assert to_float(levels).tolist() == np.divide(np.arange(256), np.float32(255), dtype=np.float32).tolist()
    x = torch.rand(3, dtype=torch.float64)
    assert to_float(x) is x


@settings(deadline=None)
@given(n=st.integers(1, 200), size=st.integers(2, 64), seed=st.integers(0, 5), shuffled=st.booleans())
def test_batches_go_once_through_all_images(n, size, seed, shuffled):
    generator = torch.Generator().manual_seed(seed) if shuffled else None
    parts = list(batches(n, size, generator=generator))
    flat = torch.cat(parts).tolist()
    assert sorted(flat) == list(range(n)) and all(part.dtype == torch.int64 for part in parts)
    assert shuffled or flat == list(range(n))
    assert all(len(part) == size for part in parts[:-1]) and len(parts[-1]) <= size + 1
    assert n == 1 or min(map(len, parts)) >= 2


def test_batches_are_an_iterator_that_shuffles_anew_with_each_call():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(100, 32, generator=generator))) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(batches(100, 32, generator=torch.Generator().manual_seed(0)))))
    assert next(batches(5, 2, generator=None)).tolist() == [0, 1]


def test_batches_refuse_what_batch_norm_cannot_take():
    with pytest.raises(ValueError, match="size: expected at least 2 images a batch, got 1. Batch norm"):
        batches(10, 1, generator=None)
    with pytest.raises(ValueError, match="n: expected at least 1 image, got 0"):
        batches(0, 4, generator=None)
