"""The tools behind `make notebooks`: what they execute, keep and write as pages."""

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
    nbformat.write(new_notebook(cells=[new_code_cell(here), new_code_cell("1 / 0"), new_code_cell("print(2)")]), path)
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


def test_pages_draw_formulas_link_to_one_another_and_fetch_nothing(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pages"], "version", lambda name: "1.0")
    text = "# First *one*\n\nTeaches $x^2$. More.\n\n`$HOME`, [next](02_b.ipynb)"
    first = new_notebook(cells=[new_markdown_cell(text), new_code_cell("print('$5 and $6')")])
    runs = [
        tool.Run(tmp_path / name, notebook, 90.0, failure)
        for name, notebook, failure in [
            ("01_a.ipynb", first, ""),
            ("02_b.ipynb", new_notebook(cells=[new_markdown_cell("# Second")]), "cell 2: OSError: gone"),
            ("solutions/01_a.ipynb", new_notebook(cells=[new_markdown_cell("# Answers")]), ""),
        ]
    ]
    index = tool.write_site(runs, tmp_path, tmp_path / "site", "smoke").read_text()
    page = (tmp_path / "site" / "01_a.html").read_text()
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in page and "<code>$HOME</code>" in page and "$6" in page
    assert 'href="02_b.html">next' in page and 'href="02_b.html">Next' in page and 'href="solutions/01_a.html"' in page
    assert 'href="../01_a.html"' in (tmp_path / "site" / "solutions" / "01_a.html").read_text()
    assert "OSError: gone" in (tmp_path / "site" / "02_b.html").read_text()
    assert ">First one</a>" in index and "Teaches" in index and "More." not in index and "1.5 min" in index
    written = index + page
    assert "<script" not in written and "src=" not in written
    assert "http" not in written.replace('xmlns="http://www.w3.org/1998/Math/MathML"', "")
