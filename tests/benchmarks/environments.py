"""The environments that contenders run in: one for each system, made once and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.contender import System

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"


class EnvironmentMissingError(RuntimeError):
    """An environment cannot be made; the message says why."""


def python_of(system: System) -> str:
    """Return the Python of a system's environment, which is made where it is not there.

    What needs nothing but what this project needs runs on the Python that runs this.
    """
    if system.name in ("partisan_async", "floor"):
        return sys.executable
    folder = FOLDER / system.name
    python = folder / "bin" / "python"
    made = folder / "made"
    if not made.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", *system.packages)
        made.touch()
    return str(python)


def versions(system: System) -> dict[str, str]:
    """Return the versions of what a system is made of, by name."""
    names = [package.partition("[")[0].partition("~")[0] for package in system.packages]
    script = (
        "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    )
    done = subprocess.run(
        [python_of(system), "-c", script, *names], capture_output=True, text=True, check=True
    )
    return dict(zip(names, done.stdout.split(), strict=True))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentMissingError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
