"""The site: a small one is built with the real settings, and the real sources are held against the library."""

import importlib.util
import re
import types
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import advcl_nb as adv

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
INDEX = "# Course\n\n[to the reference](api.rst)\n\n```{toctree}\napi\nnotebooks/01_a\nnotebooks/02_b\n```\n"
API = "API\n===\n\n.. currentmodule:: advcl_nb\n\n.. autofunction:: pgd\n.. autofunction:: pgd_path\n"


def load(path: Path) -> types.ModuleType:
    """A Python file outside the package as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builder, pictures = load(ROOT / "tools" / "build_site.py"), load(ROOT / "tools" / "pictures.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site of two notebooks, one of which failed, and a page of the reference."""
    source = tmp_path_factory.mktemp("source")
    (source / "_static").mkdir()
    (source / "notebooks").mkdir()
    for name in ("conf.py", "formulas.py", "_static/site.css"):
        (source / name).write_bytes((SITE / name).read_bytes())
    (source / "index.md").write_text(INDEX)
    (source / "api.rst").write_text(API)
    words = "# First\n\nTeaches $x^2$, see [next](02_b.ipynb).\n\n$$\\frac{a}{b}$$\n\nIn code: `$HOME`."
    bar = new_output("stream", name="stderr", text="a progress bar")
    shown = new_output("stream", name="stdout", text="$5 and $6")
    first = [new_markdown_cell(words), new_code_cell("print()", outputs=[bar, shown], execution_count=1)]
    error = new_output("error", ename="OSError", evalue="gone", traceback=["\x1b[31mOSError\x1b[0m: gone"])
    second = [new_markdown_cell("# Second"), new_code_cell("open('x')", outputs=[error], execution_count=1)]
    for name, cells in {"01_a": first, "02_b": second}.items():
        notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, source / "notebooks" / f"{name}.ipynb")
    assert builder.render(source, source.with_name("site")) == 0
    return source.with_name("site")


def test_a_page_has_its_formulas_drawn_and_its_dollars_left_alone(site):
    page = (site / "notebooks" / "01_a.html").read_text()
    assert re.search(r'<span class="formula"><svg[^>]*aria-label="x\^2".*?<path', page)
    assert re.search(r'<div class="formula"><svg[^>]*aria-label="\\frac\{a\}\{b\}".*?<path', page)
    assert "$x^2$" not in page and "$HOME" in page and "$5 and $6" in page


def test_a_page_links_to_pages_and_shows_errors_but_no_progress_bars(site):
    page = (site / "notebooks" / "01_a.html").read_text()
    assert 'href="02_b.html"' in page and ".ipynb" not in page
    assert "a progress bar" not in page
    assert "gone" in (site / "notebooks" / "02_b.html").read_text()


def test_the_reference_links_the_names_in_docstrings(site):
    page = (site / "api.html").read_text()
    assert 'id="advcl_nb.pgd"' in page
    assert re.search(r'href="#advcl_nb.pgd"[^>]*><code', page)  # pgd_path's docstring names `pgd`


def test_nothing_is_dead_and_nothing_is_fetched(site):
    assert list(builder.find_problems(site)) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="gone.html">x</a>', "a.html has a dead link to gone.html"),
        ('<img src="gone.png">', "a.html has a dead link to gone.png"),
        ('<a href="#there">x</a>', "a.html has no place for #there"),
        ('<script src="https://cdn.example/x.js"></script>', "a.html fetches https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "a.html fetches //cdn.example/x.css"),
        ('<a href="https://example.org/">x</a><p id="here"></p><a href="a.html#here">y</a>', None),
        ('<img src="data:image/png;base64,AAAA">', None),
    ],
)
def test_problems_are_found(tmp_path, page, problem):
    (tmp_path / "a.html").write_text(page)
    assert list(builder.find_problems(tmp_path)) == ([problem] if problem else [])


def test_a_style_that_fetches_is_found(tmp_path):
    (tmp_path / "a.css").write_text('@import url("https://cdn.example/x.css"); p { background: url(data:image/png,x) }')
    assert list(builder.find_problems(tmp_path)) == ["a.css fetches https://cdn.example/x.css"]


def test_every_public_name_stands_once_in_the_reference():
    public = {name for name in dir(adv) if name[0] != "_" and not isinstance(getattr(adv, name), types.ModuleType)}
    pages = "\n".join(path.read_text() for path in sorted((SITE / "api").glob("*.rst")))
    assert sorted(re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.MULTILINE)) == sorted(public)


def test_executed_copies_take_the_place_of_kept_notebooks(tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine")]), copies / "01_views.ipynb")
    builder.lay_out(tmp_path / "source", copies)
    laid = tmp_path / "source" / "notebooks"
    assert nbformat.read(laid / "01_views.ipynb", as_version=4).cells[0].source == "# Mine"
    kept = ROOT / "notebooks" / "02_pseudo_labels.ipynb"
    assert (laid / kept.name).read_bytes() == kept.read_bytes()


def test_pictures_are_what_the_notebooks_keep():
    found = pictures.find_pictures()
    stale = [name for name, png in found.items() if (SITE / "pictures" / f"{name}.png").read_bytes() != png]
    assert not stale, "`python tools/pictures.py` writes them again"
    assert max(map(len, found.values())) < 150_000
    named = re.findall(r"pictures/([\w-]+)\.png", (SITE / "index.md").read_text() + (ROOT / "README.md").read_text())
    assert named and set(named) <= set(found)
