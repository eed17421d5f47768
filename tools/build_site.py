"""Build the site under build/site: the pages of site/, the reference, and the notebooks with the outputs they keep.

    python tools/build_site.py

Exits with 1 on a warning of Sphinx, a dead link inside the site, or a page that would fetch something from elsewhere.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SITE = BUILD / "site"
REMOTE = re.compile(r"(?:@import|url\()\W*((?:https?:)?//[^\s\"')]+)")  # in a style sheet


def build(executed: Path | None = None) -> int:
    """Build and check the site; notebooks in `executed` take the place of those that are kept. Returns 0 or 1."""
    start = time.perf_counter()
    lay_out(BUILD / "source", executed)
    draw_glossary(BUILD / "source")
    failed = render(BUILD / "source", SITE)
    problems = list(find_problems(SITE))
    print(*problems, f"{time.perf_counter() - start:.0f} s. Open {SITE / 'index.html'}", sep="\n")
    return int(bool(failed or problems))


def lay_out(source: Path, executed: Path | None = None) -> None:
    """Put together what Sphinx reads, in a new folder `source`."""
    shutil.rmtree(source, ignore_errors=True)
    caches = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "site", source, ignore=caches)
    for folder in (ROOT / "notebooks", executed):
        if folder is not None:
            shutil.copytree(folder, source / "notebooks", ignore=caches, dirs_exist_ok=True)
    for name in ("README.md", "data/README.md"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(as_page((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")


def as_page(text: str) -> str:
    """Words of the README as the site's: its own files lie at the top here, and links to folders become code."""
    text = text.replace("](site/", "](")
    return re.sub(r"\[([\w./]+)\]\(([\w./]+)\)", lambda m: f"`{m[2]}`" if (ROOT / m[2]).is_dir() else m[0], text)


def draw_glossary(source: Path) -> None:
    """Draw the pictures of the glossary, by the library itself, to where its page looks for them."""
    sys.path.insert(0, str(ROOT / "site"))
    from glossary_pictures import write

    write(source / "pictures")


def render(source: Path, site: Path) -> int:
    """Run Sphinx, warnings being errors; returns its exit status. Every page that can be written is."""
    shutil.rmtree(site, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-E", "-d", str(site.with_name("doctrees"))]
    return subprocess.run([sys.executable, "-m", "sphinx", *options, str(source), str(site)]).returncode


class Page(HTMLParser):
    """The ids of a page, the addresses it links to, and those that a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.loads = {""}, set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        if "href" in found:
            (self.links if tag == "a" else self.loads).add(found["href"])
        if "src" in found:
            self.loads.add(found["src"])


def find_problems(site: Path) -> Iterator[str]:
    """Say which pages load something from elsewhere, and which link to a page or a place that is not there."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for address in sorted(page.links | page.loads):
            if problem := problem_with(address, path, pages):
                yield f"{path.relative_to(site)} {problem} {address}"
    for path in sorted(site.rglob("*.css")):
        for address in REMOTE.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} fetches {address}"


def problem_with(address: str, path: Path, pages: dict[Path, Page]) -> str:
    """What is wrong with an address on the page at `path`, or nothing."""
    url = urlsplit(address)
    if url.scheme or url.netloc:
        return "fetches" if address in pages[path].loads and url.scheme != "data" else ""
    target = (path.parent / unquote(url.path)).resolve() if url.path else path
    if not target.exists():
        return "has a dead link to"
    return "" if target not in pages or url.fragment in pages[target].ids else "has no place for"


if __name__ == "__main__":
    sys.exit(build())
