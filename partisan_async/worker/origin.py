"""Finds how the supervisor's command was started, so that its workers can be set up likewise."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import FrameType, ModuleType
from typing import NamedTuple

CALLED_WITHIN = 4
"""Maximum number of frames from Django's ``execute()`` up to the main script.

These are ``execute_from_command_line()``, ``main()``, one more, and the script. A script further up
does not just start a command: it is a program such as a test runner.
"""


class Origin(NamedTuple):
    """How a command was started.

    :param argv: ``sys.argv`` as it is now.
    :param path: ``sys.path``, with the current folder by its name.
    :param main_name: the module that ``python -m`` ran; ``None``: none.
    :param main_path: the main script; ``None``: it is no file.
    :param main_argv: ``sys.argv`` as it was when the main script started.
    :param is_command: the main script is in a call of ``execute_from_command_line()``.
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
    # Some scripts change sys.argv; when they are run again they must find the original.
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
