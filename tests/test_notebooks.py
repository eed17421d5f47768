"""What every committed notebook keeps to; that they run is checked by nbval."""

import ast
import importlib.util
import os
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
MAIN = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted(FOLDER.glob("solutions/[0-9]*.ipynb"))
PRIVATE = re.compile(r"\b(?:advcl_nb|adv)(?:\.\w+)*\._(?!_)|from advcl_nb[\w.]* import [^\n]*\b_(?!_)")
ABSOLUTE = re.compile(r"(?<![\w.:/<~])/[A-Za-z][\w.-]*/[\w.-]|\b[A-Z]:\\\w")


def by_name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


every = pytest.mark.parametrize("path", [*MAIN, *SOLUTIONS], ids=by_name)
main = pytest.mark.parametrize("path", MAIN, ids=by_name)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def code(path: Path) -> str:
    """All code of a notebook as Python; IPython's own lines become calls."""
    return "\n".join(TransformerManager().transform_cell(cell.source) for cell in code_cells(path))


def headings(path: Path) -> str:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    return "\n".join(re.findall(r"^#+\s+(.+)$", text, re.MULTILINE))


def shown_text(output: NotebookNode) -> str:
    """What an output says in words; pictures are left out."""
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *(str(data[kind]) for kind in data if kind.startswith("text/"))])


@every
def test_is_valid(path):
    nbformat.validate(read(path))


@every
def test_code_cells_are_short(path):
    long = [number for number, cell in enumerate(code_cells(path), 1) if cell.source.count("\n") >= 12]
    assert not long, f"code cells {long} have more than 12 lines"


@every
def test_defines_at_most_three_functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node.name for node in ast.walk(ast.parse(code(path))) if isinstance(node, kinds)]
    assert len(functions) <= 3


@every
def test_uses_nothing_private(path):
    found = [match[0] for match in PRIVATE.finditer(code(path))]
    assert not found


@every
def test_kept_outputs_hold_no_error(path):
    checked = [cell for cell in code_cells(path) if "raises-exception" not in cell.metadata.get("tags", [])]
    errors = [output.evalue for cell in checked for output in cell.outputs if output.output_type == "error"]
    assert not errors


@every
def test_most_code_cells_show_something(path):
    shows = [bool(cell.outputs) for cell in code_cells(path)]
    assert sum(shows) > len(shows) / 2, "`make outputs` keeps the outputs in the notebooks"


@every
def test_kept_outputs_name_no_machine_path(path):
    texts = [shown_text(output) for cell in code_cells(path) for output in cell.outputs]
    found = [match[0] for text in texts for match in ABSOLUTE.finditer(text)]
    assert not found


@every
def test_keeps_nothing_volatile(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "`make outputs` executes every cell once, in order"
    assert "widgets" not in read(path).metadata, "`make outputs` keeps what a reader sees and no more"


@every
@pytest.mark.parametrize("missing", [True, False])
def test_installs_the_package_first_where_it_is_missing(path, missing, monkeypatch):
    first, asked = read(path).cells[1], []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if missing and name == "advcl_nb" else "a spec")
    shell = SimpleNamespace(run_line_magic=lambda magic, line: asked.append([magic, *shlex.split(line)]))
    exec(TransformerManager().transform_cell(first.source), {"get_ipython": lambda: shell})
    assert not first.outputs and len(asked) == missing
    for magic, *options, wanted in asked:
        assert [magic, *options] == ["pip", "install", "-q"]
        requirement = Requirement(wanted)
        assert (requirement.name, requirement.url) == ("advcl_nb", f"git+{ADDRESS}")


@main
def test_the_readme_opens_it_away_from_a_clone(path):
    project = ADDRESS.removeprefix("https://github.com/")
    (row,) = (line for line in (ROOT / "README.md").read_text().splitlines() if f"](notebooks/{path.name})" in line)
    links = dict(re.findall(r"\[(\w+)\]\((\S+?)\)", row))
    assert links["Colab"] == f"https://colab.research.google.com/github/{project}/blob/main/notebooks/{path.name}"
    assert links["Binder"] == f"https://mybinder.org/v2/gh/{project}/main?labpath=notebooks/{path.name}"


def test_the_readme_installs_from_the_address():
    assert f'pip install "advcl_nb @ git+{ADDRESS}"' in (ROOT / "README.md").read_text()


@main
def test_has_the_length_of_a_lesson(path):
    cells = len(read(path).cells)
    assert 25 <= cells <= 45


@main
def test_opens_with_a_title_and_says_how_long_it_takes(path):
    opening = read(path).cells[0].source
    assert opening.startswith("# ")
    assert re.search(r"\bminutes?\b", opening)


@main
def test_has_a_check_and_an_exercise(path):
    titles = headings(path)
    assert re.search(r"\bCheck", titles)
    assert re.search(r"\bExercise", titles)


def test_every_notebook_has_solutions():
    assert [path.name for path in SOLUTIONS] == [path.name for path in MAIN]


@pytest.mark.skipif(os.name != "posix", reason="needs sockets in the file system")
def test_a_kernel_of_nbval_answers_on_sockets_of_its_own():
    """On TCP two may share one: the ports are picked long before a kernel binds them."""
    kernel = pytest.importorskip("nbval.kernel")
    manager, client = kernel.start_new_kernel(kernel_name=kernel.CURRENT_ENV_KERNEL_NAME)
    try:
        assert client.execute_interactive("1 + 1", silent=True, timeout=60)["content"]["status"] == "ok"
        assert client.transport == "ipc" and client.ip != kernel.KernelManager().ip
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
