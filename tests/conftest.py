"""Shared fixtures, and run-time shape checks: the hook must stand before anything imports advcl_nb."""

from pathlib import Path

import jaxtyping
import pytest
import torch

# The tower: an int is a float to a type checker, as PEP 484 says.
jaxtyping.install_import_hook("advcl_nb", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The folder that holds real CIFAR-10; a test that asks for it skips where there is none."""
    from advcl_nb.data import data_root

    root = data_root()
    if not (root / "cifar-10-batches-py" / "data_batch_1").is_file():
        pytest.skip(f"needs CIFAR-10, and {root} holds no cifar-10-batches-py: get it with `make data`")
    return root


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `-m cifar` select the tests that ask for real images."""
    for item in items:
        if "cifar_root" in getattr(item, "fixturenames", ()):
            item.add_marker("cifar")
