"""The undocumented parts of Python and asgiref that workers use.

Each is looked up when it is used. If it is missing or has changed, workers do without it, and log
this once.
"""

from __future__ import annotations

import atexit
import logging
import sys
import weakref
from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from partisan_async import logs

CLOSE_SECONDS = 5

_missed: set[str] = set()


def _miss(name: str, instead: str) -> None:
    """Log once that an undocumented part is missing.

    :param instead: what workers do without it.
    """
    if name not in _missed:
        _missed.add(name)
        logs.workers.inside_gone(name, instead)


# asgiref


def context_of_run() -> ThreadSensitiveContext | None:
    """Return the context of the async run that this code is part of, if any."""
    variable: Any = getattr(SyncToAsync, "thread_sensitive_context", None)
    if not isinstance(variable, ContextVar):
        _miss("asgiref's thread_sensitive_context", "time limits of async tasks end no query")
        return None
    context: ThreadSensitiveContext | None = variable.get(None)
    return context


def has_thread(context: ThreadSensitiveContext) -> bool:
    """Tell whether an async run had a thread for the ORM; ``True`` if unknown."""
    threads: Any = getattr(SyncToAsync, "context_to_thread_executor", None)
    if not isinstance(threads, Container):
        _miss("asgiref's context_to_thread_executor", "each async task has a thread for the ORM")
        return True
    return context in threads


def renew_thread_of_queries(close: Callable[[], None]) -> None:
    """Before a fork, replace the thread in which async code uses the ORM.

    In workers the thread would be dead, and their queries would wait for it.

    :param close: called in that thread first.
    """
    executor: Any = getattr(SyncToAsync, "single_thread_executor", None)
    if not isinstance(executor, ThreadPoolExecutor):
        what = "workers keep the thread of async queries as it was when the project was imported"
        _miss("asgiref's single_thread_executor", what)
        return
    if getattr(executor, "_threads", True):  # it has run something, or may have
        with suppress(Exception):
            executor.submit(close).result(CLOSE_SECONDS)
            executor.shutdown()
        SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)


# Python


def log_handlers() -> list[logging.Handler]:
    """Return all log handlers of this process; if they are unknown, those of the root logger."""
    references = getattr(logging, "_handlerList", None)
    if not isinstance(references, list):
        _miss("logging._handlerList", "only the root logger's handlers are flushed before a fork")
        return list(logging.getLogger().handlers)
    return [handler for reference in references if (handler := reference()) is not None]


def run_after_forkers() -> None:
    """In a forked child, call the functions that libraries registered with ``multiprocessing``."""
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        run = getattr(util, "_run_after_forkers", None)
        if not callable(run):
            what = "what libraries registered by it for after a fork is not called in workers"
            _miss("multiprocessing.util._run_after_forkers", what)
            return
        run()


def leave_finalizers_to_parent() -> None:
    """In a forked child, run no inherited finalizers at exit: only the forkserver may.

    For example, the other workers still need a ``TemporaryDirectory``.
    """
    for finalizer in list(_finalizers() or ()):
        finalizer.atexit = False


def run_exit_functions() -> None:
    """At the end of a worker, call the functions of ``atexit``, as Python does at its exit.

    They include ``logging.shutdown()`` and those of multiprocessing, if it is loaded.
    """
    run = getattr(atexit, "_run_exitfuncs", None)
    if callable(run) and _finalizers() is not None:  # else finalizers would run
        run()
        return
    if _finalizers() is not None:
        _miss("atexit._run_exitfuncs", "functions of atexit are not called in workers")
    logging.shutdown()


def run_finalizers() -> None:
    """At the end of a forkserver, run the finalizers of objects that the project made."""
    run = getattr(weakref.finalize, "_exitfunc", None)
    if not callable(run):
        _miss("weakref.finalize._exitfunc", "what the project made at its import stays")
        return
    run()


def _finalizers() -> Mapping[Any, Any] | None:
    registry = getattr(weakref.finalize, "_registry", None)
    if not isinstance(registry, Mapping):
        _miss("weakref.finalize._registry", "functions of atexit are not called in workers")
        return None
    return registry
