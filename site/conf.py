"""Sphinx settings of the site: notebooks with the outputs they keep, reference from docstrings, nothing fetched."""

import sys
from dataclasses import is_dataclass
from pathlib import Path

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


class Short(str):
    """What a signature shows in place of a default value."""

    def __repr__(self) -> str:
        return str(self)


def shorten(value: object) -> object:
    """Settings inside settings by their class alone: their own entry lists their fields."""
    if is_dataclass(value):
        return Short(f"{type(value).__name__}(...)")
    return Short("...") if repr(value) == "<factory>" else value


def shorten_defaults(app: object, function: object, bound_method: bool) -> None:
    if function.__name__ == "__init__" and getattr(function, "__defaults__", None):
        function.__defaults__ = tuple(map(shorten, function.__defaults__))


def skip_tuple_fields(app: object, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out what Python says about a tuple's fields: no more than that they are its fields."""
    return True if str(member.__doc__).startswith("Alias for field number") else None


def drop_type_docs(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A constant has no docstring of its own; autodoc would show that of its type."""
    if what == "data":
        lines.clear()


def setup(app: object) -> None:
    app.connect("autodoc-process-docstring", drop_type_docs)
    app.connect("autodoc-before-process-signature", shorten_defaults)
    app.connect("autodoc-skip-member", skip_tuple_fields)
