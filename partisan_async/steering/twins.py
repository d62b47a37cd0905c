"""The functions of ``steering`` for async code: each twin has an ``a`` before its name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from partisan_async.steering.erasing import erase
from partisan_async.steering.limits import clear_limit, set_limit
from partisan_async.steering.pauses import pause, resume
from partisan_async.steering.pruning import prune
from partisan_async.steering.schedules import switch_off, switch_on
from partisan_async.steering.supervisors import drain
from partisan_async.steering.tasks import cancel, delete, retry, run_now

P = ParamSpec("P")
R = TypeVar("R")


def twin(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the twin of a function: it runs in a thread, in a transaction of its own."""

    @wraps(function)
    async def in_thread(*args: P.args, **kwargs: P.kwargs) -> R:
        return await sync_to_async(function)(*args, **kwargs)

    in_thread.__name__ = in_thread.__qualname__ = f"a{function.__name__}"
    in_thread.__doc__ = f"As ``{function.__name__}``, from async code, where it commits by itself."
    return in_thread


aretry = twin(retry)
arun_now = twin(run_now)
acancel = twin(cancel)
adelete = twin(delete)
aprune = twin(prune)
aerase = twin(erase)
apause = twin(pause)
aresume = twin(resume)
adrain = twin(drain)
aset_limit = twin(set_limit)
aclear_limit = twin(clear_limit)
aswitch_on = twin(switch_on)
aswitch_off = twin(switch_off)
