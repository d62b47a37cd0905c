"""What is to be watched: a process finds it by what it has imported, and may tell another."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

from partisan_async.management.start_partisan.reload import djangos

_INSTALLED = {"site-packages", "dist-packages"}


class Sight(NamedTuple):
    """Files whose change asks for another child.

    :param files: those of the modules that are imported.
    :param folders: where modules of the project are looked for: every Python file beneath counts,
        also one that is new, or that only tasks import.
    :param patterns: what Django watches beside code, by folder: templates and translations.
    """

    files: list[str]
    folders: list[str]
    patterns: dict[str, list[str]]

    def encoded(self) -> bytes:
        """Return it as a line for another process."""
        return json.dumps(self).encode()

    @classmethod
    def decoded(cls, line: bytes) -> Sight:
        """Return what ``encoded`` made a line of."""
        return cls(*json.loads(line))


def of_this_process() -> Sight:
    """Return what is to be watched, by what this process has imported."""
    files, patterns = djangos.asked_for()
    return Sight(sorted({*_files_of_modules(), *files}), sorted(set(_folders())), patterns)


def _files_of_modules() -> Iterator[str]:
    for module in list(sys.modules.values()):
        # Not getattr(): of some modules it imports more.
        path = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if isinstance(path, str):
            yield os.path.realpath(path)


def _folders() -> Iterator[str]:
    """Return the folders on ``sys.path``, without those of Python and of installed packages."""
    pythons = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    for entry in sys.path:
        folder = os.path.realpath(entry)  # of "", which is the current folder, too
        if os.path.isdir(folder) and not _is_beneath(folder, pythons):
            yield folder


def _is_beneath(folder: str, pythons: Iterable[str]) -> bool:
    if _INSTALLED.intersection(folder.split(os.sep)):
        return True
    return any(folder == each or folder.startswith(each + os.sep) for each in pythons)
