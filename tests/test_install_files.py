"""pyproject.toml, constraints.txt and environment.yml describe one environment, and every file names one version."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]


def pins() -> dict[str, str]:
    """The version that constraints.txt gives each package."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.+!-]+)", line) for line in lines if line]
    assert all(pairs), "constraints.txt: expected only lines like name==version"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs}


def environment() -> tuple[list[str], list[str]]:
    """What environment.yml asks of conda, and of pip."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = [entry for entry in listed if isinstance(entry, dict)]
    assert len(pip) == 1
    return [entry for entry in listed if isinstance(entry, str)], pip[0]["pip"]


@pytest.mark.parametrize("text", REQUIREMENTS)
def test_each_direct_requirement_has_a_pin_that_satisfies_it(text):
    requirement = Requirement(text)
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"constraints.txt: expected a pin of {requirement.name}, found none"
    assert requirement.specifier.contains(pinned, prereleases=True), f"{text} excludes the pinned {pinned}"


def test_no_package_is_pinned_twice():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    assert len(lines) == len(pins())


def test_a_cpu_only_torch_can_honour_the_constraints():
    gpu = [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]
    assert not gpu and "+" not in pins()["torch"]


def test_conda_gives_only_python_and_pip_and_that_python_is_allowed():
    conda, _ = environment()
    python = [entry for entry in conda if entry.startswith("python=")]
    assert sorted(conda) == sorted([*python, "pip"]) and len(python) == 1
    assert SpecifierSet(PROJECT["requires-python"]).contains(python[0].removeprefix("python="))


def test_conda_and_make_install_from_the_same_two_files():
    _, pip = environment()
    extras = ",".join(PROJECT["optional-dependencies"])
    assert pip == ["-c constraints.txt", f"-e .[{extras}]"]
    assert f'install -e ".[{extras}]" -c constraints.txt' in (ROOT / "Makefile").read_text()


def test_environment_is_named_after_the_project():
    assert yaml.safe_load((ROOT / "environment.yml").read_text())["name"] == PROJECT["name"]


def test_project_changelog_and_citation_name_the_same_version():
    top_entry = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {PROJECT["version"], top_entry[1], str(citation["version"])} == {PROJECT["version"]}


def test_every_package_of_the_source_tree_is_installed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "advcl_nb").rglob("__init__.py")}
    assert folders | set(setuptools["package-dir"]) == set(setuptools["packages"])
