"""The release's files: checkpoints in its key layout, written here from its description, and its pseudo-labels."""

from __future__ import annotations

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import advcl_nb as adv
from advcl_nb.data import data_root
from advcl_nb.release import LABELS_FILE

COUNTS = (2, 10, 50, 100, 500)
SMALL = adv.ModelConfig(width=4, blocks=(2, 1), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(12, size=16).x


def release_layout(config, *, branches=3, classes=7, seed=0):
    """A state dict with the release's keys and shapes, every tensor random, so that no two are alike."""
    generator, weights = torch.Generator().manual_seed(seed), {}

    def put(key, *shape):
        weights[key] = torch.randn(shape, generator=generator) / (max(shape[1:], default=1) ** 0.5)

    def linear(key, inputs, outputs):
        put(f"{key}.weight", outputs, inputs)
        put(f"{key}.bias", outputs)

    def norm(key, width):
        put(f"{key}.weight", width)
        put(f"{key}.bias", width)
        put(f"{key}.running_mean", width)
        weights[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        weights[f"{key}.num_batches_tracked"] = torch.tensor(len(weights))

    def branch_norm(key, width):
        for branch in range(branches):
            norm(f"{key}.bn_list.{branch}", width)

    def head(name, hidden, outputs, inputs):
        linear(f"{name}.0", inputs, hidden)
        norm(f"{name}.1", hidden)
        linear(f"{name}.3", hidden, outputs)

    inputs = config.width
    put("conv1.weight", inputs, config.channels, 3, 3)
    branch_norm("bn1", inputs)
    for layer, depth in enumerate(config.blocks, 1):
        width = config.width * 2 ** (layer - 1)
        for block in range(depth):
            key = f"layer{layer}.{block}"
            put(f"{key}.conv1.weight", width, inputs, 3, 3)
            branch_norm(f"{key}.bn1", width)
            put(f"{key}.conv2.weight", width, width, 3, 3)
            branch_norm(f"{key}.bn2", width)
            if inputs != width:
                put(f"{key}.downsample.conv.weight", width, inputs, 1, 1)
                branch_norm(f"{key}.downsample.bn", width)
            inputs = width
    hidden, outputs = config.projector
    head("head_proj", hidden, outputs, inputs)
    head("head_pred", outputs, outputs, outputs)
    head("head_ce", hidden, classes, inputs)
    for count in config.cluster_counts:
        linear(f"fc_{count:03d}", inputs, count)
    return weights


def batch_norm(x, weights, key):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var, gamma, beta = (
        weights[f"{key}.{name}"].view(shape) for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gamma + beta


def release_features(weights, x, branch):
    """The release's encoder in eval mode, from its keys alone: 3x3 stem of stride 1, basic blocks, mean over pixels."""

    def norm(x, key):
        return batch_norm(x, weights, f"{key}.bn_list.{branch}")

    x = F.relu(norm(F.conv2d(x, weights["conv1.weight"], padding=1), "bn1"))
    blocks = dict.fromkeys(key.rsplit(".conv1", 1)[0] for key in weights if key.startswith("layer") and ".conv1" in key)
    for key in blocks:
        stride = 2 if key.endswith(".0") and not key.startswith("layer1.") else 1
        y = F.relu(norm(F.conv2d(x, weights[f"{key}.conv1.weight"], stride=stride, padding=1), f"{key}.bn1"))
        y = norm(F.conv2d(y, weights[f"{key}.conv2.weight"], padding=1), f"{key}.bn2")
        if f"{key}.downsample.conv.weight" in weights:
            x = norm(F.conv2d(x, weights[f"{key}.downsample.conv.weight"], stride=stride), f"{key}.downsample.bn")
        x = F.relu(x + y)
    return x.flatten(2).mean(2)


def release_embedding(weights, features):
    x = F.linear(features, weights["head_proj.0.weight"], weights["head_proj.0.bias"])
    x = F.relu(batch_norm(x, weights, "head_proj.1"))
    x = F.linear(x, weights["head_proj.3.weight"], weights["head_proj.3.bias"])
    return x / x.norm(dim=1, keepdim=True)


def modules_by_release_key(model):
    """Each key prefix of the release beside our module of the same meaning."""
    yield "conv1", model.encoder.stem
    yield "head_proj.0", model.projector[0]
    yield "head_proj.1", model.projector[1]
    yield "head_proj.3", model.projector[3]
    for count, head in zip(model.config.cluster_counts, model.heads, strict=True):
        yield f"fc_{count:03d}", head
    norms, blocks = {"bn1": model.encoder.stem_norm}, iter(model.encoder.blocks)
    for layer, depth in enumerate(model.config.blocks, 1):
        for index in range(depth):
            key, block = f"layer{layer}.{index}", next(blocks)
            yield f"{key}.conv1", block.conv1
            yield f"{key}.conv2", block.conv2
            norms |= {f"{key}.bn1": block.norm1, f"{key}.bn2": block.norm2}
            if block.shortcut is not None:
                yield f"{key}.downsample.conv", block.shortcut
                norms[f"{key}.downsample.bn"] = block.shortcut_norm
    for key, norm in norms.items():
        for number, branch in enumerate(("clean", "adv", "adv_pseudo")):  # the release's normal, pgd, pgd_ce
            yield f"{key}.bn_list.{number}", norm.branches[branch]


def assert_loaded(model, weights):
    """Every tensor of our model is the release's of the same meaning; returns how many there are."""
    seen = {}
    for key, module in modules_by_release_key(model):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, weights[f"{key}.{name}"]), f"{key}.{name}"
            seen[f"{key}.{name}"] = tensor
    assert len(seen) == len(model.state_dict())
    return len(seen)


def unused(weights):
    return {key for key in weights if key.startswith(("head_pred", "head_ce"))}


def write(tmp_path, content):
    torch.save(content, tmp_path / "epoch_1000.ckpt")
    return tmp_path / "epoch_1000.ckpt"


# Checkpoints


def test_the_published_network_loads_whole(tmp_path):
    weights = release_layout(adv.ModelConfig(), classes=1000)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    trained = {key: tensor for key, tensor in weights.items() if not key.endswith(statistics)}
    assert len(weights) == 357 and sum(t.numel() for t in trained.values()) == 12_666_942  # as in the release
    encoder = [t.numel() for k, t in trained.items() if k.startswith(("conv", "bn", "layer")) and ".bn_list." not in k]
    branch = [t.numel() for k, t in trained.items() if ".bn_list.1." in k]
    assert (sum(branch), sum(encoder) + sum(branch)) == (9_600, 11_168_832)
    content = {
        "model": {f"module.{k}": t for k, t in weights.items()},
        "epoch": 1000,
        "rng_state": torch.get_rng_state(),
    }
    loaded = adv.load_release_checkpoint(write(tmp_path, content))
    assert loaded.matched == assert_loaded(loaded.model, weights) == 357 - 18
    assert loaded.missing == ()
    assert set(loaded.unexpected) == {f"module.{key}" for key in unused(weights)} and len(loaded.unexpected) == 18
    assert repr(loaded) == "ReleaseCheckpoint: 339 matched, 0 missing, 18 unused"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("entry", [None, "model", "state_dict"])
def test_keys_load_with_or_without_module_and_under_either_entry(tmp_path, prefix, entry):
    weights = release_layout(SMALL)
    content = {f"{prefix}{key}": tensor for key, tensor in weights.items()}
    path = write(tmp_path, content if entry is None else {entry: content, "epoch": 7})
    before = torch.get_rng_state()
    loaded = adv.load_release_checkpoint(path, SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.matched == assert_loaded(loaded.model, weights) == len(weights) - 18
    assert loaded.missing == () and set(loaded.unexpected) == {f"{prefix}{key}" for key in unused(weights)}
    assert loaded.model.encoder.branch == "adv"


def test_state_dict_comes_before_model(tmp_path):
    first, second = release_layout(SMALL, seed=1), release_layout(SMALL, seed=2)
    loaded = adv.load_release_checkpoint(write(tmp_path, {"model": first, "state_dict": second}), SMALL)
    assert_loaded(loaded.model, second)


@pytest.mark.parametrize("blocks", [(1,), (2, 1), (1, 3, 2)])
def test_a_loaded_model_computes_what_the_release_does(tmp_path, blocks):
    config = adv.ModelConfig(width=4, blocks=blocks, projector=(16, 8), cluster_counts=(2, 5))
    weights = release_layout(config)
    model = adv.load_release_checkpoint(write(tmp_path, {"model": weights}), config).model.double().eval()
    weights = {key: tensor.double() for key, tensor in weights.items()}
    x, close = IMAGES.double() / 255, {"rtol": 1e-9, "atol": 1e-9}
    per_branch = [release_features(weights, x, number) for number in range(3)]
    for branch, features in zip(adv.BRANCHES, per_branch, strict=True):
        torch.testing.assert_close(adv.extract_features(model.encoder, x, branch=branch), features, **close)
        with torch.no_grad():
            torch.testing.assert_close(model(x, branch), release_embedding(weights, features), **close)
            logits = model.head_logits(x, branch)
        for count, ours in zip((2, 5), logits, strict=True):
            theirs = F.linear(features, weights[f"fc_{count:03d}.weight"], weights[f"fc_{count:03d}.bias"])
            torch.testing.assert_close(ours, theirs, **close)
    torch.testing.assert_close(adv.extract_features(model.encoder, x), per_branch[1], **close)
    assert (per_branch[0] - per_branch[1]).abs().max() > 0.1


def test_missing_heads_and_other_heads_are_reported_not_hidden(tmp_path):
    weights = release_layout(adv.ModelConfig(width=4, blocks=(2, 1), projector=(16, 8), cluster_counts=(2, 7, 500)))
    del weights["head_proj.3.bias"]
    loaded = adv.load_release_checkpoint(write(tmp_path, weights), SMALL)
    heads = {f"fc_{count}.{name}" for count in ("007", "500") for name in ("weight", "bias")}
    assert set(loaded.unexpected) == unused(weights) | heads
    assert set(loaded.missing) == {"projector.3.bias", "heads.1.weight", "heads.1.bias"}
    assert loaded.matched + len(loaded.unexpected) == len(weights)
    assert torch.equal(loaded.model.heads[0].weight, weights["fc_002.weight"])


def drop(key):
    return lambda weights: weights.pop(key)


def of_config(**changes):
    def swap(weights):
        config = adv.ModelConfig(
            **{"width": 4, "blocks": (2, 1), "projector": (16, 8), "cluster_counts": (2, 5)} | changes
        )
        weights.clear()
        weights.update(release_layout(config))

    return swap


def of_branches(number):
    def swap(weights):
        weights.clear()
        weights.update(release_layout(SMALL, branches=number))

    return swap


def plain_norms(weights):
    for key in [key for key in weights if ".bn_list." in key]:
        if ".bn_list.1." in key:
            weights[key.replace(".bn_list.1.", ".")] = weights[key]
        del weights[key]


TOO_FEW, TOO_MANY = "every tensor of the encoder, got", "an encoder of this config alone, got"
UNFIT = {
    "nothing": (lambda weights: weights.clear(), ["keys such as conv1.weight or module.conv1.weight"]),
    "only unused": (
        lambda weights: [weights.pop(key) for key in [*weights] if key not in unused(weights)],
        ["keys such as conv1.weight", "head_pred.0.weight"],
    ),
    "another prefix": (
        lambda weights: weights.update({f"net.{key}": weights.pop(key) for key in [*weights]}),
        ["keys such as conv1.weight", "net.conv1.weight"],
    ),
    "no stem": (drop("conv1.weight"), [TOO_FEW, "'encoder.stem.weight'"]),
    "a missing variance": (
        drop("layer2.0.bn1.bn_list.1.running_var"),
        [TOO_FEW, "'encoder.blocks.2.norm1.branches.adv.running_var'"],
    ),
    "a missing shortcut": (drop("layer2.0.downsample.conv.weight"), [TOO_FEW, "'encoder.blocks.2.shortcut.weight'"]),
    "one norm instead of three": (plain_norms, [TOO_FEW, "'encoder.stem_norm.branches.clean.weight'"]),
    "two branches": (of_branches(2), [TOO_FEW, "'encoder.stem_norm.branches.adv_pseudo.weight'"]),
    "four branches": (of_branches(4), [TOO_MANY, "bn1.bn_list.3.weight'"]),
    "one block more": (of_config(blocks=(3, 1)), [TOO_MANY, "layer1.2.conv1.weight'"]),
    "one block less": (of_config(blocks=(1, 1)), [TOO_FEW, "'encoder.blocks.1.conv1.weight'"]),
    "one stage more": (of_config(blocks=(2, 1, 1)), [TOO_MANY, "layer3.0.conv1.weight'"]),
    "one stage less": (of_config(blocks=(2,)), [TOO_FEW, "'encoder.blocks.2.conv1.weight'"]),
    "another width": (of_config(width=5), ["tensors of the model's shapes", "'encoder.stem.weight'"]),
    "grey images": (of_config(channels=1), ["tensors of the model's shapes", "'encoder.stem.weight'"]),
    "another projector": (of_config(projector=(16, 9)), ["tensors of the model's shapes", "'projector.3.weight'"]),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_reason(tmp_path, name):
    spoil, words = UNFIT[name]
    weights = release_layout(SMALL)
    spoil(weights)
    for prefix in ("", "module."):
        content = {"model": {f"{prefix}{key}": tensor for key, tensor in weights.items()}}
        with pytest.raises(ValueError) as error:
            adv.load_release_checkpoint(write(tmp_path, content), SMALL)
        for expected in [*words, "Is it a checkpoint of the release's pretraining, with this ModelConfig?"]:
            assert expected in str(error.value)


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.zeros(3), {"model": {"conv1.weight": [1.0]}}, {"epoch": 3}, {"model": {1: torch.zeros(3)}}, "text"],
    ids=["list", "tensor", "numbers", "epoch", "numbered", "string"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="path: expected a dict of tensors, or one under 'state_dict' or 'model'"):
        adv.load_release_checkpoint(write(tmp_path, content), SMALL)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo > '{self.marker}'",)


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(tmp_path):
    path = write(tmp_path, {"model": release_layout(SMALL), "epoch": Malicious(tmp_path / "marker")})
    with pytest.raises(ValueError, match="path: expected a file of plain tensors"):
        adv.load_release_checkpoint(path, SMALL)
    assert not (tmp_path / "marker").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "marker").exists(), "the file would have run its command"


def test_an_unreadable_checkpoint_is_told(tmp_path):
    path = write(tmp_path, {"model": release_layout(SMALL)})
    data = path.read_bytes()
    for content in (b"", b"not a checkpoint", data[: len(data) // 2], data[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path: expected a file of plain tensors, got .*epoch_1000.ckpt"):
            adv.load_release_checkpoint(path, SMALL)
    with pytest.raises(FileNotFoundError):
        adv.load_release_checkpoint(tmp_path / "none.ckpt", SMALL)


# Pseudo-labels


@pytest.fixture(scope="module")
def published():
    path = data_root() / LABELS_FILE
    if not path.is_file():
        pytest.skip(f"needs the AdvCL authors' {LABELS_FILE} in {data_root()}")
    return path


def test_the_published_labels_are_read_as_a_plain_pickle_reads_them(published):
    data = published.read_bytes()
    assert hashlib.sha256(data).hexdigest() == "3f9708d0084839b4a9cb3d2f0fbebf59edd191dbe0b15f0c19c0681af8dbff43"
    plain = pickle.loads(data)  # the digest says that it is the file known to be harmless
    for split, n in (("train", 50000), ("test", 10000)):
        labels = adv.load_release_pseudo_labels(published, split=split)
        assert labels.shape == (n, 5) and labels.dtype == torch.int64
        for column, count in zip(labels.T, COUNTS, strict=True):
            assert np.array_equal(column.numpy(), plain[f"pseudo_{split}_{count}"])
    some = adv.load_release_pseudo_labels(published, counts=(500, 10))
    whole = adv.load_release_pseudo_labels(published)
    assert torch.equal(some, whole[:, [4, 1]])


def test_the_published_labels_have_the_known_clusters(published):
    labels = adv.load_release_pseudo_labels(published)
    assert labels[:10, 0].tolist() == [1, 0, 0, 1, 0, 0, 1, 1, 0, 1]
    assert labels[:10, 1].tolist() == [1, 3, 8, 0, 9, 9, 4, 0, 5, 6]
    assert labels[:10, 4].tolist() == [252, 101, 146, 23, 60, 276, 90, 499, 77, 326]
    sizes = [column.bincount() for column in labels.T]
    assert sizes[0].tolist() == [20483, 29517]
    assert sizes[1].tolist() == [5526, 4101, 6074, 4137, 5366, 4322, 6868, 4995, 4007, 4604]
    assert [(int(s.min()), int(s.max())) for s in sizes[2:]] == [(387, 1613), (145, 892), (30, 198)]
    test = adv.load_release_pseudo_labels(published, split="test")
    assert test[:, 0].bincount().tolist() == [4118, 5882]
    assert (int(test[:, 4].bincount().min()), int(test[:, 4].bincount().max())) == (4, 43)


def arrays(n=30, counts=COUNTS, dtype=np.int32):
    draw = np.random.default_rng(0)
    return {
        f"pseudo_{split}_{count}": draw.integers(0, count, n if split == "train" else n // 2).astype(dtype)
        for split in ("train", "test")
        for count in counts
    }


def pickled(tmp_path, content, protocol=3):
    path = tmp_path / LABELS_FILE
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_small_pickles_of_every_protocol_are_read(tmp_path, protocol, dtype):
    content = arrays(counts=(2, 10), dtype=dtype)
    path = pickled(tmp_path, content, protocol)
    for split in ("train", "test"):
        labels = adv.load_release_pseudo_labels(path, counts=(10, 2), split=split)
        assert labels.dtype == torch.int64
        assert labels.tolist() == np.stack([content[f"pseudo_{split}_{k}"] for k in (10, 2)], 1).tolist()


def test_names_of_old_and_new_numpy_are_read(tmp_path):
    content = arrays(counts=(2,))
    for protocol, function in ((3, b"multiarray"), (5, b"numeric")):
        data = pickle.dumps(content, protocol=protocol)
        old, new = b"numpy.core." + function, b"numpy._core." + function
        assert (old in data) != (new in data)
        there, other = (new, old) if new in data else (old, new)
        if protocol == 3:  # protocol 5 writes the length of a name before it
            data = data.replace(there, other)
        else:
            data = data.replace(bytes([0x8C, len(there)]) + there, bytes([0x8C, len(other)]) + other)
            frame = int.from_bytes(data[3:11], "little") + len(other) - len(there)
            data = data[:3] + frame.to_bytes(8, "little") + data[11:]
        (tmp_path / "other.pkl").write_bytes(data)
        labels = adv.load_release_pseudo_labels(tmp_path / "other.pkl", counts=(2,))
        assert labels[:, 0].tolist() == content["pseudo_train_2"].tolist()


def test_the_default_place_is_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVCL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        adv.load_release_pseudo_labels()
    for words in (str(tmp_path / LABELS_FILE), "github.com/LijieFan/AdvCL", "adv.own_pseudo_labels"):
        assert words in str(error.value)
    pickled(tmp_path, arrays())
    assert adv.load_release_pseudo_labels().shape == (30, 5)


@pytest.mark.parametrize("protocol", [0, 2, 3, 5])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(tmp_path, protocol):
    marker = tmp_path / "marker"
    path = pickled(tmp_path, {"a": Malicious(marker), **arrays()}, protocol)
    with pytest.raises(ValueError, match="expected a pickle of numpy arrays alone") as error:
        adv.load_release_pseudo_labels(path)
    assert "system" in str(error.value) and not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file would have run its command"


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval", "builtins getattr", "numpy load", "numpy fromfile", "numpy.core.multiarray fromfile",
        "numpy._core.multiarray scalar", "numpy.core.numeric fromfile", "numpy.lib.npyio load",
        "numpy.core._multiarray_umath _reconstruct", "torch.storage _load_from_bytes", "pickle loads",
    ],
)  # fmt: skip
def test_only_what_arrays_need_is_admitted(tmp_path, name):
    path = tmp_path / "asks.pkl"
    path.write_bytes(b"\x80\x03c" + name.replace(" ", "\n").encode() + b"\n.")
    with pytest.raises(ValueError, match=f"it asks for .*{name.split()[1]}"):
        adv.load_release_pseudo_labels(path)


def changed(**columns):
    return arrays() | {f"pseudo_train_{name[1:]}": column for name, column in columns.items()}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "expected arrays .*got 'list'"),
        ({}, r"expected arrays .*got \[\]"),
        (arrays(counts=(2, 10)), "expected arrays .*pseudo_train_500.*got .*pseudo_train_10"),
        ({1: 2, "a": 3}, "expected arrays"),
        (changed(k2=np.zeros(29, np.int32)), "pseudo_train_10: expected whole numbers"),
        (changed(k10=np.full(30, 10)), "pseudo_train_10: expected whole numbers from 0 to 9, one an image"),
        (changed(k50=np.full(30, -1)), "pseudo_train_50: expected whole numbers from 0 to 49"),
        (changed(k100=np.zeros(30)), "pseudo_train_100: expected whole numbers"),
        (changed(k500=np.zeros((30, 1), int)), "pseudo_train_500: expected whole numbers"),
        (changed(k500="text"), "pseudo_train_500: expected whole numbers"),
        (arrays(n=0), "pseudo_train_2: expected whole numbers"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason):
        adv.load_release_pseudo_labels(pickled(tmp_path, content))


def test_a_damaged_pickle_and_a_wrong_split_are_told(tmp_path):
    path = pickled(tmp_path, arrays())
    with pytest.raises(ValueError, match="split: expected one of train, test, got 'val'"):
        adv.load_release_pseudo_labels(path, split="val")
    data = path.read_bytes()
    for content in (b"", b"text", data[: len(data) // 2], data[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"got {path}"):
            adv.load_release_pseudo_labels(path)
