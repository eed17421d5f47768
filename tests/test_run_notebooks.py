"""The tool behind `make notebooks`: what it executes, keeps and hands to the site."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture(scope="module")
def tool():
    """tools/run_notebooks.py as a module."""
    spec = importlib.util.spec_from_file_location("run_notebooks", TOOLS / "run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOLS), *sys.path])
        spec.loader.exec_module(module)
    return module


def test_a_failing_cell_is_named_and_the_file_stays_as_it_was(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    path = tmp_path / "01_fails.ipynb"
    here = "from pathlib import Path\nprint(Path.cwd().name)"
    kept = new_code_cell("print(2)", outputs=[new_output("stream", text="of an earlier run")], execution_count=3)
    nbformat.write(new_notebook(cells=[new_code_cell(here), new_code_cell("1 / 0"), kept]), path)
    before = path.read_bytes()
    run = tool.execute(path)
    assert run.failure == "cell 2: ZeroDivisionError: division by zero"
    assert run.notebook.cells[0].outputs[0].text == f"{tmp_path.name}\n"
    assert not run.notebook.cells[2].outputs
    assert path.read_bytes() == before


def test_tidy_drops_what_no_reader_sees_and_keeps_the_rest(tool):
    bar = new_output("display_data", {tool.WIDGET: {}, "text/plain": "  0%|"})
    explorer = new_output("display_data", {tool.WIDGET: {}, "text/plain": "VBox()", "image/png": "AAAA"})
    result = new_output("execute_result", {"text/plain": "3"}, execution_count=7)
    cell = new_code_cell(
        "3", execution_count=7, outputs=[bar, explorer, result], metadata={"tags": ["a"], "scrolled": True}
    )
    tidied = tool.tidy(new_notebook(cells=[cell], metadata={"widgets": {}})).cells[0]
    assert [dict(output.data) for output in tidied.outputs] == [
        {"text/plain": "VBox()", "image/png": "AAAA"},
        {"text/plain": "3"},
    ]
    assert tidied.execution_count == 7  # nbval refuses outputs of a cell that does not count as run
    assert tidied.metadata == {"tags": ["a"]}


def test_copies_say_how_they_ran_and_what_stopped_them(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "version", lambda name: "1.0")
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    kept = new_notebook(cells=[new_markdown_cell("# Answers"), new_code_cell("1 / 0")])
    run = tool.Run(tmp_path / "solutions" / "01_a.ipynb", kept, 90.0, "cell 2: ZeroDivisionError: division by zero")
    stale = tmp_path / "copies" / "02_b.ipynb"
    stale.parent.mkdir()
    stale.touch()
    tool.write_copies([run], tmp_path / "copies", "smoke")
    copied = nbformat.read(tmp_path / "copies" / "solutions" / "01_a.ipynb", as_version=4).cells
    assert [cell.source for cell in copied if cell in kept.cells] == ["# Answers", "1 / 0"]
    assert "division by zero" in copied[1].source and "preset smoke" in copied[-1].source
    assert len(kept.cells) == 2 and not stale.exists()


def test_a_failed_notebook_fails_the_run_and_is_rendered_all_the_same(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "version", lambda name: "1.0")
    for name, folder in {"ROOT": ".", "FOLDER": "notebooks", "EXECUTED": "executed"}.items():
        monkeypatch.setattr(tool, name, tmp_path / folder)
    path = tmp_path / "notebooks" / "01_a.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A")]), path)
    failed = tool.Run(path, nbformat.read(path, as_version=4), 1.0, "cell 1: OSError: gone")
    monkeypatch.setattr(tool, "execute", lambda path: failed)
    monkeypatch.setattr(tool.build_site, "build", lambda executed: int(not (executed / "01_a.ipynb").exists()))
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", "--write", str(path)])
    monkeypatch.setenv("ADVCL_PRESET", "smoke")
    before = path.read_bytes()
    assert tool.main() == 1
    assert path.read_bytes() == before
    assert "01_a.ipynb: cell 1: OSError: gone" in capsys.readouterr().out
    monkeypatch.setattr(tool, "execute", lambda path: failed._replace(failure=""))
    assert tool.main() == 0
