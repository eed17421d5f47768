"""The command line: its options, what it trains, how it stops and goes on, and what it says and returns."""

import importlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import advcl_nb as adv
from advcl_nb import _cli_train, _cli_work, cli
from advcl_nb._cli_commands import Computing, Evaluate, Finetune, Keeping, Pretrain, Runs
from advcl_nb._cli_options import Threat, fraction, helps, parse, written

ROOT = Path(__file__).resolve().parent.parent
DATA = ["--preset", "smoke", "--data.train", "64", "--data.test", "40"]
MODEL = ["--model.width", "4", "--model.projector", "8", "8", "--model.cluster-counts", "2", "3"]
TINY = [*DATA, *MODEL, "--batch-size", "32", "--attack.steps", "1"]  # two steps an epoch, two epochs
SIMCLR = ["pretrain", *TINY, "--method", "simclr"]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """An empty project folder, and the process in it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").touch()
    for name in ("ADVCL_PRESET", "ADVCL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(*args: str) -> object:
    return parse("advcl-nb", "", cli.commands(args), args)


def tiny_config(method: str = "advcl", epochs: int = 2) -> adv.Config:
    """What TINY says, made by hand."""
    smoke = adv.preset("smoke")
    return replace(
        smoke,
        data=replace(smoke.data, train=64, test=40),
        model=replace(smoke.model, width=4, projector=(8, 8), cluster_counts=(2, 3)),
        pretrain=replace(
            smoke.pretrain, method=method, epochs=epochs, batch_size=32, attack=adv.Linf(8 / 255, 4 / 255, 1)
        ),
    )


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def same(a: dict, b: dict) -> bool:
    """Whether two state dicts, of a model or an optimiser, are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*args: str) -> subprocess.Popen:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "advcl_nb.cli", *args]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- options


@pytest.mark.parametrize("name", adv.PRESETS)
def test_without_options_the_settings_are_the_presets(name):
    config, command = adv.preset(name), parsed("pretrain", "--preset", name)
    assert (command.settings, command.data, command.model) == (config.pretrain, config.data, config.model)
    for protocol in config.finetune:
        command = parsed("finetune", "x", "--preset", name, "--protocol", protocol)
        assert (command.settings, command.data) == (config.finetune[protocol], config.data)


def test_the_environment_names_the_preset_where_no_option_does(monkeypatch):
    assert parsed("pretrain").settings == adv.preset("teach").pretrain
    monkeypatch.setenv("ADVCL_PRESET", "cifar")
    assert parsed("pretrain").settings == adv.preset("cifar").pretrain


def test_options_of_each_kind_reach_their_fields():
    options = "--attack.norm L2 --attack.epsilon 1/2 --no-high-view --attack-mode eval --views.crop-scale 0.1 0.9"
    options += " --data.train None --data.size 8 --model.blocks 1 2 --epochs 7 --learning-rate 1e-3 --channels-last"
    command = parsed("pretrain", "--preset", "smoke", *options.split())
    smoke = adv.preset("smoke")
    attack = smoke.pretrain.attack
    assert command.settings == replace(
        smoke.pretrain,
        attack=adv.L2(0.5, attack.alpha, attack.steps),
        high_view=False,
        attack_mode="eval",
        views=replace(smoke.pretrain.views, crop_scale=(0.1, 0.9)),
        epochs=7,
        learning_rate=1e-3,
        channels_last=True,
    )
    assert command.data == replace(smoke.data, train=None, size=8)
    assert command.model == replace(smoke.model, blocks=(1, 2))


def options_of(command: type, *configs: tuple[str, type]) -> list[str]:
    """The options that a command must have: its own fields, and the configs' with their prefixes."""
    own = [("", f.name) for f in fields(command) if f.name not in ("settings", "data", "model", "attack", "run")]
    more = [(prefix, f.name) for prefix, config in configs for f in fields(config)]
    nested = ("computing", "keeping", "attack", "views", "encoder", "started", "scores")
    return [f"--{p}{name.replace('_', '-')}" for p, name in (*own, *more) if name not in nested]


RUN = (("", Computing), ("", Keeping), ("data.", adv.DataConfig))
ATTACK = ("attack.", Threat)
EXPECTED = {
    "pretrain": options_of(
        Pretrain, *RUN, ATTACK, ("", adv.PretrainConfig), ("views.", adv.ViewSettings), ("model.", adv.ModelConfig)
    ),
    "finetune": options_of(Finetune, *RUN, ATTACK, ("", adv.FinetuneConfig)),
    "evaluate": options_of(Evaluate, RUN[0], RUN[2], ATTACK),
}


@pytest.mark.parametrize("command", EXPECTED)
def test_the_help_has_every_field_with_its_default(command, capsys):
    assert cli.main([command, "--help"]) == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    missing = [option for option in EXPECTED[command] if option not in {word.rstrip(",") for word in words}]
    assert not missing and len(EXPECTED[command]) > 10
    assert words.count("(default:") >= len(EXPECTED[command])
    assert "8/255)" in words  # an attack's radius, as the field writes it


@pytest.mark.parametrize(
    "kind",
    [adv.DataConfig, adv.ModelConfig, adv.PretrainConfig, adv.FinetuneConfig, adv.ViewSettings]
    + [Threat, Computing, Keeping, Pretrain, Finetune, Evaluate, Runs],
)
def test_every_option_has_help(kind):
    bare = {f.name for f in fields(kind)} - set(helps(kind)) - {"settings", "computing", "keeping", "started"}
    assert not bare


def test_help_is_cut_from_a_docstrings_prose():
    class Tea:
        """How to make tea. water: of the spring.

        milk, sugar: how much (None: none of it); cup: any:
        also a large one.
        """

    Tea.__annotations__ = {"water": str, "milk": str, "sugar": str, "cup": str, "spoon": str}
    told = {"water": "of the spring", "cup": "any: also a large one"}
    told |= dict.fromkeys(("milk", "sugar"), "how much (None: none of it)")
    assert helps(dataclass(Tea)) == told


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_fractions_are_read_as_python_divides(a, b):
    assert fraction(f"{a}/{b}") == fraction(f"{a} / {b}") == a / b


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_back_the_same(value):
    assert fraction(written(value)) == value


def test_the_overview_lists_the_commands_and_exit_codes(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("pretrain", "finetune", "evaluate", "runs", "Exit codes", "143"))


def test_the_projects_file_installs_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["advcl-nb"].split(":")
    assert getattr(importlib.import_module(module), function) is cli.main


# ---- wrong usage

WRONG = [
    ("", "Expected one of"),
    ("train", "train"),
    ("pretrain --preset large", "preset: expected one of smoke, teach"),
    ("pretrain --epochs 1.5", "expected a whole number, got '1.5'"),
    ("pretrain --epochs 0", "epochs: expected"),
    ("pretrain --learning-rate fast", "expected a number or a fraction such as 8/255, got 'fast'"),
    ("pretrain --learning-rate 1/0", "expected a number"),
    ("pretrain --method moco", "method: expected one of simclr"),
    ("pretrain --attack.epsilon 8", "epsilon: expected a value in [0, 1], got 8.0. For 8 grey levels"),
    ("pretrain --attack.norm l1", "norm: expected one of Linf, L2"),
    ("pretrain --views.flip 2", "flip: expected"),
    ("pretrain --data.name cats", "name: expected one of shapes"),
    ("pretrain --data.size 0", "size: expected"),
    ("pretrain --nonsense 3", "nonsense"),
    ("pretrain --time-limit 0", "time_limit: expected minutes > 0"),
    ("pretrain --every 0", "every: expected"),
    ("pretrain --device tpu9", "device: expected"),
    ("pretrain --preset smoke --method simclr --pseudo-labels release", "pseudo_labels: expected own"),
    ("pretrain --preset smoke --pseudo-labels none.npy", "none.npy"),
    ("finetune", "encoder: expected a run right after the command"),
    ("finetune --epochs 3 some-run", "encoder: expected a run right after the command"),
    ("finetune none", "name: expected a run's name or file, got none"),
    ("finetune none --protocol XX", "protocol: expected one of SLF"),
    ("evaluate none", "name: expected a run's name or file"),
    ("evaluate none --count 0", "count: expected"),
    ("runs none", "name: expected a run's name or file"),
]


@pytest.mark.parametrize(("args", "message"), WRONG, ids=[args or "nothing" for args, _ in WRONG])
def test_wrong_usage_ends_with_2_and_a_sentence(args, message, capsys, project):
    assert cli.main(args.split()) == 2
    told = capsys.readouterr()
    assert message in " ".join(told.err.replace("│", " ").split()) and not told.out
    assert not (project / "runs").exists()


# ---- pretraining


def test_pretraining_leaves_what_open_or_train_would(capsys, project):
    assert cli.main(["pretrain", *TINY, "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()  # nothing else on standard output
    told, config = json.loads(line), tiny_config()
    train, _ = adv.load_data(config.data)
    assert told["path"] == str(adv.find_run(adv.run_name(config, train)))
    assert (told["step"], told["steps"], told["epoch"], told["finished"]) == (4, 4, 2.0, True)
    found = adv.open_or_train(config, train)
    assert "advcl: opened" in capsys.readouterr().out
    state = adv.PretrainState.start(config)
    rows = list(adv.pretrain_epochs(state, train, adv.own_pseudo_labels(config, train), every=1))
    assert same(found.state_dict(), state.encoder.state_dict())
    opened = adv.load(told["path"])
    assert opened.config == config and same(opened.optimizer.state_dict(), state.optimizer.state_dict())
    assert [row["loss"] for row in opened.history] == [row["loss"] for row in rows]


def test_a_finished_run_is_reported_and_not_trained_again(capsys):
    assert cli.main(SIMCLR) == 0
    [path] = Path("runs").glob("*.pt")
    before = path.read_bytes()
    for more in ([], ["--resume"]):
        assert cli.main([*SIMCLR, *more, "--json"]) == 0
        assert last_json(capsys)["finished"] and path.read_bytes() == before


def test_a_chain_of_short_jobs_makes_the_uninterrupted_run(capsys):
    command = ["pretrain", *TINY, "--json"]
    assert cli.main(command) == 0
    whole = adv.load(last_json(capsys)["path"])
    for path in Path("runs").glob("*.pt"):
        path.unlink()
    finished = []
    for number in range(10):
        resume = ["--resume"] if number else []
        assert cli.main([*command, *resume, "--time-limit", "1e-9"]) == 0
        told = last_json(capsys)
        finished.append(told["finished"])
        if told["stopped"] == "finished":
            break
    parts = adv.load(told["path"])
    assert told["of"] == "advcl" and len(finished) >= 7  # four steps of SimCLR, then four of AdvCL, a step a job
    assert same(parts.model.state_dict(), whole.model.state_dict())
    assert same(parts.optimizer.state_dict(), whole.optimizer.state_dict())
    assert [row["loss"] for row in parts.history] == [row["loss"] for row in whole.history]


def test_an_unfinished_run_is_refused_without_resume(capsys):
    assert cli.main([*SIMCLR, "--time-limit", "1e-9"]) == 0
    assert "--resume goes on" in capsys.readouterr().out
    assert cli.main(SIMCLR) == 2
    assert "Add --resume to go on" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_with_1_and_the_last_good_file(capsys):
    command = [*SIMCLR, "--optimizer", "sgd", "--learning-rate", "1e30", "--epochs", "9", "--save-every", "0"]
    assert cli.main(command) == 1
    told = capsys.readouterr().err
    [path] = Path("runs").glob("*.pt")
    kept = adv.load(path)  # all of it finite
    assert all(bool(tensor.isfinite().all()) for tensor in kept.model.state_dict().values())
    assert f"{path.resolve()}, step {kept.step}." in told and "nan" in told and f"in step {kept.step + 1}" in told
    assert "contrast nan" in told  # the loss's part


def test_a_full_disk_ends_with_1(capsys, monkeypatch):
    def refuse(state: object, path: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_cli_train, "save", refuse)
    assert cli.main(SIMCLR) == 1
    assert "No space left" in capsys.readouterr().err


def test_saves_come_when_they_are_due(monkeypatch):
    steps = []
    monkeypatch.setattr(_cli_train, "save", lambda state, path: (steps.append(state.step), adv.save(state, path)))
    assert cli.main([*SIMCLR, "--save-every", "0"]) == 0
    assert steps == [1, 2, 3, 4, 4]
    steps.clear()
    assert cli.main([*SIMCLR, "--seed", "1"]) == 0
    assert steps == [4]


def test_a_log_has_plain_lines_one_in_ten_seconds_and_the_last(capsys):
    assert cli.main([*SIMCLR, "--epochs", "9"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == ["simclr: step 1 of 18", "simclr: step 18 of 18"]
    assert len(lines) == 3 and "contrast" in lines[0] and "\r" not in told.out + told.err


def test_pseudo_labels_from_a_file_are_those_of_the_library(capsys):
    config = tiny_config()
    train, _ = adv.load_data(config.data)
    labels = torch.stack([train.y % 2, train.y % 3], 1)
    np.save("labels.npy", labels.numpy())
    assert cli.main(["pretrain", *TINY, "--pseudo-labels", "labels.npy", "--json"]) == 0
    assert Path(last_json(capsys)["path"]).stem == adv.run_name(config, train, labels)
    assert len(list(Path("runs").glob("*.pt"))) == 1  # no SimCLR was needed


# ---- fine-tuning, scores, cards


@pytest.fixture
def encoder(capsys) -> str:
    """The name of a pretrained run."""
    assert cli.main([*SIMCLR, "--json"]) == 0
    return last_json(capsys)["name"]


def test_finetuning_trains_and_scores_as_the_library_does(encoder, capsys):
    assert cli.main(["finetune", encoder, "--protocol", "AFF", "--epochs", "1", "--json", "--card"]) == 0
    told = last_json(capsys)
    config = tiny_config("simclr")
    settings = replace(config.finetune["AFF"], epochs=1)
    train, test = adv.load_data(config.data)  # the encoder's own images, without an option for them
    state = adv.FinetuneState.start(settings, adv.load_encoder(adv.find_run(encoder)), 10)
    list(adv.finetune_epochs(state, train))
    model, pgd20 = state.classifier, adv.Linf(8 / 255, 2 / 255, 20)
    opened = adv.load(told["path"])
    assert opened.config == settings and same(opened.classifier.state_dict(), model.state_dict())
    generator = adv.Streams(settings.seed)("eval")
    scores = [adv.standard_accuracy(model, test.x, test.y)]
    scores.append(adv.robust_accuracy(model, test.x, test.y, pgd20, generator=generator))
    assert [(s["metric"], s["correct"], s["n"], s["attack"]) for s in told["scores"]] == [
        (s.metric, s.correct, s.n, s.attack) for s in scores
    ]
    [card] = adv.read_cards("data/results")
    assert card.scored == scores and card.settings.finetune["AFF"] == settings and card.settings.data == config.data
    assert Path(told["card"]).is_file() and card.transfer_to is None and card.checkpoint is None


def test_finetuning_goes_on_and_scores_at_the_end(encoder, capsys):
    command = ["finetune", encoder, "--protocol", "CE", "--epochs", "2", "--json"]
    assert cli.main([*command, "--no-scores"]) == 0
    told = last_json(capsys)
    assert told["scores"] == [] and told["finished"]
    whole = adv.load(told["path"]).classifier.state_dict()
    Path(told["path"]).unlink()
    assert cli.main([*command, "--time-limit", "1e-9"]) == 0
    assert not last_json(capsys)["finished"]
    assert cli.main([*command, "--resume"]) == 0
    told = last_json(capsys)
    assert same(adv.load(told["path"]).classifier.state_dict(), whole) and len(told["scores"]) == 2


def test_a_card_of_other_images_tells_them(encoder, capsys):
    command = ["finetune", encoder, "--data.train", "50", "--card", "--note", "few labels", "--json"]
    assert cli.main([*command, "--epochs", "1"]) == 0
    [card] = adv.read_cards("data/results")
    assert card.note == "few labels, data train=50"


def test_an_encoder_file_serves_as_well_as_a_run(encoder, capsys):
    state = adv.load(adv.find_run(encoder))
    adv.save_encoder(state.encoder, "kept.pt", config=state.config, history=state.history)
    assert cli.main(["finetune", "kept.pt", "--epochs", "1", "--no-scores", "--json"]) == 0
    assert last_json(capsys)["name"].startswith("kept-SLF-")


def test_evaluate_scores_the_runs_own_images_and_keeps_the_scores(encoder, capsys):
    assert cli.main(["finetune", encoder, "--epochs", "1", "--json"]) == 0
    tuned = last_json(capsys)
    attack = ["--attack.norm", "L2", "--attack.epsilon", "0.5", "--attack.alpha", "0.2", "--attack.steps", "2"]
    assert cli.main(["evaluate", tuned["name"], *attack, "--count", "20", "--seed", "3", "--json"]) == 0
    told = last_json(capsys)
    model, (_, test) = adv.load(tuned["path"]).classifier, adv.load_data(tiny_config().data)
    x, y, threat = test.x[:20], test.y[:20], adv.L2(0.5, 0.2, 2)
    expected = [adv.standard_accuracy(model, x, y)]
    expected.append(adv.robust_accuracy(model, x, y, threat, generator=adv.Streams(3)("eval")))
    assert [(s["correct"], s["n"], s["attack"]) for s in told["scores"]] == [
        (s.correct, s.n, s.attack) for s in expected
    ]
    assert cli.main(["runs", tuned["name"], "--json"]) == 0
    kept = last_json(capsys)["scores"]
    assert kept == [*tuned["scores"], *told["scores"]]


def test_evaluate_refuses_an_encoder_and_a_run_whose_images_nobody_noted(encoder, capsys):
    assert cli.main(["evaluate", encoder]) == 2
    assert "run: expected a fine-tuned run" in capsys.readouterr().err
    assert cli.main(["finetune", encoder, "--epochs", "1", "--no-scores", "--json"]) == 0
    tuned = Path(last_json(capsys)["path"])
    tuned.with_suffix(".json").unlink()
    assert cli.main(["evaluate", str(tuned)]) == 2
    assert "data: expected the images to score on" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tuned), *DATA, "--attack.steps", "1"]) == 0


def test_finetuning_refuses_an_unfinished_encoder(capsys):
    assert cli.main([*SIMCLR, "--time-limit", "1e-9", "--json"]) == 0
    name = last_json(capsys)["name"]
    assert cli.main(["finetune", name]) == 2
    told = capsys.readouterr().err
    assert "expected a finished encoder, got 'epoch 0.5 of 2'. Go on with: advcl-nb pretrain ... --resume" in told
    assert len(list(Path("runs").glob("*.pt"))) == 1


def test_a_card_has_the_usual_scores_on_all_test_images_whatever_was_scored_before(encoder, capsys):
    tune = ["finetune", encoder, "--epochs", "1", "--json"]
    assert cli.main([*tune, "--no-scores"]) == 0
    name = last_json(capsys)["name"]
    assert cli.main(["evaluate", name, "--count", "9"]) == 0
    assert cli.main(["evaluate", name, "--attack.steps", "1"]) == 0
    assert cli.main(["evaluate", name, "--data.seed", "1", "--json"]) == 0  # as many images, but others
    assert {score["data"]["seed"] for score in last_json(capsys)["scores"]} == {1}
    assert cli.main([*tune, "--card"]) == 0
    scores = last_json(capsys)["scores"]
    usual = [("SA", None, 40), ("RA", "PGD-20, 8/255", 40)]
    [card] = adv.read_cards("data/results")
    assert [(score.metric, score.attack, score.n) for score in card.scored] == usual
    assert cli.main(tune) == 0
    assert last_json(capsys)["scores"] == scores  # from the note


def test_autoattack_keeps_a_file_for_each_evaluation_and_the_scores_before_it(encoder, capsys, monkeypatch):
    files = []

    def broken_off(*_: object, state_path: Path, **__: object) -> None:
        files.append(state_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli_work, "autoattack_accuracy", broken_off)
    assert cli.main(["finetune", encoder, "--epochs", "1", "--no-scores", "--json"]) == 0
    name = last_json(capsys)["name"]
    command = ["evaluate", name, "--autoattack", "--attack.steps", "1"]
    changes = ([], ["--count", "9"], ["--seed", "1"], ["--attack.epsilon", "1/255"], ["--attack.norm", "L2"])
    for more in (*changes, ["--data.test", "30"], []):
        assert cli.main([*command, *more]) == 130
    assert files[0] == files[-1] and len(set(files)) == len(files) - 1
    assert {path.parent.name for path in files} == {"runs"} and all(path.name.startswith(name) for path in files)
    assert cli.main(["runs", name, "--json"]) == 0
    assert {score["n"] for score in last_json(capsys)["scores"]} == {9, 30, 40}


@pytest.mark.parametrize("content", ["[1]", "{", '{"scores": [1]}', '{"scores": 1}', '{"data": {"name": "x"}}'])
def test_a_broken_note_is_named(content, encoder, capsys):
    assert cli.main(["finetune", encoder, "--epochs", "1", "--no-scores", "--json"]) == 0
    note = Path(last_json(capsys)["path"]).with_suffix(".json")
    note.write_text(content)
    for command in (["evaluate", note.stem], ["finetune", encoder, "--epochs", "1"], ["runs", note.stem]):
        assert cli.main(command) == 2
        assert f"note: expected a run's note, got {note}" in capsys.readouterr().err


def test_a_deleted_note_is_written_again(encoder, capsys):
    tune = ["finetune", encoder, "--epochs", "1", "--no-scores", "--json"]
    assert cli.main(tune) == 0
    note = Path(last_json(capsys)["path"]).with_suffix(".json")
    before = note.read_bytes()
    note.unlink()
    assert cli.main(tune) == 0
    assert note.read_bytes() == before


# ---- several processes


@pytest.mark.parametrize("args", ["finetune x", "evaluate x", "runs", "pretrain --preset smoke --download"])
def test_what_one_process_must_do_is_refused_in_several(args, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LT_CLI_USED", "1")
    assert cli.main(args.split()) == 2
    told = capsys.readouterr().err
    assert "without `fabric run`" in told or "download first with one process" in told


def test_a_clusters_rank_without_the_launcher_silences_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert cli.main([*SIMCLR, "--json"]) == 0
    assert last_json(capsys)["finished"]


# ---- the list


def test_runs_lists_runs_and_cards_and_shows_one(encoder, capsys):
    assert cli.main(["finetune", encoder, "--epochs", "1", "--card"]) == 0
    Path("runs/broken.pt").write_text("<html>")
    capsys.readouterr()
    assert cli.main(["runs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "4 of 4" in lines[encoder] and "2 of 2" in lines[encoder] and "unreadable" in lines["broken"]
    [tuned] = [line for name, line in lines.items() if name.startswith(f"{encoder}-SLF-")]
    assert "SA " in tuned and "PGD-20 " in tuned
    assert len(lines) == 5 and sum("card simclr SLF" in line for line in lines.values()) == 1
    assert cli.main(["runs", "--json"]) == 0
    names = {run["name"]: run["kind"] for run in last_json(capsys)["runs"]}
    assert sorted(names.values()) == ["card", "finetune", "pretrain", "unreadable"] and names[encoder] == "pretrain"
    assert cli.main(["runs", encoder]) == 0
    text = capsys.readouterr().out
    assert "from the preset smoke" in text and "pretrain.batch_size" in text and "last row: step 4" in text


def test_runs_of_an_empty_project_is_an_empty_table(capsys):
    assert cli.main(["runs"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


# ---- as processes


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on_as_if_uninterrupted(number, code, capsys):
    command = [*SIMCLR, "--epochs", "3000", "--json"]  # minutes, so that the signal comes before the end
    process = start(*command)
    assert any(line.startswith("simclr: step") for line in process.stderr)  # the first row is there
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    told = json.loads(out)
    assert process.returncode == code, err
    assert told["stopped"] == number.name and not told["finished"] and adv.load(told["path"]).step == told["step"] >= 1
    assert cli.main([*command, "--resume", "--time-limit", "1e-9", "--every", "3"]) == 0
    gone_on, state = adv.load(told["path"]), adv.PretrainState.start(tiny_config("simclr", 3000))
    assert gone_on.step > told["step"]
    rows = adv.pretrain_epochs(state, adv.load_data(state.config.data)[0], every=1)
    assert any(row["step"] == gone_on.step for row in rows)
    assert same(gone_on.model.state_dict(), state.model.state_dict())


def test_a_process_stops_at_its_time_limit_with_0_and_the_next_one_goes_on(capsys):
    command = [*SIMCLR, "--epochs", "3000", "--json"]
    told = []
    for more in ([], ["--resume"]):
        process = start(*command, "--time-limit", "1/60", *more)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        told.append(json.loads(out))
    assert 0 < told[0]["step"] < told[1]["step"] and {part["stopped"] for part in told} == {"time limit"}


def processor_time(*command: str) -> float:
    """Seconds of a processor that Python takes with these arguments."""
    before = os.times()
    subprocess.run([sys.executable, *command], env=ENVIRONMENT, stdout=subprocess.DEVNULL, timeout=60, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_takes_little_more_than_torch():
    assert processor_time("-m", "advcl_nb.cli", "pretrain", "--help") < 3 * processor_time("-c", "import torch")
