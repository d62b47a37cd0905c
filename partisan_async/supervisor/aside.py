"""A thread for the project's code, which may block there while the event loop goes on.

The thread is a daemon, and nobody waits for it without a limit: code that blocks for ever does not
keep the process from ending. The threads of ``asyncio.to_thread`` would, and are only a few.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from partisan_async import logs

T = TypeVar("T")

_Call = tuple[Callable[..., object], Callable[..., object], tuple[Any, ...]]
"""What runs a function in its caller's context, the function, and its arguments."""


class Aside:
    """Makes calls in a thread of its own, one after the other, in order.

    Each call is made in a copy of its caller's context.

    :param name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Number of calls that have not begun."""
        return self._calls.qsize()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.get_ident() == self._thread.ident

    @property
    def ident(self) -> int | None:
        """The thread's identifier, once the thread has started."""
        return self._thread.ident

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have this called in the thread; an error is logged."""
        # Not a closure: each log line comes this way.
        self._calls.put((copy_context().run, function, arguments))

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what this returns in the thread; skip the call if nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def reply() -> None:
            if answer.cancelled():
                return
            try:
                value = function(*arguments)
            except BaseException as error:  # noqa: BLE001  it is raised where ask() is awaited
                _hand_over(loop, answer, answer.set_exception, error)
            else:
                _hand_over(loop, answer, answer.set_result, value)

        self.call(reply)
        return await answer

    def close(self, seconds: float) -> bool:
        """Have the thread end after the waiting calls; return whether it ended in time."""
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            run, function, arguments = call
            try:
                run(function, *arguments)
            except BaseException as error:  # noqa: BLE001  the next call must still be made
                logs.callbacks.call_failed(self._thread.name, error)


def _hand_over(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], put: Callable[..., None], what: Any
) -> None:
    def settle() -> None:
        if not answer.done():
            put(what)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more
