"""What an operator does: run tasks again, now, not at all, or forget them; pause, switch, drain.

Each has a twin for async code, named with an ``a`` before. None of them asks who calls it.
"""

from partisan_async.steering.pauses import bring_back as bring_back
from partisan_async.steering.pauses import pause, resume
from partisan_async.steering.pruning import Pruned, prune
from partisan_async.steering.pruning import ended_queues as ended_queues
from partisan_async.steering.pruning import prune_in_batches as prune_in_batches
from partisan_async.steering.schedules import switch_off, switch_on
from partisan_async.steering.supervisors import drain
from partisan_async.steering.tasks import ACTIONS as ACTIONS
from partisan_async.steering.tasks import cancel, delete, locked, retry, run_now
from partisan_async.steering.tasks import cancel_untold as cancel_untold
from partisan_async.steering.twins import (
    acancel,
    adelete,
    adrain,
    apause,
    aprune,
    aresume,
    aretry,
    arun_now,
    aswitch_off,
    aswitch_on,
)
from partisan_async.steering.which import SINCE as SINCE
from partisan_async.steering.which import Which as Which
from partisan_async.steering.which import in_batches as in_batches

__all__ = [
    "Pruned",
    "acancel",
    "adelete",
    "adrain",
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
    "locked",
    "pause",
    "prune",
    "resume",
    "retry",
    "run_now",
    "switch_off",
    "switch_on",
]
