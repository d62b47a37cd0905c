"""What an operator does: retry, run now, cancel, delete and prune tasks; erase what is of a
subject; pause queues and processors; set limits; switch schedules; drain supervisors.

Each function has a twin for async code, with an ``a`` before its name. None checks permissions.
"""

from partisan_async.steering.erasing import Erased, erase
from partisan_async.steering.limits import clear_limit, set_limit
from partisan_async.steering.pauses import pause, resume
from partisan_async.steering.pruning import Pruned, prune
from partisan_async.steering.schedules import switch_off, switch_on
from partisan_async.steering.supervisors import drain
from partisan_async.steering.tasks import cancel, delete, locked, retry, run_now
from partisan_async.steering.twins import (
    acancel,
    aclear_limit,
    adelete,
    adrain,
    aerase,
    apause,
    aprune,
    aresume,
    aretry,
    arun_now,
    aset_limit,
    aswitch_off,
    aswitch_on,
)

__all__ = [
    "Erased",
    "Pruned",
    "acancel",
    "aclear_limit",
    "adelete",
    "adrain",
    "aerase",
    "apause",
    "aprune",
    "aresume",
    "aretry",
    "arun_now",
    "aset_limit",
    "aswitch_off",
    "aswitch_on",
    "cancel",
    "clear_limit",
    "delete",
    "drain",
    "erase",
    "locked",
    "pause",
    "prune",
    "resume",
    "retry",
    "run_now",
    "set_limit",
    "switch_off",
    "switch_on",
]
