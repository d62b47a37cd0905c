"""A thread for what belongs to others: there it may block, and the event loop goes on.

It is a daemon, and nobody waits for it without a limit: what blocks for ever keeps no process from
its end. The threads of ``asyncio.to_thread`` do, and there are only a few of them.
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

_Call = Callable[[], object]


class Aside:
    """Makes calls in a thread of its own, one after the other, in the order they came in.

    Each is made in a copy of the context of who asked for it.

    :param name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many calls have not begun."""
        return self._calls.qsize()

    @property
    def is_here(self) -> bool:
        """Whether the code that asks runs in this thread."""
        return threading.get_ident() == self._thread.ident

    @property
    def ident(self) -> int | None:
        """The thread's, once it has started."""
        return self._thread.ident

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have this called; what it raises is logged."""
        context = copy_context()
        self._calls.put(lambda: context.run(function, *arguments))

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Have this called, and return its answer; no call is made once nobody waits for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def reply() -> None:
            if answer.cancelled():
                return
            try:
                value = function(*arguments)
            except BaseException as error:  # noqa: BLE001  it is the asker's
                _hand_over(loop, answer, answer.set_exception, error)
            else:
                _hand_over(loop, answer, answer.set_result, value)

        self.call(reply)
        return await answer

    def close(self, seconds: float) -> bool:
        """Have the thread end after the calls that wait; tell whether it did so in time."""
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  the next call is to be made, too
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
