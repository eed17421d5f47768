"""One run in two processes (gloo, on the CPU): the same step as in one, and no hang when one of them dies."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks_script import one_step, start, to_double

from advcl_nb import pretrain

SCRIPT = Path(__file__).with_name("ranks_script.py")


def fabric_run(*arguments, timeout=120):
    """`fabric run` with two processes on the CPU."""
    command = [sys.executable, "-c", "from lightning_fabric.cli import _main; _main()", "run"]
    command += ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


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
    assert done.returncode != 0
