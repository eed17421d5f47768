"""Formulas drawn into the page as SVG: the same in every browser, with no script, no font and no network."""

from xml.etree import ElementTree

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

SIZE = 20  # any number does: the drawing is scaled to the size of the text around it


def draw(tex: str, *, block: bool) -> str:
    """Return the SVG of a formula, in the colour of the text; a screen reader gets its TeX."""
    ziamath.config.svg2 = False  # plain paths: nothing that two formulas of a page would have to share by name
    formula = ziamath.Latex(" ".join(tex.split()), size=SIZE, color="currentColor", inline=not block)
    svg = formula.svgxml()
    width, height = (float(svg.get(side)) / SIZE for side in ("width", "height"))
    bottom = (formula.getyofst() - 1) / SIZE  # 1 is the drawing's margin
    svg.set("style", f"width: {width:.3f}em; height: {height:.3f}em; vertical-align: {bottom:.3f}em")
    svg.set("role", "img")
    svg.set("aria-label", tex)
    return ElementTree.tostring(svg, encoding="unicode")


def visit_inline(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(f'<span class="formula">{draw(node.astext(), block=False)}</span>')
    raise nodes.SkipNode


def visit_block(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(f'<div class="formula">{draw(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("drawn", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
