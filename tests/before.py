"""The release before this one, out of the history of this clone."""

from __future__ import annotations

import subprocess
from types import ModuleType

import pytest

from tests.process import ROOT

BEFORE = "db26f24"
"""The commit that is the release before."""

WITHOUT_LIMITS = ("302e53f", "9b530b7")
"""The first and the last commit that may run beside releases with limits, and know none."""


def git(*command: str) -> bytes:
    """Return what git says of that release; a clone without any history skips the test."""
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
        pytest.skip("this clone has no history, and so not the release before")
    done = _git(*command)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def module(path: str) -> ModuleType:
    """Return a module of that release, which has today's modules beside it."""
    made = ModuleType(f"before {path}")
    exec(compile(git("show", f"{BEFORE}:{path}"), path, "exec"), vars(made))
    return made


def _git(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *command], cwd=ROOT, capture_output=True)
