"""The end of a worker process that ends in order: as Python's own, and bounded in time.

A child of a forkserver ends by ``os._exit()``: before Python 3.13 without what is registered with
``atexit``, and since then without what was registered before the fork, which is where a project's
settings and ``ready()`` run. Threads that tasks left behind are not waited for.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, cast

from partisan_async import trace

logger = logging.getLogger("partisan_async.worker")

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = 5.0
"""What ends with the process may take so long."""

begun = threading.Event()
"""This process ends."""

_register, _unregister = atexit.register, atexit.unregister
_registered: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
_forked_from: int | None = None


def remember() -> None:
    """From now on, remember what is registered with ``atexit``; for who is to be forked."""
    global _forked_from
    _forked_from = os.getpid()
    atexit.register, atexit.unregister = cast("Any", _remember), _forget


def be_forked() -> None:
    """Have this process end as the one that it was forked from would."""
    atexit.register, atexit.unregister = _register, _unregister
    if _forked_from in (None, os.getpid()):
        return
    for function, _, _ in _registered:  # they are there before Python 3.13
        _unregister(function)
    for function, arguments, keywords in _registered:
        _register(function, *arguments, **keywords)
    # What is cleared away with an object, such as a TemporaryDirectory, is the other workers', too.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def end(tell: Callable[[], None]) -> NoReturn:
    """End this process.

    :param tell: called first.
    """
    begun.set()
    threading.Thread(target=_end_in_time, name="partisan end", daemon=True).start()
    for step in (
        tell,
        trace.flush,
        atexit._run_exitfuncs,  # noqa: SLF001
        getattr(weakref.finalize, "_exitfunc", _nothing),  # not registered anew in Python 3.13
        logging.shutdown,
        multiprocessing.util._exit_function,  # type: ignore[attr-defined]  # noqa: SLF001
        sys.stdout.flush,
        sys.stderr.flush,
    ):
        try:
            step()
        except BaseException:
            logger.exception("what ends with this worker process raised")
    os._exit(0)


def _remember(function: F, *arguments: Any, **keywords: Any) -> F:
    _registered.append((function, arguments, keywords))
    _register(function, *arguments, **keywords)
    return function


def _forget(function: Callable[..., Any]) -> None:
    _registered[:] = [each for each in _registered if each[0] != function]
    _unregister(function)


def _nothing() -> None:
    pass


def _end_in_time() -> None:
    time.sleep(SECONDS)
    with suppress(BaseException):
        logger.warning("this worker process is ended: what is to end with it took too long")
    os._exit(0)
