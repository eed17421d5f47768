"""Sphinx settings of the site: notebooks with the outputs they keep, reference from docstrings, nothing fetched."""

import re
import sys
from dataclasses import is_dataclass
from pathlib import Path

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent))  # formulas.py lies here

project = "advcl_nb"
html_title = "Adversarial contrastive learning"
extensions = ["myst_nb", "sphinx.ext.autodoc", "formulas"]
exclude_patterns = ["README.md"]  # pages include parts of it
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "drawn"
highlight_language = "text"  # of a block that names none

nb_render_markdown_format = "myst"  # tables in outputs too
nb_execution_mode = "off"
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # docstrings name things in single backticks: linked where this reference has them
add_module_names = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 120
toc_object_entries_show_parents = "hide"

SHAPE = re.compile(r"(Float|Int|Bool)\[Tensor, '([^']*)'\]")


class Short(str):
    """What a signature shows in place of a default value."""

    def __repr__(self) -> str:
        return str(self)


def shorten(value: object) -> object:
    """Settings inside settings by their class alone, whose own entry lists their fields; numbers by four digits."""
    if isinstance(value, float):
        return Short(f"{value:.4g}") if len(repr(value)) > 8 else value
    if isinstance(value, tuple):
        return tuple(map(shorten, value))
    if is_dataclass(value):
        return Short(f"{type(value).__name__}(...)")
    return Short("...") if repr(value) == "<factory>" else value


def shorten_defaults(app: object, function: object, bound_method: bool) -> None:
    if function.__name__ == "__init__" and getattr(function, "__defaults__", None):
        function.__defaults__ = tuple(map(shorten, function.__defaults__))


def shorten_signature(
    app: object, what: str, name: str, obj: object, options: object, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Tensors by kind and shape, ``Float[n, d]``; and nothing of how Python makes a list."""
    if isinstance(obj, type) and issubclass(obj, list):
        return "", None
    return tuple(text and SHAPE.sub(write_shape, text) for text in (arguments, returns))


def write_shape(match: re.Match) -> str:
    return f"{match[1]}[{', '.join(match[2].split()) or '()'}]"


def skip_tuple_fields(app: object, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out what Python says about a tuple's fields: no more than that they are its fields."""
    return True if str(member.__doc__).startswith("Alias for field number") else None


def drop_type_docs(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A constant has no docstring of its own; autodoc would show that of its type."""
    if what == "data":
        lines.clear()


def link_names(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """What docstrings call `adv.name`, as a notebook does, is linked too."""
    lines[:] = [re.sub(r"(``?)adv\.(\w+)\1", r"`adv.\2 <advcl_nb.\2>`", line) for line in lines]


def describe_pictures(app: object, doctree: nodes.document) -> None:
    """A picture from a notebook's cell has no words of its own; a screen reader would spell out its file name."""
    for picture in doctree.findall(nodes.image):
        picture.setdefault("alt", "Picture drawn by the code above")


def setup(app: object) -> None:
    app.connect("doctree-read", describe_pictures)
    app.connect("autodoc-process-docstring", drop_type_docs)
    app.connect("autodoc-process-docstring", link_names)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-before-process-signature", shorten_defaults)
    app.connect("autodoc-skip-member", skip_tuple_fields)
