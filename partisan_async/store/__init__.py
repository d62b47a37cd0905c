"""Every statement that changes a row of the package's. Nothing else writes to its tables.

Statements come as SQL and parameters, for whoever holds the connection: ``enqueue`` runs on
Django's, in the caller's transaction; the supervisor runs the others on its own. No decision is
made here.

Words: a *claim* is one taking of a row by one supervisor, named by ``(id, claim_seq)``; to *settle*
is to write what became of it; a *fence* is the condition that only its holder's settle meets.

All clocks are the database's. ``statement_timestamp()`` and not ``now()``, which stands still while
a transaction lasts, and not ``clock_timestamp()``, which no index condition can use.
"""

from partisan_async.enqueue.inserting import bulk_enqueue, enqueue
from partisan_async.enqueue.taking import Taken, attempts, taken_by
from partisan_async.store.claiming import (
    ALL,
    HISTORY,
    PROMOTED_AT_ONCE,
    Among,
    advance,
    arguments_of,
    claim,
    claim_only,
    claims,
    due,
    held,
    look,
    named,
    orphans,
    promote,
    ready,
    rescue,
)
from partisan_async.store.lease import (
    BEAT_SECONDS,
    TTL_SECONDS,
    beat,
    forget,
    unserved,
)
from partisan_async.store.parking import (
    NEVER,
    PARKED_AT_ONCE,
    end_pauses,
    is_parked,
    park,
    parked_queues,
    pause_processor,
    pauses,
    resume_processor,
    unpark,
)
from partisan_async.store.pruning import (
    Place,
    Pruned,
    Pruning,
    prune,
)
from partisan_async.store.settling import (
    ENDS_CHANNEL,
    KEPT_PER_ROW,
    announce,
    announced,
    delete_finished,
    settle,
    settle_within,
)
from partisan_async.store.statement import (
    Statement,
    database,
)
from partisan_async.store.steering import (
    UNENDED,
    again,
    cancel,
    delete,
    drain,
    ended_queues,
    locked,
    pause,
    resume,
    run_now,
)
from partisan_async.store.tallying import (
    TALLY_COLUMNS,
    forget_tallies,
    tally,
)
from partisan_async.store.ticking import (
    Scheduled,
    move_up,
    schedules,
    set_schedules,
    switch_schedules,
    tick,
)
from partisan_async.store.waking import (
    HELD_NO_MORE,
    STEERED,
    channel,
    notify,
    wake,
)

__all__ = [
    "ALL",
    "BEAT_SECONDS",
    "ENDS_CHANNEL",
    "HELD_NO_MORE",
    "HISTORY",
    "KEPT_PER_ROW",
    "NEVER",
    "PARKED_AT_ONCE",
    "PROMOTED_AT_ONCE",
    "STEERED",
    "TALLY_COLUMNS",
    "TTL_SECONDS",
    "UNENDED",
    "Among",
    "Place",
    "Pruned",
    "Pruning",
    "Scheduled",
    "Statement",
    "Taken",
    "advance",
    "again",
    "announce",
    "announced",
    "arguments_of",
    "attempts",
    "beat",
    "bulk_enqueue",
    "cancel",
    "channel",
    "claim",
    "claim_only",
    "claims",
    "database",
    "delete",
    "delete_finished",
    "drain",
    "due",
    "end_pauses",
    "ended_queues",
    "enqueue",
    "forget",
    "forget_tallies",
    "held",
    "is_parked",
    "locked",
    "look",
    "move_up",
    "named",
    "notify",
    "orphans",
    "park",
    "parked_queues",
    "pause",
    "pause_processor",
    "pauses",
    "promote",
    "prune",
    "ready",
    "rescue",
    "resume",
    "resume_processor",
    "run_now",
    "schedules",
    "set_schedules",
    "settle",
    "settle_within",
    "switch_schedules",
    "taken_by",
    "tally",
    "tick",
    "unpark",
    "unserved",
    "wake",
]
