"""How the command was started, and how the processes of its workers are set up in the same way.

The supervisor's process takes it down: arguments, import path and main script. A process that is to
make workers, or to be one, takes it on before it imports anything of the project's.

What a ``manage.py`` does before it calls ``execute_from_command_line()`` counts, too: it installs
importers and patches. So where the command came from there, its script is run again, as the main
one, up to that call; what workers need then goes on *inside* the call, so that nothing of what the
script does after it, such as to remove a file, happens in a worker. Any other main script is run as
``multiprocessing`` runs it in a child: by another name, so that what its guard keeps is left out.
"""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple, NoReturn

CALLED_WITHIN = 4
"""How many calls may lie between the main script and Django's, for the script to be run again.

``main()``, ``execute_from_command_line()`` and one between them: what is further away is no script
that starts a command, but a program that runs one, such as a test runner.
"""

UNGUARDED = (
    "The main script {script!r} starts a supervisor whenever it is imported, and worker processes"
    " import it. Let it do so only as the main script:\n\n"
    '    if __name__ == "__main__":\n'
    "        execute_from_command_line(sys.argv)  # or what else starts it there\n"
)


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


class TakenOn(NamedTuple):
    """What became of it. ``note``: what the workers lack; ``trouble``: why they cannot be."""

    note: str | None = None
    trouble: str | None = None


_runs_main = False


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


def take_on(origin: Origin, become: Callable[[TakenOn], NoReturn]) -> NoReturn:
    """Set this process up as the command was, and ``become`` what it is to be."""
    environment = dict(os.environ)

    def settle(note: str | None = None, trouble: str | None = None) -> NoReturn:
        # The script may have said otherwise, and the command's options something else again.
        sys.argv[:] = origin.argv
        sys.path[:] = origin.path
        os.environ.update(environment)
        become(TakenOn(note, trouble))

    note = None
    if origin.is_command:
        sys.argv[:] = origin.main_argv
        note = _run_as_main(origin, settle)
    sys.argv[:] = origin.argv
    trouble = _run_as_multiprocessing_does(origin)
    settle(note, trouble)


def refuse_within_main() -> None:
    """Do nothing, unless this is a child that is just running the main script.

    :raises RuntimeError: it is; the message has the lines to add.
    """
    current: Any = None
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        current = multiprocessing.current_process()
    if _runs_main or getattr(current, "_inheriting", False):
        raise RuntimeError(UNGUARDED.format(script=Path(sys.argv[0]).name))


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


def _run_as_main(origin: Origin, settle: Callable[[], NoReturn]) -> str:
    """Run the script until it calls Django; return a sentence only where it does not get there."""
    global _runs_main
    from django.core import management

    execute = management.ManagementUtility.execute

    def execute_instead(_: Any) -> NoReturn:
        global _runs_main
        management.ManagementUtility.execute = execute  # type: ignore[method-assign]
        _runs_main = False
        settle()

    management.ManagementUtility.execute = execute_instead  # type: ignore[assignment,method-assign]
    _runs_main = True
    why = "it ended before that call"
    try:
        _exec_main(origin)
    except BaseException as error:  # noqa: BLE001  a script may raise anything, and exit
        why = describe(error)
    finally:
        management.ManagementUtility.execute = execute  # type: ignore[method-assign]
        _runs_main = False
    return (
        f"the main script could not be run again for workers ({why}): they lack what"
        f" {origin.main_path or origin.main_name} sets up before it calls"
        " execute_from_command_line()"
    )


def _exec_main(origin: Origin) -> None:
    module = ModuleType("__main__")
    if origin.main_path is not None:
        module.__file__ = origin.main_path
        with io.open_code(origin.main_path) as file:
            code = compile(file.read(), origin.main_path, "exec")
    else:
        assert origin.main_name is not None
        module.__spec__ = spec = importlib.util.find_spec(origin.main_name)
        assert spec is not None
        module.__file__, module.__package__ = spec.origin, spec.parent
        code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
    sys.modules["__main__"] = module
    exec(code, vars(module))  # noqa: S102  as the interpreter does with it


def _run_as_multiprocessing_does(origin: Origin) -> str | None:
    global _runs_main
    _runs_main = True
    try:
        if origin.main_path is not None and Path(origin.main_path).stem != "ipython":
            found = runpy.run_path(origin.main_path, run_name="__mp_main__")
        elif origin.main_name is not None and not origin.main_name.endswith("__main__"):
            found = runpy.run_module(origin.main_name, run_name="__mp_main__", alter_sys=True)
        else:
            return None
    except BaseException as error:  # noqa: BLE001  a script may raise anything, and exit
        return describe(error)
    finally:
        _runs_main = False
    module = ModuleType("__mp_main__")
    vars(module).update(found)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return None


def describe(error: BaseException) -> str:
    """Return an error as one line: its class, and what it says."""
    return f"{type(error).__name__}: {error}"
