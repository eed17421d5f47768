"""Checkpoints: a file is a whole run or not there, damage is told, and runs are found by name and go on."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import advcl_nb as adv
from advcl_nb import _saved, checkpoint, finetune, pretrain
from advcl_nb._plain import to_plain
from advcl_nb._revive import from_plain
from advcl_nb.config import Config, FinetuneConfig, PretrainConfig

ROOT = Path(__file__).resolve().parent.parent
MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
VIEWS = adv.ViewSettings(crop_scale=(0.5, 1.0), padding=2, radius=4.0)
QUICK = adv.Linf(8 / 255, 4 / 255, 1)
IMAGES = adv.shapes(64, size=16)
PSEUDO = torch.stack([torch.arange(len(IMAGES)) % count for count in MODEL.cluster_counts], 1)
TIMES = {"images_per_second", "seconds", "seconds_left"}
STEPS = 8  # two epochs of four batches
BROKEN = (ValueError, OSError)
PRETRAINING = ("simclr", "rocl", "acl", "advcl")


def config(method="advcl", **changes):
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0, "attack": QUICK}
    data = adv.DataConfig("shapes", size=16, train=len(IMAGES), test=20)
    return Config(
        data=data, model=MODEL, pretrain=PretrainConfig(method=method, views=replace(VIEWS), **settings | changes)
    )


def start(kind, **changes):
    """A fresh run: of pretraining where `kind` is a method, else of fine-tuning with that protocol."""
    if kind in PRETRAINING:
        return adv.PretrainState.start(config(kind, **changes))
    encoder = adv.build_model(MODEL, generator=torch.Generator().manual_seed(3)).encoder
    settings = {"epochs": 2, "batch_size": 16, "milestones": (1,), "attack": QUICK, "padding": 2}
    return adv.FinetuneState.start(FinetuneConfig(kind, **settings | changes), encoder, len(IMAGES.classes))


def train(state, *, every=None, until=None, monkeypatch=None):
    """Train to the end, or be interrupted when `until` steps are done."""
    rows = (
        adv.pretrain_epochs(state, IMAGES, PSEUDO, every=every)
        if isinstance(state, adv.PretrainState)
        else adv.finetune_epochs(state, IMAGES, every=every)
    )
    if until is None:
        return list(rows)
    module = pretrain if isinstance(state, adv.PretrainState) else finetune
    name = f"{module.__name__.split('.')[-1]}_step"
    step = getattr(module, name)

    def interrupted(state, *batch):
        if state.step == until:
            raise KeyboardInterrupt
        return step(state, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, interrupted)
        list(rows)
    return None


def weights(state):
    return (state.model if isinstance(state, adv.PretrainState) else state.classifier).state_dict()


def same(a, b):
    """Whether two trees of dicts, lists and tensors are equal bit for bit, types and memory layout included."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def equal_weights(a, b):
    return same(dict(a.state_dict()), dict(b.state_dict()))


def untimed(history):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in history]


def assert_same_runs(a, b):
    assert same(dict(weights(a)), dict(weights(b)))
    assert same(a.optimizer.state_dict(), b.optimizer.state_dict())
    assert (a.step, untimed(a.history), a.config) == (b.step, untimed(b.history), b.config)
    assert same(dict(a.sums), dict(b.sums))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A finished pretraining run of two epochs, and its file's bytes."""
    state = start("advcl")
    train(state)
    return state, adv.save(state, tmp_path_factory.mktemp("saved") / "run.pt").read_bytes()


@pytest.fixture
def path(tmp_path, saved):
    """A fresh copy of the saved run's file."""
    (tmp_path / "run.pt").write_bytes(saved[1])
    return tmp_path / "run.pt"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder, as current one."""
    return enter(tmp_path / "project", monkeypatch)


def enter(folder, monkeypatch):
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "README.md").touch()
    monkeypatch.chdir(folder)
    return folder


# A file is a run


@pytest.mark.parametrize(
    ("kind", "changes", "every", "until"),
    [
        ("simclr", {}, None, 4),
        ("acl", {"optimizer": "adamw"}, 3, 5),
        ("advcl", {}, None, 6),
        ("advcl", {"optimizer": "adamw", "precision": "bfloat16", "channels_last": True}, 1, 3),
        ("SLF", {"standardize": True}, 3, 7),
        ("ALF", {"branch": "adv"}, 1, 4),
        ("AFF", {"optimizer": "adamw", "loss": "trades"}, None, 5),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, kind, changes, every, until):
    whole, broken = start(kind, **changes), start(kind, **changes)
    train(whole, every=every)
    train(broken, every=every, until=until, monkeypatch=monkeypatch)
    assert broken.step == until and bool(broken.sums) == (until % (every or 4) != 0)
    resumed = adv.load(adv.save(broken, tmp_path / "folder" / "run.pt"))
    assert type(resumed) is type(broken)
    assert_same_runs(resumed, broken)
    train(resumed, every=every)
    assert resumed.step == STEPS
    assert_same_runs(resumed, whole)
    seconds = [row["seconds"] for row in resumed.history]
    assert seconds == sorted(seconds), "the time spent goes on from the broken-off run"


def test_a_loaded_run_is_set_up_like_the_saved_one(tmp_path):
    before = start("acl", precision="bfloat16", channels_last=True)
    after = adv.load(adv.save(before, tmp_path / "run.pt"))
    assert (after.encoder.branch, after.encoder.precision) == ("adv", torch.bfloat16)
    before = start("ALF", branch="adv_pseudo")
    before.classifier.encoder.branch = "adv"
    after = adv.load(adv.save(before, tmp_path / "tuned.pt"))
    assert (after.classifier.branch, after.classifier.encoder.branch) == ("adv_pseudo", "adv")
    for a, b in zip(after.classifier.parameters(), before.classifier.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
    assert after.classifier.encoder.config == MODEL


@pytest.mark.parametrize("kind", ["advcl", "AFF"])
def test_a_file_holds_only_tensors_and_plain_types(tmp_path, monkeypatch, kind):
    def kinds(value):
        yield type(value)
        parts = [*value.items()] if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        for part in parts:
            yield from kinds(part)

    state = start(kind, optimizer="adamw")
    train(state, until=5, monkeypatch=monkeypatch)
    content = torch.load(adv.save(state, tmp_path / "run.pt"), weights_only=True)
    plain = {"dict", "OrderedDict", "list", "tuple", "str", "int", "float", "bool", "NoneType", "Tensor"}
    assert {kind.__name__ for kind in kinds(content)} <= plain
    assert content["sums"] and content["history"]


def test_reading_and_writing_leave_the_global_random_numbers_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for kind in ("advcl", "SLF"):
        adv.load(adv.save(start(kind), tmp_path / f"{kind}.pt"))
    adv.load_encoder(tmp_path / "advcl.pt")
    adv.save_encoder(start("advcl").encoder, tmp_path / "encoder.pt", config=config(), history=[])
    adv.load_encoder(tmp_path / "encoder.pt")
    assert torch.equal(torch.get_rng_state(), before)


# Encoders


def test_an_encoder_comes_out_of_a_run(path, saved):
    encoder = adv.load_encoder(path)
    assert encoder.branch == "adv" and equal_weights(encoder, saved[0].encoder)
    assert adv.load_history(path) == saved[0].history


def test_an_encoder_file_is_in_half_precision_with_branch_and_history(tmp_path, saved):
    state = saved[0]
    for branch in adv.BRANCHES:
        twin = state.encoder.copy()
        twin.branch = branch
        file = adv.save_encoder(twin, tmp_path / "encoder.pt", config=state.config, history=state.history)
        encoder = adv.load_encoder(file)
        assert encoder.branch == branch and encoder.precision == torch.float32
        for name, tensor in encoder.state_dict().items():
            truth = state.encoder.state_dict()[name]
            expected = truth.half().float() if truth.is_floating_point() else truth
            assert tensor.dtype == truth.dtype and torch.equal(tensor, expected), name
        assert adv.load_history(file) == state.history
        content = torch.load(file, weights_only=True)
        assert {t.dtype for t in content["weights"].values()} == {torch.float16, torch.int64}
        assert from_plain(Config, content["config"]) == state.config


def test_each_kind_of_file_names_the_function_that_reads_it(tmp_path, saved):
    encoder = adv.save_encoder(saved[0].encoder, tmp_path / "encoder.pt", config=config(), history=[])
    with pytest.raises(ValueError, match="load_encoder"):
        adv.load(encoder)
    with pytest.raises(ValueError, match=r"finetune.*Use load\."):
        adv.load_encoder(adv.save(start("SLF"), tmp_path / "tuned.pt"))


# All or nothing


def half_a_save(content, file):
    buffer = io.BytesIO()
    pickle.dump(str(content), buffer)
    file.write(buffer.getvalue()[:100])
    raise OSError("no space left")


def interrupted_replace(source, target):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name", "failure", "error"),
    [
        (torch, "save", half_a_save, OSError),
        (os, "replace", interrupted_replace, KeyboardInterrupt),
        (os, "fsync", lambda file: (_ for _ in ()).throw(OSError("disk")), OSError),
    ],
    ids=["torch.save", "os.replace", "os.fsync"],
)
def test_a_write_that_fails_leaves_the_old_file_whole_and_no_other(
    path, saved, monkeypatch, module, name, failure, error
):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failure)
        for write in (
            lambda: adv.save(start("simclr"), path),
            lambda: adv.save_encoder(saved[0].encoder, path, config=config(), history=[]),
            lambda: adv.save(start("simclr"), path.with_name("new.pt")),
        ):
            with pytest.raises(error):
                write()
            assert path.read_bytes() == saved[1] and os.listdir(path.parent) == [path.name]
    adv.save(start("simclr"), path)
    assert os.listdir(path.parent) == [path.name] and adv.load(path).config == config("simclr")


WRITER = """
import sys
import advcl_nb as adv

seed, path = int(sys.argv[1]), sys.argv[2]
model = adv.ModelConfig(width=4 * seed, blocks=(1,), projector=(16, 8), cluster_counts=(2, 5))
state = adv.PretrainState.start(adv.Config(model=model, pretrain=adv.PretrainConfig(seed=seed)))
print("ready", flush=True)
for _ in range(40):
    adv.save(state, path)
"""


def in_a_process(program, *arguments, **options):
    """Start a program in a process of its own, without the tests' run-time type checks."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_two_processes_that_write_one_file_never_leave_it_broken(tmp_path):
    file, seen = tmp_path / "run.pt", set()
    writers = [in_a_process(WRITER, seed, file) for seed in (1, 2)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            state = adv.load(file)  # whole at any moment: a model of one seed's width with its config
            assert state.model.config.width == 4 * state.settings.seed
            seen.add(state.settings.seed)
    assert [writer.wait() for writer in writers] == [0, 0], writers[0].stderr.read() + writers[1].stderr.read()
    assert seen  # the reader was there while they wrote
    assert os.listdir(tmp_path) == ["run.pt"]


FULL = """
import resource, sys
import advcl_nb as adv
from pathlib import Path

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50_000,) * 2)  # the system refuses to write on
larger = adv.ModelConfig(width=32, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
for target in (path, path.with_name("new.pt")):
    try:
        adv.save(adv.PretrainState.start(adv.Config(model=larger)), target)
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_where_the_system_has_no_room_the_last_good_file_stays(path, saved):
    process = in_a_process(FULL, path)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [name in line for name, line in zip(("run.pt", "new.pt"), said.splitlines(), strict=True)] == [True, True]
    assert said.count("nothing was written") == 2
    assert path.read_bytes() == saved[1] and os.listdir(path.parent) == [path.name]


def test_a_disk_that_gives_back_other_bytes_is_told(path, saved, monkeypatch):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read(file)[:-1] + b"?")
    with pytest.raises(OSError, match=r"other bytes came back .*run\.pt"):
        adv.save(start("simclr"), path)
    monkeypatch.undo()
    assert path.read_bytes() == saved[1] and os.listdir(path.parent) == [path.name]


def test_what_killed_saves_left_is_swept_an_hour_later(path):
    old, new, other = (path.with_name(f".{name}.partial") for name in ("run.pt.1", "run.pt.2", "another.pt.1"))
    for file in (old, new, other):
        file.touch()
    for file in (old, other):
        os.utime(file, (time.time() - 3700,) * 2)
    adv.save(start("simclr"), path)
    assert set(path.parent.iterdir()) == {path, new, other}


@pytest.mark.parametrize("kind", ["simclr", "SLF"])
def test_a_run_that_has_diverged_does_not_replace_the_last_good_file(tmp_path, kind):
    state = start(kind)
    file = adv.save(state, tmp_path / "run.pt")
    before = file.read_bytes()
    next(iter(weights(state).values())).flatten()[0] = torch.nan
    with pytest.raises(ValueError, match="state: expected finite numbers, got .*lower learning rate"):
        adv.save(state, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("loaded", [False, True])
def test_a_loss_that_is_not_finite_names_step_parts_and_the_last_good_file(tmp_path, loaded):
    state = start("advcl")
    file = adv.save(state, tmp_path / "run.pt")
    if loaded:
        state = adv.load(file)
    steps = adv.pretrain_epochs(state, IMAGES, PSEUDO, every=2)
    next(steps)
    with torch.no_grad():
        state.model.heads[0].bias.fill_(torch.inf)
    with pytest.raises(
        FloatingPointError, match=r"got loss nan, contrast \S+, pseudo nan in steps 3 to 4\. Load .*run"
    ):
        next(steps)
    assert adv.load(file).step == 0
    fresh = start("simclr", learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"in step 2\. No checkpoint was saved"):
        list(adv.pretrain_epochs(fresh, IMAGES, every=1))


# An interrupt at any moment


def interrupt(patch, at):
    """Raise KeyboardInterrupt at moment number `at`: before and after each call that a step is made of."""
    moments = itertools.count()

    def moment():
        if next(moments) == at:
            raise KeyboardInterrupt

    def watched(function, after):
        def call(*arguments, **options):
            moment()
            result = function(*arguments, **options)
            if after:
                moment()
            return result

        return call

    for owner, name in ((adv.Encoder, "forward"), (torch.autograd, "grad"), (torch.Tensor, "backward")):
        patch.setattr(owner, name, watched(getattr(owner, name), after=True))
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        patch.setattr(optimizer, "step", watched(optimizer.step, after=False))


SHORT = {"epochs": 1, "batch_size": 32}  # two steps
RUNS = [
    ("simclr", SHORT | {"optimizer": "adamw"}),
    ("rocl", SHORT),
    ("acl", SHORT),
    ("advcl", SHORT),
    ("advcl", SHORT | {"bn_updates": "once", "attack_mode": "train"}),
    ("SLF", SHORT),
    ("AFF", SHORT | {"loss": "trades"}),
    ("AdvCore", SHORT | {"contrast_dim": 8}),
]


def model_of(state):
    return state.model if isinstance(state, adv.PretrainState) else state.classifier


def assert_as_before_a_step(state, flags):
    model = model_of(state)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert isinstance(state, adv.FinetuneState) or all(module.training for module in model.modules())


@pytest.mark.parametrize(("kind", "changes"), RUNS)
def test_a_step_interrupted_anywhere_before_the_update_is_made_again_bit_for_bit(monkeypatch, kind, changes):
    whole = start(kind, **changes)
    flags = [parameter.requires_grad for parameter in model_of(whole).parameters()]
    train(whole)
    for at in itertools.count():
        state = start(kind, **changes)
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            interrupt(patch, at)
            train(state)
        if state.step == whole.step:  # there was no such moment: it came through
            break
        assert_as_before_a_step(state, flags)
        train(state)
        assert_same_runs(state, whole)
    assert at >= 6


@pytest.mark.parametrize(("kind", "changes"), [("simclr", SHORT), ("advcl", SHORT), ("AFF", SHORT)])
def test_an_interrupt_within_the_backward_pass_leaves_no_half_of_a_gradient(kind, changes):
    whole, state = start(kind, **changes), start(kind, **changes)
    flags = [parameter.requires_grad for parameter in model_of(state).parameters()]
    train(whole)

    def stop(gradient):
        raise KeyboardInterrupt

    encoder = model_of(state).encoder
    hook = encoder.blocks[0].conv1.weight.register_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train(state)
    hook.remove()
    assert_as_before_a_step(state, flags)
    train(state)
    assert_same_runs(state, whole)


@pytest.mark.parametrize("kind", ["advcl", "SLF"])
def test_an_interrupt_right_after_the_update_leaves_a_state_that_goes_on(monkeypatch, kind):
    state = start(kind, **SHORT)
    update = torch.optim.SGD.step

    def updated(*arguments):
        update(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.SGD, "step", updated)
        train(state)
    assert state.step == 0
    train(state)
    assert state.step == 2 and all(tensor.isfinite().all() for tensor in weights(state).values())


# Damaged and foreign files


def readers(path):
    return [lambda: adv.load(path), lambda: adv.load_encoder(path), lambda: adv.load_history(path)]


def test_a_truncated_file_is_refused(path, saved):
    for part in range(20):
        path.write_bytes(saved[1][: len(saved[1]) * part // 20])
        for read in readers(path):
            with pytest.raises(BROKEN):
                read()
    path.write_bytes(saved[1][:-1])
    with pytest.raises(BROKEN):
        adv.load(path)


def payloads(data):
    """Where each part of a zip file has its bytes: (first, length), from the zip format's local headers."""
    for part in zipfile.ZipFile(io.BytesIO(data)).infolist():
        name, extra = struct.unpack("<HH", data[part.header_offset + 26 : part.header_offset + 30])
        yield part.header_offset + 30 + name + extra, part.file_size


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def test_a_flipped_byte_in_any_part_of_the_file_is_refused(path, saved):
    parts = [(first, length) for first, length in payloads(saved[1]) if length]
    assert len(parts) > len(weights(saved[0]))
    for first, length in parts:
        path.write_bytes(flipped(saved[1], first + length // 2))
        with pytest.raises(BROKEN):
            adv.load_history(path)


def test_a_flipped_byte_anywhere_is_refused_or_harmless(path, saved):
    positions = random.Random(0).sample(range(len(saved[1])), 80)
    refused = 0
    for position in positions:
        path.write_bytes(flipped(saved[1], position))
        try:
            state = adv.load(path)
        except BROKEN:
            refused += 1
        else:  # it was in the padding between the parts
            assert_same_runs(state, saved[0])
    assert refused > 20


def test_a_flipped_bit_in_the_files_own_bookkeeping_is_refused_or_harmless(path, saved):
    data, draw = saved[1], random.Random(0)
    directory = zipfile.ZipFile(io.BytesIO(data)).start_dir
    header = next(payloads(data))[0]
    regions = [range(header), range(directory, len(data) - 100), range(len(data) - 100, len(data))]
    refused = 0
    for position in [position for region in regions for position in draw.sample(region, min(len(region), 40))]:
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << draw.randrange(8)]) + data[position + 1 :])
        try:
            state = adv.load(path)
        except BROKEN:
            refused += 1
        else:  # it was a date, or another word that no reader needs
            assert_same_runs(state, saved[0])
    assert refused > 40


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo > '{self.marker}'",)


def saved_bytes(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def foreign_files():
    array = io.BytesIO()
    np.savez(array, a=np.arange(3))
    yield "empty", b""
    yield "text", b"expected nothing, got a poem\n" * 40
    yield "array", array.getvalue()
    yield "tensor", saved_bytes(torch.zeros(3))
    yield "state dict", saved_bytes(torch.nn.Linear(2, 2).state_dict())
    yield "old torch", saved_bytes({"format": _saved.FORMAT}, _use_new_zipfile_serialization=False)
    yield "other format", saved_bytes({"format": "advcl_nb/0", "kind": "pretrain", "weights": {}, "history": []})
    yield "newer format", saved_bytes({"format": "advcl_nb/2", "kind": "pretrain", "weights": {}, "history": []})
    yield "HTML", b"<!DOCTYPE html><html><body>404: Not Found</body></html>"
    yield "nothing in it", saved_bytes({"format": _saved.FORMAT})
    whole = {"format": _saved.FORMAT, "kind": "pretrain", "config": {}, "weights": {}, "history": []}
    yield "run without its optimizer", saved_bytes(whole | {"step": 0, "sums": {}})
    yield "pickle", pickle.dumps({"format": _saved.FORMAT})


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in foreign_files()])
def test_a_foreign_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "foreign.pt").write_bytes(content)
    for read in readers(tmp_path / "foreign.pt"):
        with pytest.raises(ValueError, match="path: expected .*got"):
            read()


def trusting_load(data):
    return torch.load(io.BytesIO(data), weights_only=False)


def test_a_newer_format_says_to_update(tmp_path):
    (tmp_path / "newer.pt").write_bytes(saved_bytes({"format": "advcl_nb/2"}))
    with pytest.raises(ValueError, match="expected a file of format advcl_nb/1, got 'advcl_nb/2'.*update advcl_nb"):
        adv.load(tmp_path / "newer.pt")


def test_parts_that_do_not_fit_together_are_told(path, saved):
    content = torch.load(path, weights_only=True)
    name, tensor = next((name, tensor) for name, tensor in content["weights"].items() if tensor.ndim == 4)
    changes = [
        {"weights": {}},
        {"weights": content["weights"] | {name: tensor[:1]}},
        {"optimizer": {}},
        {"config": []},
        {"kind": "finetune", "classes": 2, "model": {}, "encoder_branch": "adv"},
    ]
    for change in changes:
        torch.save(content | change, path)
        with pytest.raises(ValueError, match="expected .* got"):
            adv.load(path)


@pytest.mark.parametrize(
    ("wrap", "unwrap"), [(pickle.dumps, pickle.loads), (saved_bytes, trusting_load)], ids=["pickle", "torch"]
)
def test_no_code_in_a_file_is_run(tmp_path, wrap, unwrap):
    marker, file = tmp_path / "marker", tmp_path / "run.pt"
    file.write_bytes(wrap({"format": _saved.FORMAT, "kind": "pretrain", "history": Malicious(marker)}))
    for read in readers(file):
        with pytest.raises(ValueError, match="damaged or of another program"):
            read()
    assert not marker.exists()
    unwrap(file.read_bytes())
    assert marker.exists(), "the file would have run its command"


def test_no_module_trusts_a_pickle():
    """Every torch.load reads weights alone, and the one unpickler admits numpy's arrays by name (see test_release)."""
    sources = {file: file.read_text() for file in (ROOT / "advcl_nb").rglob("*.py")}
    loads = [line for text in sources.values() for line in text.splitlines() if "torch.load(" in line]
    assert len(loads) >= 2 and all("weights_only=True" in line for line in loads)
    forbidden = re.compile(r"pickle\.loads?\(|weights_only=False|allow_pickle=True|\beval\(|\bexec\(|joblib|shelve")
    trusting = [file.name for file, text in sources.items() if forbidden.search(re.sub(r"\.eval\(\)", "", text))]
    assert trusting == []
    assert [file.name for file, text in sources.items() if "Unpickler" in text] == ["release.py"]


OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    raise AssertionError(f"the network was asked for: {arguments}")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
import advcl_nb as adv

for name in dir(adv):
    getattr(adv, name)  # figures and explorers load when they are first asked for
config = adv.preset("smoke")
train, test = adv.load_data(config.data)
adv.load_images("digits", "test")
state = adv.PretrainState.start(config)
features = adv.extract_features(state.encoder, train.x[:16])
adv.pretrain_step(state, train.x[:16], adv.pseudo_labels(features, (2, 5, 10), seed=0))
adv.load(adv.save(state, sys.argv[1]))
print("offline")
"""


def test_nothing_asks_for_the_network(tmp_path):
    process = in_a_process(OFFLINE, tmp_path / "run.pt", cwd=tmp_path)
    said, errors = process.communicate()
    assert said == "offline\n", errors[-2000:]


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    for read in readers(tmp_path / "none.pt"):
        with pytest.raises(FileNotFoundError, match="none.pt"):
            read()
    for read in readers(tmp_path):
        with pytest.raises(OSError):
            read()


# Names


def changed(base, part, **changes):
    return replace(base, **{part: replace(getattr(base, part), **changes)})


def test_equal_configs_have_one_name():
    assert config().pretrain.views.radius == 4.0
    name = adv.run_name(config(), IMAGES)
    assert name == adv.run_name(config(), IMAGES)
    assert name == adv.run_name(from_plain(Config, json.loads(json.dumps(to_plain(config())))), IMAGES)
    assert name.startswith("shapes-advcl-") and len(name) == len("shapes-advcl-") + 10
    whole = config()
    object.__setattr__(whole.pretrain.views, "radius", 4)  # as a reader may write it; the tests' type check would not
    assert whole == config() and adv.run_name(whole, IMAGES) == name


def test_a_name_tells_apart_what_makes_another_encoder():
    base = config()
    others = [
        (changed(base, "data", name="digits"), IMAGES, None),
        (changed(base, "data", size=17), IMAGES, None),
        (changed(base, "data", train=63), IMAGES, None),
        (changed(base, "data", seed=1), IMAGES, None),
        (changed(base, "model", width=5), IMAGES, None),
        (changed(base, "model", cluster_counts=(2, 6)), IMAGES, None),
        (changed(base, "pretrain", method="acl"), IMAGES, None),
        (changed(base, "pretrain", seed=1), IMAGES, None),
        (changed(base, "pretrain", high_view=False), IMAGES, None),
        (changed(base, "pretrain", pseudo_weight=0.0), IMAGES, None),
        (changed(base, "pretrain", attack=adv.Linf(8 / 255, 4 / 255, 2)), IMAGES, None),
        (changed(base, "pretrain", attack=adv.L2(8 / 255, 4 / 255, 1)), IMAGES, None),
        (changed(base, "pretrain", views=replace(VIEWS, radius=3.0)), IMAGES, None),
        (base, IMAGES[:63], None),
        (base, adv.shapes(64, size=17), None),
        (base, IMAGES, PSEUDO),
        (base, IMAGES, PSEUDO.flip(0)),
    ]
    names = [adv.run_name(base, IMAGES), *(adv.run_name(*other) for other in others)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", ["simclr", "acl", "advcl"])
def test_a_name_does_not_depend_on_what_comes_after_pretraining(method):
    base = config(method)
    tuned = {"AFF": FinetuneConfig("AFF", epochs=3)}
    name = adv.run_name(base, IMAGES)
    assert name == adv.run_name(replace(base, finetune=tuned), IMAGES)
    assert name == adv.run_name(changed(base, "data", test=7), IMAGES)
    assert name == adv.run_name(base, adv.Images(IMAGES.x, IMAGES.y.flip(0), IMAGES.classes))


def test_pseudo_labels_count_by_content_where_they_are_used():
    assert adv.run_name(config(), IMAGES, PSEUDO) == adv.run_name(config(), IMAGES, PSEUDO.T.contiguous().T)
    for unused in (config("simclr"), config("acl"), config(pseudo_weight=0.0)):
        assert adv.run_name(unused, IMAGES, PSEUDO) == adv.run_name(unused, IMAGES)


OTHER = {
    "attack": adv.Linf(4 / 255, 1 / 255, 3),
    "attack_mode": "train",
    "bn_updates": "once",
    "high_view": False,
    "pseudo_weight": 0.7,
}


@pytest.mark.parametrize(
    ("method", "field"), [(m, field) for m, unused in checkpoint.UNUSED.items() for field in unused]
)
def test_a_field_outside_the_name_changes_no_weight(method, field):
    other = {field: OTHER[field]}
    assert adv.run_name(config(method), IMAGES) == adv.run_name(config(method, **other), IMAGES)
    a, b = start(method), start(method, **other)
    for state in (a, b):
        adv.pretrain_step(state, IMAGES.x[:16])
    assert equal_weights(a.model, b.model)


# Open or train


def no_training(*_, **__):
    raise AssertionError("trained again")


def test_a_config_is_trained_once_and_then_opened(project, monkeypatch, capsys):
    direct = start("acl")
    train(direct)
    file = project / "runs" / f"{adv.run_name(config('acl'), IMAGES)}.pt"
    before = torch.get_rng_state()
    encoder = adv.open_or_train(config("acl"), IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    said = capsys.readouterr().out
    assert "acl: trained in" in said and f"runs/{file.name}" in said
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert equal_weights(encoder, direct.encoder) and encoder.branch == "adv"

    monkeypatch.setattr(checkpoint, "pretrain_epochs", no_training)
    (project / "notebooks").mkdir()
    for folder in (project, project / "notebooks"):
        monkeypatch.chdir(folder)
        again = adv.open_or_train(changed(config("acl"), "data", test=7), IMAGES)
        assert equal_weights(again, encoder) and again.branch == "adv"
        assert capsys.readouterr().out == f"acl: opened runs/{file.name}\n"


def test_advcl_makes_its_own_pseudo_labels_from_simclr_first(project, monkeypatch):
    encoder = adv.open_or_train(config(), IMAGES)
    names = {adv.run_name(config(method), IMAGES) for method in ("simclr", "advcl")}
    assert {file.stem for file in (project / "runs").iterdir()} == names
    direct = start("advcl")
    list(adv.pretrain_epochs(direct, IMAGES, adv.own_pseudo_labels(config(), IMAGES)))
    assert equal_weights(encoder, direct.encoder)
    monkeypatch.setattr(checkpoint, "own_pseudo_labels", no_training)
    assert equal_weights(adv.open_or_train(config(), IMAGES), encoder)


def broken_off_after(rows):
    def stop(*arguments):
        for count, row in enumerate(pretrain.pretrain_epochs(*arguments), 1):
            yield row
            if count == rows:
                raise KeyboardInterrupt

    return stop


def test_a_run_that_was_broken_off_goes_on(project, monkeypatch, capsys):
    longer = config(epochs=4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "pretrain_epochs", broken_off_after(2))
        adv.open_or_train(longer, IMAGES, PSEUDO)
    file = adv.find_run(adv.run_name(longer, IMAGES, PSEUDO))
    assert adv.load(file).step == 2 * 4
    encoder = adv.open_or_train(longer, IMAGES, PSEUDO)
    assert "trained" in capsys.readouterr().out
    assert adv.load(file).step == 4 * 4 and len(adv.load_history(file)) == 4
    direct = start("advcl", epochs=4)
    train(direct)
    assert equal_weights(encoder, direct.encoder)


def test_runs_come_before_checkpoints_and_these_before_the_package(project, monkeypatch, capsys, tmp_path):
    name = adv.run_name(config("simclr"), IMAGES)
    package = tmp_path / "package"
    folders = [project / "runs", project / "data" / "checkpoints", package / "_checkpoints"]
    (package / "_checkpoints").mkdir(parents=True)
    (package / "_checkpoints" / "__init__.py").touch()
    monkeypatch.setattr(adv, "__path__", [str(package), *adv.__path__])
    monkeypatch.setitem(sys.modules, "advcl_nb._checkpoints", None)  # so that it is put back at the end
    del sys.modules["advcl_nb._checkpoints"]
    monkeypatch.setattr(checkpoint, "pretrain_epochs", no_training)
    assert adv.find_run(name) is None
    for number, folder in reversed(list(enumerate(folders))):
        encoder = adv.build_model(MODEL, generator=torch.Generator().manual_seed(number)).encoder
        file = adv.save_encoder(encoder, folder / f"{name}.pt", config=config("simclr"), history=[])
        assert adv.find_run(name) == file
        opened = adv.open_or_train(config("simclr"), IMAGES)
        assert torch.equal(opened.stem.weight, encoder.stem.weight.half().float())
        assert capsys.readouterr().out.startswith("simclr: opened ")


def test_a_damaged_run_is_told_and_kept(project, saved):
    file = project / "runs" / f"{adv.run_name(config(), IMAGES, PSEUDO)}.pt"
    file.parent.mkdir()
    file.write_bytes(saved[1][:-1000])
    with pytest.raises(ValueError, match=file.name):
        adv.open_or_train(config(), IMAGES, PSEUDO)
    assert file.read_bytes() == saved[1][:-1000]


def test_own_pseudo_labels_use_the_images_alone(tmp_path, monkeypatch):
    results = []
    for number, y in enumerate((IMAGES.y, IMAGES.y.flip(0), torch.full_like(IMAGES.y, -1))):
        enter(tmp_path / str(number), monkeypatch)  # each project trains its own SimCLR
        results.append(adv.own_pseudo_labels(config(), adv.Images(IMAGES.x, y, IMAGES.classes)))
    labels = results[0]
    assert labels.shape == (len(IMAGES), 2) and labels.dtype == torch.int64
    assert [set(column.tolist()) for column in labels.T] == [set(range(2)), set(range(5))]
    assert all(torch.equal(other, labels) for other in results[1:])


def test_images_of_your_own_count_by_their_pixels():
    own = changed(config(), "data", name="mine")
    negative = adv.Images(255 - IMAGES.x, IMAGES.y, IMAGES.classes)
    assert adv.run_name(own, IMAGES) != adv.run_name(own, negative)
    assert adv.run_name(config(), IMAGES) == adv.run_name(config(), negative)
