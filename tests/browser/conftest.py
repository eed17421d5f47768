"""JupyterLab on a free port, with config folders of its own, and a headless Chromium that looks at it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "browser"  # what the tests saw
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FOLDERS = ("CONFIG_DIR", "DATA_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are drawn too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
READY = """() => {
    const context = window.jupyterapp?.shell?.currentWidget?.context;
    return context?.isReady && context.sessionContext?.session?.kernel?.status === 'idle';
}"""
WARNINGS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells.flatMap(cell =>
    (cell.outputs ?? []).filter(output => output.name === 'stderr').map(output => output.text))"""
ERRORS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells.flatMap(cell =>
    (cell.outputs ?? []).filter(output => output.output_type === 'error').map(output => output.evalue))"""


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium; the tests skip where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[test]'")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser, found none of {', '.join(BROWSERS)}: on Debian, apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def sockets() -> Iterator[str]:
    """A folder for the kernels' sockets (see the conftest.py of the root), whose paths have 103 characters at most."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp" if os.name == "posix" else None) as folder:
        yield folder


@pytest.fixture(scope="session")
def lab(browser: object, sockets: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab on the smoke preset, and its folder: a copy of the notebooks beside our data."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    (folder / "data").symlink_to(ROOT / "data")
    places = {f"JUPYTER{'' if name.startswith('LAB') else '_'}{name}": str(folder / name) for name in FOLDERS}
    for name, values in SETTINGS.items():
        path = Path(places["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "port": port, "ServerApp.port_retries": 0, "ServerApp.ip": "127.0.0.1", "IdentityProvider.token": "",
        "ServerApp.root_dir": folder / "notebooks", "LabApp.expose_app_in_browser": True, "LabApp.news_url": "",
        "KernelManager.transport": "ipc" if os.name == "posix" else "tcp",
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    env = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        **places,
        "JUPYTER_RUNTIME_DIR": sockets,
        "IPYTHONDIR": str(folder / "ipython"),
        "ADVCL_PRESET": "smoke",
    }
    with (folder / "log.txt").open("w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: urllib.request.urlopen(f"{address}/api/status", timeout=5), server)
        yield address, folder / "notebooks"
        server.terminate()


def wait_for(ask: Callable[[], object], server: subprocess.Popen) -> None:
    """Ask until there is an answer, for a minute at most."""
    for _ in range(120):
        assert server.poll() is None, "JupyterLab ended by itself; its log is in the temporary folder of the tests"
        with contextlib.suppress(OSError):
            ask()
            return
        time.sleep(0.5)
    raise TimeoutError("JupyterLab did not answer within a minute")


class Notebook:
    """An open notebook: `page` is Playwright's, `errors` what the browser's console complained of."""

    def __init__(self, page: object, address: str, name: str) -> None:
        self.page, self.name, self.errors = page, name, []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.wait_for_selector(".jp-Notebook", timeout=60_000)
        page.wait_for_function(READY, timeout=60_000)

    def run(self) -> None:
        """Run all cells and wait for the last; an error in a cell fails, and so does a warning."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        assert self.page.evaluate(ERRORS) == [] and self.page.evaluate(WARNINGS) == []

    def keep(self, what: object, name: str) -> None:
        """Keep a picture of a place on the page."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        what.screenshot(path=PICTURES / f"{Path(self.name).stem}_{name}.png")


@pytest.fixture
def open_notebook(browser: object, lab: tuple[str, Path]) -> Iterator[Callable[[str], Notebook]]:
    """Open a notebook by its name; when the test ends, its kernel does, and the console must not have complained."""
    address, _ = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(60_000)  # the machine may be busy
    opened = []
    yield lambda name: opened.append(Notebook(page, address, name)) or opened[-1]
    page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
    page.close()
    assert [notebook.errors for notebook in opened] == [[] for _ in opened]
