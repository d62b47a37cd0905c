"""How the command was started: what the supervisor's process hands down to those of its workers."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import FrameType, ModuleType
from typing import NamedTuple

CALLED_WITHIN = 4
"""How many calls may lie between the main script and Django's, for the script to be run again.

``main()``, ``execute_from_command_line()`` and one between them: what is further away is no script
that starts a command, but a program that runs one, such as a test runner.
"""


class Origin(NamedTuple):
    """How a command was started.

    :param argv: its arguments as they are now.
    :param path: its import path, each entry a folder or a file.
    :param main_name: what ``python -m`` ran.
    :param main_path: the main script, where it is a file.
    :param main_argv: the arguments that the main script was started with.
    :param is_command: the script has called ``execute_from_command_line()``, and is in it.
    """

    argv: list[str]
    path: list[str]
    main_name: str | None
    main_path: str | None
    main_argv: list[str]
    is_command: bool


def of_this_process() -> Origin:
    """Return how this process was started."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None) if spec is None else None
    if path is not None and not os.path.isfile(path):
        path = None
    return Origin(
        list(sys.argv),
        _path(),
        getattr(spec, "name", None),
        path,
        _first_argv(path),
        (spec is not None or path is not None) and _is_in_command(main),
    )


def _path() -> list[str]:
    path = []
    for entry in sys.path:
        with suppress(OSError):  # the current folder may be gone
            path.append(str(entry) or os.getcwd())
    return path


def _first_argv(path: str | None) -> list[str]:
    # Some scripts change their arguments, and are to find them as they were.
    for number, argument in enumerate(sys.orig_argv):
        if path is not None and os.path.abspath(argument) == path:
            return sys.orig_argv[number:]
    return list(sys.argv)


def _is_in_command(main: ModuleType) -> bool:
    ident = threading.main_thread().ident
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001  any thread may ask
    while frame is not None and not _is_djangos(frame):
        frame = frame.f_back
    for _ in range(CALLED_WITHIN):
        frame = frame and frame.f_back
        if frame and frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            return True
    return False


def _is_djangos(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return module == "django.core.management" and frame.f_code.co_name == "execute"
