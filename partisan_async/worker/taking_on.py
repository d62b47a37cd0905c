"""Sets a process up as the command was that started the supervisor, from its ``Origin``.

This happens before any project code is imported. A ``manage.py`` may install importers and patches
before it calls ``execute_from_command_line()``. So if such a call started the supervisor, the
script is run again as ``__main__``, up to the call. The process goes on *inside* the call, so that
code after it, such as to remove a file, does not run in a worker. Any other main script is run as
``multiprocessing`` runs it in a child: as ``__mp_main__``, so that code behind its ``__main__``
guard does not run.
"""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from partisan_async.worker.origin import Origin

UNGUARDED = (
    "The main script {script!r} starts a supervisor whenever it is imported, and worker processes"
    " import it. Let it do so only as the main script:\n\n"
    '    if __name__ == "__main__":\n'
    "        execute_from_command_line(sys.argv)  # or what else starts it there\n"
)


class TakenOn(NamedTuple):
    """The result of the set-up.

    :param note: what the workers lack, if anything.
    :param trouble: why there can be no workers; ``None``: the set-up worked.
    """

    note: str | None = None
    trouble: str | None = None


_runs_main = False


def take_on(origin: Origin, become: Callable[[TakenOn], NoReturn]) -> NoReturn:
    """Set this process up as the command was, then call ``become`` with the result."""
    environment = dict(os.environ)

    def settle(note: str | None = None, trouble: str | None = None) -> NoReturn:
        # The script may have changed these; and options of the command may have changed them again.
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
    """Refuse to start a supervisor in a child that is running the main script.

    :raises RuntimeError: this is such a child; the message has the lines to add to the script.
    """
    current: Any = None
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        current = multiprocessing.current_process()
    if _runs_main or getattr(current, "_inheriting", False):
        raise RuntimeError(UNGUARDED.format(script=Path(sys.argv[0]).name))


def describe(error: BaseException) -> str:
    """Return the class and the message of an error, as one line."""
    return f"{type(error).__name__}: {error}"


def _run_as_main(origin: Origin, settle: Callable[[], NoReturn]) -> str:
    """Run the script until it calls Django, then settle; return a warning if it never calls it."""
    global _runs_main
    from django.core import management  # here: other scripts must run before Django is imported

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
    exec(code, vars(module))  # noqa: S102  as the interpreter does


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
