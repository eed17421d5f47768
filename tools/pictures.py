"""Write the pictures of the README and the site: what the notebooks' cells with a tag picture-NAME keep as output.

python tools/pictures.py
"""

import base64
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "site" / "pictures"
TAG = "picture-"


def find_pictures() -> dict[str, bytes]:
    """The first PNG that each tagged cell keeps, by the name in its tag."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            names = [tag.removeprefix(TAG) for tag in cell.metadata.get("tags", []) if tag.startswith(TAG)]
            found |= {name: first_png(cell) for name in names}
    return found


def first_png(cell: nbformat.NotebookNode) -> bytes:
    pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return base64.b64decode(pictures[0])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, png in find_pictures().items():
        (FOLDER / f"{name}.png").write_bytes(png)
        print(f"{FOLDER.relative_to(ROOT)}/{name}.png, {len(png) / 1000:.0f} KB")
