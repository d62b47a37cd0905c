"""A server's folder and the lock on it; sweeps the folders that killed owners have left."""

# The program that runs here is ps; in /tmp only mkdtemp() makes folders.
# ruff: noqa: S108, S603

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from partisan_async.embedded.programs import all_may_enter

_PREFIX = "partisan-pg-"

STOP_SECONDS, POLL_SECONDS = 15.0, 0.01


def base_folder(account: Mapping[str, Any]) -> Path:
    """The temporary folder; /tmp if a socket in that could not be reached."""
    for base in (tempfile.gettempdir(), "/tmp"):
        socket = os.fsencode(f"{base}/{_PREFIX}12345678/socket/.s.PGSQL.5432")
        # A path may have 103 bytes on macOS, 107 on Linux. A comma separates two folders, also for
        # libpq.
        fits = len(socket) <= 103 and b"," not in socket
        if fits and (not account or all_may_enter(Path(base))):
            return Path(base)
    raise RuntimeError("No temporary folder fits; set TMPDIR to a short path all users can enter.")


def new_folder(base: Path) -> tuple[Path, int]:
    """A folder and our lock on it, as a file descriptor."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # Before we lock the folder, a sweeper may lock and remove it: then try another one.
        lock = _lock(folder)
        if lock is not None:
            return folder, lock


def sweep(base: Path) -> None:
    """End the servers and remove the folders that killed owners left."""
    for folder in base.glob(f"{_PREFIX}*"):
        lock = _lock(folder)
        if lock is not None:
            _end_orphan(folder)
            wait_for_silence(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def wait_for_silence(folder: Path) -> None:
    """Wait until the last process of the server has ended, at most ``STOP_SECONDS``.

    Each process shares the lock on the log. The sessions of a killed postmaster outlive it by a
    moment, and so do the servers that a killed initdb runs. While they live, no restart succeeds;
    if their folder is removed, they leave shared memory behind.
    """
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(FileNotFoundError), (folder / "log").open() as log:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(POLL_SECONDS)


def postmaster(folder: Path) -> tuple[int, str]:
    """The process id and the state that the server has written; 0 and "" before that."""
    lines = ["0"]
    with suppress(OSError):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines() or lines
    return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""


def _lock(folder: Path) -> int | None:
    """A lock on a folder; None if the folder is locked, gone or another user's."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with suppress(BlockingIOError):
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return lock
    os.close(lock)
    return None


def _end_orphan(folder: Path) -> None:
    pid, _ = postmaster(folder)
    deadline = time.monotonic() + STOP_SECONDS
    while _runs_in(folder, pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _runs_in(folder: Path, pid: int) -> bool:
    """True if that process serves this folder; another process may have the id by now."""
    if sys.platform != "linux":
        ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return os.fsencode(folder.name) in subprocess.run(ps, capture_output=True).stdout
    try:
        return os.fsencode(folder.name) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
