"""One run in two processes (gloo, on the CPU): the same step as in one, and no hang when one of them dies."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks_script import one_step, start, to_double

import advcl_nb as adv
from advcl_nb import pretrain
from advcl_nb._ranks import Ranks

SCRIPT = Path(__file__).with_name("ranks_script.py")


def fabric_run(*arguments, timeout=120, script=SCRIPT, **environment):
    """`fabric run` with two processes on the CPU."""
    command = [sys.executable, "-c", "from lightning_fabric.cli import _main; _main()", "run"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])  # tests run beside each other
    command += ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp", "--main-port", port]
    command += [str(script), *arguments]
    env = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)


@pytest.mark.parametrize("method", ["simclr", "rocl", "acl", "advcl"])
def test_two_processes_make_the_step_of_one(method, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "to_float", to_double)
    done = fabric_run(method, str(tmp_path / "step.pt"))
    assert done.returncode == 0, done.stderr[-2000:]
    found, expected = torch.load(tmp_path / "step.pt"), one_step(*start(method))
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-11), name


def test_a_killed_process_ends_the_run_with_an_error():
    done = fabric_run("simclr", "--kill", timeout=100)
    assert done.returncode != 0 and "SIGKILL" in done.stderr


def test_processes_with_other_weights_are_refused():
    done = fabric_run("simclr", "--differ", timeout=100)
    assert done.returncode != 0 and "state: expected step and weights as in process 0" in done.stderr


def test_a_batch_too_small_to_share_is_told_before_the_first_step():
    state = adv.PretrainState.start(adv.Config(pretrain=adv.PretrainConfig("simclr", batch_size=16)))
    state.ranks = Ranks(SimpleNamespace(world_size=2, global_rank=0))
    with pytest.raises(ValueError, match="images: expected a batch of 4 or more for 2 processes, got 3"):
        next(adv.pretrain_epochs(state, adv.shapes(35, size=16)))
    assert state.step == 0
    assert state.ranks.share(9) == slice(0, 4)  # the ninth is left out


def test_the_command_line_runs_in_two_processes_and_goes_on(tmp_path, monkeypatch):
    """Stopped by its time limit after a row, and resumed; one file, one answer, and the steps of one run."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    entry = tmp_path / "entry.py"
    entry.write_text("import sys\nfrom advcl_nb.cli import main\nsys.exit(main())\n")
    told = []
    for limit in ("0.0001", "60"):
        arguments = ["pretrain", "--preset", "smoke", "--method", "simclr", "--json", "--every", "1", "--resume"]
        done = fabric_run(*arguments, "--time-limit", limit, script=entry, PYTHONPATH=os.pathsep.join(sys.path))
        assert done.returncode == 0, done.stderr[-2000:]
        told.append(json.loads(done.stdout.splitlines()[-1]))
        assert sum(line.startswith("{") for line in done.stdout.splitlines()) == 1
    assert [stands["finished"] for stands in told] == [False, True]
    (file,) = (tmp_path / "runs").glob("*.pt")
    state = adv.load(file)
    assert state.step == told[1]["step"] == 4 and [row["step"] for row in state.history] == [1, 2, 3, 4]
