"""Tells which of the watched files have changed since the last look."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from partisan_async.management.start_partisan.reload.folders import Folders
from partisan_async.management.start_partisan.reload.sight import Sight

Stamp = tuple[int, int]
"""When a file was changed, and its size. An older file may take its place, too."""


class Look:
    """What the looks so far have found.

    A file is *new* if it is seen for the first time. It may be on the disk for long, and have been
    imported only now: it counts as changed only if it was written since the last child started.
    """

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        """What to look at."""
        self._folders = Folders()
        self._stamps: dict[str, Stamp] = {}
        self._child_since = math.inf

    def child_starts(self) -> None:
        """Note that a child imports the code from now on."""
        # Of many file systems, the time is coarser than ours.
        self._child_since = math.floor(time.time())

    def changed(self) -> list[str]:
        """Return the files that have changed or appeared since the last look."""
        return [path for path in sorted(set(self._paths())) if self._has_changed(path)]

    def _has_changed(self, path: str) -> bool:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return False  # if it comes back as another, it has changed
        if not stat.S_ISREG(found.st_mode):
            return False
        stamp = found.st_mtime_ns, found.st_size
        before, self._stamps[path] = self._stamps.get(path), stamp
        # ctime: a file that is moved or unpacked to its place may have any mtime.
        return found.st_ctime >= self._child_since if before is None else before != stamp

    def _paths(self) -> Iterator[str]:
        sight = self.sight
        yield from sight.files
        yield from self._folders.python_files(sight.folders)
        for folder, patterns in sight.patterns.items():
            for pattern in patterns:
                yield from _matching(folder, pattern)


def _matching(folder: str, pattern: str) -> Iterator[str]:
    try:
        yield from map(str, Path(folder).glob(pattern))
    except (OSError, ValueError, NotImplementedError):
        return  # a folder in it has gone meanwhile, or the pattern is none: it is the project's
