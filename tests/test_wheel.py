"""Away from a clone: a wheel in another environment has what notebooks need that lie alone in a folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import advcl_nb as adv
from advcl_nb import cards

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"advcl_nb": "advcl_nb", "data/checkpoints": "advcl_nb/_checkpoints", "data/results": "advcl_nb/_results"}
IMPORT = re.compile(r"^ *(?:from|import) (\w+)[\w.]*(?: import .+| as \w+)?$", re.MULTILINE)
ALONE = {"00_start_here": "simclr: opened shapes-simclr-", "01_views": "CIFAR-10 is not here"}  # what each must print


def run(*command: str | Path, folder: Path) -> None:
    """Run a command in `folder` and show nothing of this clone to it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ADVCL_", "JUPYTER"))}
    subprocess.run(command, cwd=folder, env=env | {"ADVCL_PRESET": "teach"}, check=True)


@pytest.fixture(scope="module")
def away() -> Iterator[Path]:
    """A folder outside the clone, deleted at the end."""
    with TemporaryDirectory() as folder:
        yield Path(folder).resolve()


@pytest.fixture(scope="module")
def wheel(away: Path) -> Path:
    """The wheel, built from a copy, for a build leaves files of its own beside the source."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, away / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, away / "source")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "./source", folder=away)
    (path,) = away.glob("*.whl")
    return path


@pytest.fixture(scope="module", params=["borrowed", pytest.param("empty", marks=pytest.mark.soak)])
def environment(request: pytest.FixtureRequest, away: Path, wheel: Path) -> Path:
    """An environment with the wheel; what the wheel asks for is borrowed from this one, or installed: gigabytes."""
    folder = away / request.param
    run(sys.executable, "-m", "venv", folder, folder=away)
    packages = [wheel, "--no-deps"]
    if request.param == "empty":
        packages = [wheel, "ipykernel", "nbclient", "-c", ROOT / "constraints.txt"]
    run(folder / "bin/pip", "install", "-q", *packages, folder=away)
    if request.param == "borrowed":  # a path in a .pth is searched last, and runs no .pth there: our clone stays unseen
        (place,) = folder.glob("lib/python*/site-packages")
        (place / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.mark.wheel
def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"{place}/{path.relative_to(ROOT / name).as_posix()}"
        for name, place in FOLDERS.items()
        for path in (ROOT / name).rglob("*.*")
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
    }
    assert held == wanted


@pytest.mark.wheel
@pytest.mark.parametrize("name", ALONE)
def test_a_notebook_alone_in_a_folder_runs(name, environment, tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    notebook.cells.append(new_code_cell("print(adv.__file__)"))
    path = tmp_path / f"{name}.ipynb"
    nbformat.write(notebook, path)
    execute = "from nbclient.cli import main; main()"
    run(environment / "bin/python", "-c", execute, "--inplace", path, folder=tmp_path)

    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert cells[0].outputs == [], "nothing to install, so nothing to say"
    assert Path(printed.splitlines()[-1]).is_relative_to(environment)
    assert list(tmp_path.iterdir()) == [path], "expected nothing to be trained or downloaded"
    assert ALONE[name] in printed and "no cards" not in printed


def test_what_the_library_and_the_lessons_import_comes_with_the_package():
    sources = [path.read_text() for path in (ROOT / "advcl_nb").rglob("*.py")]
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sources += [cell.source for cell in cells]
    names = {name for source in sources for name in IMPORT.findall(source)}
    names -= sys.stdlib_module_names | {"advcl_nb"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    listed |= {"ipython", "traitlets"}  # ipywidgets is made of them
    found = packages_distributions()
    assert not {name for name in names if not listed & {canonicalize_name(owner) for owner in found[name]}}


def test_cards_of_the_package_are_read_where_the_project_has_none(tmp_path, monkeypatch):
    carried, own = (adv.read_cards(ROOT / "data" / "results")[k] for k in (0, -1))
    cards.write_card(carried, tmp_path / "package")
    monkeypatch.setattr(cards, "PACKAGED", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    assert adv.read_cards() == [carried]
    assert adv.write_card(own).parent == tmp_path / "data" / "results"
    assert adv.read_cards() == [own]
