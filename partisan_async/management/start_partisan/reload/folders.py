"""Finds the Python files beneath folders, and lists again only what has changed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MOST = 2_000
"""How many folders are looked into, the upper ones first: a folder may hold anything."""

SURE_SECONDS = 2
"""Time after which a change of a folder shows in its time, whatever the file system."""


class _Listing(NamedTuple):
    modified: int
    is_sure: bool
    files: list[str]
    folders: list[str]


class Folders:
    """The listings so far."""

    def __init__(self) -> None:
        self._listings: dict[str, _Listing] = {}

    def python_files(self, roots: Iterable[str]) -> Iterator[str]:
        """Return the Python files beneath these folders."""
        waiting, seen = deque(roots), set[str]()
        while waiting and len(seen) < MOST:
            folder = waiting.popleft()
            if folder in seen:
                continue
            seen.add(folder)
            try:
                listing = self._listing(folder)
            except OSError:  # it is gone, or not ours to read
                continue
            yield from listing.files
            waiting.extend(listing.folders)

    def _listing(self, folder: str) -> _Listing:
        modified = os.stat(folder).st_mtime_ns
        known = self._listings.get(folder)
        if known is None or not known.is_sure or known.modified != modified:
            is_sure = time.time() - modified / 1e9 > SURE_SECONDS
            known = self._listings[folder] = _Listing(modified, is_sure, *_list(folder))
        return known


def _list(folder: str) -> tuple[list[str], list[str]]:
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == "pyvenv.cfg":
                return [], []
            if entry.name.endswith(".py"):
                files.append(entry.path)
            elif _is_package_name(entry.name) and entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
    return files, folders


def _is_package_name(name: str) -> bool:
    return name.isidentifier() and name not in ("__pycache__", "node_modules")
