"""What an operator does: retry, run now, cancel, delete and prune tasks; erase what is of a
subject; pause queues and processors; switch schedules; drain supervisors.

Each function has a twin for async code, with an ``a`` before its name. None checks permissions.
"""

from partisan_async.steering.erasing import Erased, erase
from partisan_async.steering.pauses import pause, resume
from partisan_async.steering.pruning import Pruned, prune
from partisan_async.steering.schedules import switch_off, switch_on
from partisan_async.steering.supervisors import drain
from partisan_async.steering.tasks import cancel, delete, locked, retry, run_now
from partisan_async.steering.twins import (
    acancel,
    adelete,
    adrain,
    aerase,
    apause,
    aprune,
    aresume,
    aretry,
    arun_now,
    aswitch_off,
    aswitch_on,
)

__all__ = [
    "Erased",
    "Pruned",
    "acancel",
    "adelete",
    "adrain",
    "aerase",
    "apause",
    "aprune",
    "aresume",
    "aretry",
    "arun_now",
    "aswitch_off",
    "aswitch_on",
    "cancel",
    "delete",
    "drain",
    "erase",
    "locked",
    "pause",
    "prune",
    "resume",
    "retry",
    "run_now",
    "switch_off",
    "switch_on",
]
