"""Makes an outcome of the value that ``run()`` returned, and refuses one that cannot be meant."""

from __future__ import annotations

import inspect
from typing import Any

from partisan_async.enqueue.arguments import encode_result
from partisan_async.exceptions import ResultTooLarge
from partisan_async.policy import RETURNED, Returned
from partisan_async.processor import BaseTaskProcessor


def returned(processor: BaseTaskProcessor, result: Any, most: int) -> Returned:
    """Return the outcome of a run that raised nothing.

    :param most: maximum number of bytes of a stored result.
    :raises ResultTooLarge: the result has more bytes.
    :raises TypeError: it cannot be stored, or is a coroutine or generator that nobody runs.
    """
    if result is None:
        return RETURNED
    _refuse_unstarted(result)
    if not processor.STORE_RESULT:
        return RETURNED
    encoded = encode_result(result)  # ASCII, so its length is in bytes
    if len(encoded) > most:
        raise ResultTooLarge(type(processor).__name__, len(encoded), most)
    return Returned(encoded)


def _refuse_unstarted(result: Any) -> None:
    if inspect.iscoroutine(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        if not inspect.isasyncgen(result):
            result.close()
        raise TypeError(
            f"run() returned a {type(result).__name__} that nobody runs; write it as `def"
            " run(self)` or `async def run(self)`, with no `yield` and no decorator that hides it."
        )
