"""Run ruff, pytest and the notebooks (nbval, preset smoke), print the seconds of each, and fail if any failed."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUFF = [sys.executable, "-m", "ruff"]
PYTEST = [sys.executable, "-m", "pytest", "-n", "2"]
NBVAL = ["--dist", "loadfile", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300"]


def suites() -> dict[str, list[list[str]]]:
    """The commands of each suite, by its name."""
    notebooks = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("**/[0-9]*.ipynb"))
    return {
        "ruff": [[*RUFF, "check"], [*RUFF, "format", "--check"]],
        "pytest": [PYTEST],
        "nbval": [[*PYTEST, *NBVAL, *notebooks]] if notebooks else [],
    }


def environment() -> dict[str, str]:
    """This process's environment on the smoke preset; one thread, since two workers share the cores."""
    env = {"OMP_NUM_THREADS": "1", **os.environ, "ADVCL_PRESET": "smoke"}
    if "ADVCL_DATA" in env:  # kernels start in their notebook's folder, where a relative path would mean another place
        env["ADVCL_DATA"] = str(Path(env["ADVCL_DATA"]).expanduser().resolve())
    return env


def main() -> int:
    env, seconds, failed = environment(), [], []
    for name, commands in suites().items():
        start = time.perf_counter()
        for command in commands:
            print("$", *command[1:], flush=True)
            if subprocess.run(command, cwd=ROOT, env=env).returncode and name not in failed:
                failed.append(name)
        seconds.append(f"{name} {time.perf_counter() - start:.0f} s")
    print("\n" + ", ".join(seconds) + (f"\nfailed: {', '.join(failed)}" if failed else "\nall passed"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
