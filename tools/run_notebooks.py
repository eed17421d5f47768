"""Execute the notebooks in order, keep copies under build/notebooks, and build the site under build/site from them.

    python tools/run_notebooks.py [--write] [notebook ...]

The preset is $ADVCL_PRESET, else teach. The notebooks themselves change only with --write, which keeps the new outputs.
Exits with 1 if a cell or the site failed; the other notebooks are executed all the same, and all get their pages.
"""

import argparse
import asyncio
import contextlib
import copy
import os
import platform
import shutil
import signal
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import build_site
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
EXECUTED = ROOT / "build" / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class Run(NamedTuple):
    """One executed notebook; `failure` says what stopped it, or is empty."""

    path: Path
    notebook: NotebookNode
    seconds: float
    failure: str


class Progress:
    """Prints where a run is: one line that is rewritten in a terminal, a line every ten seconds in a log."""

    def __init__(self, name: str, cells: int) -> None:
        self.name, self.cells, self.cell = name, cells, 0
        self.start = self.printed = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def __call__(self, cell: NotebookNode, cell_index: int) -> None:
        """nbclient calls this before each cell."""
        self.cell = cell_index + 1
        if sys.stdout.isatty() or time.perf_counter() - self.printed > 10:
            self.printed = time.perf_counter()
            self.line(f"cell {self.cell}/{self.cells}", end="" if sys.stdout.isatty() else "\n")

    def line(self, text: str, end: str = "\n") -> None:
        home = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{home}{self.name:<32} {text:<12} {self.seconds:5.0f} s", end=end, flush=True)


def execute(path: Path) -> Run:
    """The notebook at `path`, executed by a fresh kernel in its own folder; an error ends it and is recorded."""
    notebook = without_outputs(nbformat.read(path, as_version=4))
    progress = Progress(str(path.relative_to(FOLDER)), len(notebook.cells))
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        on_notebook_start=stop_on_interrupt,
        on_cell_start=progress,
        extra_arguments=["--log-level=CRITICAL"],
    )
    failure = ""
    try:
        client.execute()
    except CellExecutionError as error:
        failure = f"cell {progress.cell}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        failure = f"cell {progress.cell}: the kernel died, often for want of memory"
    progress.line("FAILED" if failure else "done")
    return Run(path, tidy(notebook), progress.seconds, failure)


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """The notebook with no kept output, so that after a failure nothing old stands below it."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def stop_on_interrupt(notebook: NotebookNode) -> None:
    """Take back the key that nbclient has just taken: Ctrl-C ends this program, not one kernel after the other."""
    with contextlib.suppress(NotImplementedError):  # Windows, where nbclient takes nothing
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what changes from run to run and nobody reads: timings, views of dead widgets."""
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), language_info=NotebookNode(name="python"))
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if "tags" in cell.metadata else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_dead_widget(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
    return notebook


def is_dead_widget(output: NotebookNode) -> bool:
    """Whether the output is a widget (a progress bar too) with no picture beside it: without its kernel it is blank."""
    data = output.get("data", {})
    return WIDGET in data and set(data) <= {WIDGET, "text/plain"}


def write_copies(runs: list[Run], folder: Path, preset: str) -> None:
    """Write what was executed to `folder` in place of what is there, with a line on the run, and on what stopped it."""
    shutil.rmtree(folder, ignore_errors=True)
    for run in runs:
        notebook, path = copy.deepcopy(run.notebook), folder / run.path.relative_to(FOLDER)
        notebook.cells.append(new_markdown_cell(f"---\n*Executed in {run.seconds:.0f} s {made_with(preset)}*"))
        if run.failure:
            what = f":::{{error}}\nThis run failed.\n```text\n{run.failure}\n```\n:::"
            notebook.cells.insert(1, new_markdown_cell(what))
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)


def made_with(preset: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("advcl_nb", "torch", "torchvision", "numpy"))
    return f"on {date.today()} with the preset {preset}: {packages}, Python {platform.python_version()}."


def find_notebooks(names: list[str]) -> list[Path]:
    """The named notebooks, or all of them: the course in order, then the solutions."""
    if names:
        return [Path(name).resolve() for name in names]
    return [*sorted(FOLDER.glob("[0-9]*.ipynb")), *sorted(FOLDER.glob("solutions/[0-9]*.ipynb"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", metavar="notebook", help="only these; all by default")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebooks that ran through")
    args = parser.parse_args()
    preset = os.environ.setdefault("ADVCL_PRESET", "teach")
    if preset in ("smoke", "teach"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # on tensors this small, threads cost more than they bring
    if "ADVCL_DATA" in os.environ:  # kernels start in another folder
        os.environ["ADVCL_DATA"] = str(Path(os.environ["ADVCL_DATA"]).expanduser().resolve())

    paths = find_notebooks(args.notebooks)
    print(f"{len(paths)} notebooks, preset {preset}", flush=True)
    runs = [execute(path) for path in paths]
    for run in runs:
        if args.write and not run.failure:
            nbformat.write(run.notebook, run.path)
        if run.failure:
            print(f"{run.path.relative_to(ROOT)}: {run.failure}")
    print(f"executed in {sum(run.seconds for run in runs) / 60:.1f} minutes", flush=True)
    write_copies(runs, EXECUTED, preset)
    site_failed = build_site.build(EXECUTED)
    return int(any(run.failure for run in runs) or site_failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped")
