"""Executed notebooks as plain web pages: no script, nothing fetched, formulas as MathML with its font beside them."""

import html
import platform
import re
import shutil
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html_mistune
from pygments.formatters import HtmlFormatter

TITLE = "Adversarial contrastive learning, in notebooks"
INTRO = "A course in executed notebooks: from contrastive views to encoders that keep their accuracy under attack."
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{up}style.css">
</head>
<body>
<nav>{links}</nav>
<main>
{body}
</main>
<nav>{links}</nav>
<footer>{footer}</footer>
</body>
</html>
"""
CODE = re.compile(r"(<pre\b.*?</pre>|<code\b.*?</code>)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL)


def write_site(runs: Sequence, notebooks: Path, site: Path, preset: str) -> Path:
    """Write a page per run and an index that lists them, replacing `site`; return the index's path."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "solutions").mkdir(parents=True)
    style = Path(__file__).with_name("style.css").read_text()
    (site / "style.css").write_text(style + HtmlFormatter(style="default").get_style_defs(".highlight") + "\n")
    font = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
    (site / "math.ttf").write_bytes(font.read_bytes())
    footer = made_with(preset)
    names = [run.path.relative_to(notebooks).with_suffix(".html").as_posix() for run in runs]
    exporter = PageExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.exclude_anchor_links = exporter.embed_images = True
    for run, name in zip(runs, names, strict=True):
        body, _ = exporter.from_notebook_node(run.notebook, {"metadata": {"path": str(run.path.parent)}})
        body = failure_note(run) + re.sub(r'(href="[^":#]*)\.ipynb\b', r"\1.html", body)
        up = "../" * name.count("/")
        title, _ = title_and_summary(run.notebook)
        page = PAGE.format(title=html.escape(title), up=up, links=links_of(name, names), body=body, footer=footer)
        (site / name).write_text(page)
    index = site / "index.html"
    index.write_text(PAGE.format(title=TITLE, up="", links="", body=index_body(runs, names), footer=footer))
    return index


class PageExporter(HTMLExporter):
    """nbconvert's exporter, with formulas turned into MathML, which browsers draw without a script."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        return with_mathml(super().markdown2html(context, source))


def with_mathml(page: str) -> str:
    """Turn $...$ and $$...$$ outside code into MathML."""
    parts = CODE.split(page)
    parts[::2] = [FORMULA.sub(to_mathml, part) for part in parts[::2]]
    return "".join(parts)


def to_mathml(match: re.Match) -> str:
    tex = html.unescape(match["block"] or match["inline"]).replace("{aligned}", "{align*}")  # the spelling it knows
    return convert(tex, display="block" if match["block"] else "inline")


def links_of(name: str, names: list[str]) -> str:
    """The line above and below a page: the one before, the index, its solutions or exercises, the one after."""
    folder, _, file = name.rpartition("/")
    up = "../" if folder else ""
    peers = [other for other in names if other.rpartition("/")[0] == folder]
    place = peers.index(name)
    other, label = (f"../{file}", "Notebook") if folder else (f"solutions/{file}", "Solutions")
    links = [
        f'<a href="{Path(peers[place - 1]).name}">← Previous</a>' if place else "<span></span>",
        f'<a href="{up}index.html">Index</a>',
        f'<a href="{other}">{label}</a>' if (file if folder else other) in names else "",
        f'<a href="{Path(peers[place + 1]).name}">Next →</a>' if place + 1 < len(peers) else "<span></span>",
    ]
    return "\n".join(links)


def index_body(runs: Sequence, names: list[str]) -> str:
    """The index: a line per notebook, the solutions in a list of their own."""
    rows = {"": [], "solutions": []}
    for run, name in zip(runs, names, strict=True):
        title, summary = title_and_summary(run.notebook)
        state = "<strong>failed</strong>, " if run.failure else ""
        time = f"{run.seconds / 60:.1f} min" if run.seconds >= 60 else f"{run.seconds:.0f} s"
        summary = "" if "/" in name else f"<br>{with_mathml(markdown2html_mistune(summary))}"
        row = f'<li><a href="{name}">{html.escape(title)}</a> <small>{state}{time}</small>{summary}</li>'
        rows[name.rpartition("/")[0]].append(row)
    course, solutions = ("\n".join(rows[key]) for key in rows)
    listed = f"<h2>Solutions</h2>\n<ul>\n{solutions}\n</ul>" if solutions else ""
    return f'<h1>{TITLE}</h1>\n<p>{INTRO}</p>\n<ul class="course">\n{course}\n</ul>\n{listed}'


def title_and_summary(notebook) -> tuple[str, str]:
    """A notebook's first heading and the first sentence below it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#\s+(.+)$", text, re.MULTILINE)
    if heading is None:
        return "Untitled", ""
    paragraph = re.search(r"\n\s*\n(?!#)([^\n].*?)(?:\n\s*\n|$)", text[heading.start() :], re.DOTALL)
    sentence = re.match(r".*?[.?!](?=\s|$)|.*", paragraph[1], re.DOTALL)[0] if paragraph else ""
    return re.sub(r"[*`$]", "", heading[1]).strip(), " ".join(sentence.split())


def failure_note(run) -> str:
    return f'<p class="failure">This run failed at {html.escape(run.failure)}</p>\n' if run.failure else ""


def made_with(preset: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("advcl_nb", "torch", "torchvision", "numpy"))
    return f"Executed on {date.today()} with preset {preset}: {packages}, Python {platform.python_version()}."
