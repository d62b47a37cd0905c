"""The release before this one, out of the history of this clone."""

from __future__ import annotations

import subprocess
from types import ModuleType

import pytest

from tests.process import ROOT

BEFORE = "db26f24"
"""The commit that is the release before."""


def git(*command: str) -> bytes:
    """Return what git says of that release; without it, the tests of this fail."""
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True)
    if done.returncode:
        pytest.fail(
            f"{BEFORE} is not in the history of this clone, so nothing can be told of the release"
            f" before; fetch it: git fetch --unshallow. ({done.stderr.decode().strip()})"
        )
    return done.stdout


def module(path: str) -> ModuleType:
    """Return a module of that release, which has today's modules beside it."""
    made = ModuleType(f"before {path}")
    exec(compile(git("show", f"{BEFORE}:{path}"), path, "exec"), vars(made))
    return made
