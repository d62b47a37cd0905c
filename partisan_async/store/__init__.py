"""Every statement that changes the package's tables: SQL and parameters, executed elsewhere.

Nothing else writes to these tables, but for ``steering.home``, which keeps one row by Django's ORM,
the testing kit, which deletes a test's tasks and sets their times, and users, who may delete a
``UniqueWindow`` to end it before its time. ``enqueue`` and ``steering`` execute the statements on
Django's connection, in the caller's transaction; the supervisor on its own connection. Nothing is
decided here.

Words: a supervisor's *claim* of a row is identified by ``(id, claim_seq)``; to *settle* a claim is
to write its outcome; a *fence* is the condition that lets only the claim's holder settle it.

All times are the database's ``statement_timestamp()``: ``now()`` stands still during a transaction,
and no index condition can use ``clock_timestamp()``.
"""

from partisan_async.store.among import ALL, Among
from partisan_async.store.announcing import announce
from partisan_async.store.claimed import arguments_of, held, look, named, still_to_run
from partisan_async.store.claiming import HISTORY, claim, claim_only, claims, ready
from partisan_async.store.erasing import (
    counts_of,
    empty_tasks,
    erase_schedules,
    erase_tasks,
    erase_windows,
    ids_of,
)
from partisan_async.store.kept import KEPT_PER_ROW
from partisan_async.store.lease import BEAT_SECONDS, TTL_SECONDS, Beat, Seen, beat, forget, unserved
from partisan_async.store.limiting import (
    KEYS_AT_ONCE,
    Key,
    Verdict,
    claim_limited,
    outcome,
)
from partisan_async.store.limits import (
    TOLD_AT_ONCE,
    Numbers,
    freed,
    pause_keys,
    rank,
    set_limits,
    tell_limited,
    unranked,
)
from partisan_async.store.mending import broken, constraints, mend, validate
from partisan_async.store.newcomers import LOOKED_AT_MOST, Behind, newcomers
from partisan_async.store.notifying import (
    HELD_NO_MORE,
    LIMITED,
    STEERED,
    TOLD_AT_MOST,
    channel,
    limited_payload,
    notify,
    wake,
)
from partisan_async.store.over import OVER_AT_ONCE, PAUSES, STARTS, WINDOWS, prune_over
from partisan_async.store.overriding import (
    DISSOLVED_AT_ONCE,
    clear_override,
    dissolve,
    first_limited,
    forget_limit,
    limited_queues,
    override,
)
from partisan_async.store.parking import (
    NEVER,
    PARKED_AT_ONCE,
    end_pauses,
    is_parked,
    park,
    parked_queues,
    pauses,
    unpark,
)
from partisan_async.store.pausing import pause, pause_processor, resume, resume_processor
from partisan_async.store.promoting import PROMOTED_AT_ONCE, advance, due, promote
from partisan_async.store.pruning import Place, Pruned, Pruning, prune
from partisan_async.store.punctuality import Punctuality, punctuality, succeeded
from partisan_async.store.putting_under import put_under_limits
from partisan_async.store.rescuing import left_workers, orphans, rescue
from partisan_async.store.settling import delete_finished, settle, settle_within
from partisan_async.store.statement import Locking, Statement, database
from partisan_async.store.steering import (
    UNENDED,
    again,
    again_with,
    cancel,
    delete,
    drain,
    ended_queues,
    locked,
    rerank,
    run_now,
)
from partisan_async.store.tallying import TALLY_COLUMNS, forget_tallies, tally
from partisan_async.store.ticking import (
    Scheduled,
    move_up,
    recount_schedules,
    schedules,
    set_schedules,
    switch_schedules,
    tick,
)
from partisan_async.store.timetable import (
    Held,
    Made,
    behind,
    count_from,
    forget_schedules,
    held_schedule,
    hold,
    make,
    soonest,
)
from partisan_async.store.walking import WALKED_AT_ONCE, heads, walk

__all__ = [
    "ALL",
    "BEAT_SECONDS",
    "DISSOLVED_AT_ONCE",
    "HELD_NO_MORE",
    "HISTORY",
    "KEPT_PER_ROW",
    "KEYS_AT_ONCE",
    "LIMITED",
    "LOOKED_AT_MOST",
    "NEVER",
    "OVER_AT_ONCE",
    "PARKED_AT_ONCE",
    "PAUSES",
    "PROMOTED_AT_ONCE",
    "STARTS",
    "STEERED",
    "TALLY_COLUMNS",
    "TOLD_AT_MOST",
    "TOLD_AT_ONCE",
    "TTL_SECONDS",
    "UNENDED",
    "WALKED_AT_ONCE",
    "WINDOWS",
    "Among",
    "Beat",
    "Behind",
    "Held",
    "Key",
    "Locking",
    "Made",
    "Numbers",
    "Place",
    "Pruned",
    "Pruning",
    "Punctuality",
    "Scheduled",
    "Seen",
    "Statement",
    "Verdict",
    "advance",
    "again",
    "again_with",
    "announce",
    "arguments_of",
    "beat",
    "behind",
    "broken",
    "cancel",
    "channel",
    "claim",
    "claim_limited",
    "claim_only",
    "claims",
    "clear_override",
    "constraints",
    "count_from",
    "counts_of",
    "database",
    "delete",
    "delete_finished",
    "dissolve",
    "drain",
    "due",
    "empty_tasks",
    "end_pauses",
    "ended_queues",
    "erase_schedules",
    "erase_tasks",
    "erase_windows",
    "first_limited",
    "forget",
    "forget_limit",
    "forget_schedules",
    "forget_tallies",
    "freed",
    "heads",
    "held",
    "held_schedule",
    "hold",
    "ids_of",
    "is_parked",
    "left_workers",
    "limited_payload",
    "limited_queues",
    "locked",
    "look",
    "make",
    "mend",
    "move_up",
    "named",
    "newcomers",
    "notify",
    "orphans",
    "outcome",
    "override",
    "park",
    "parked_queues",
    "pause",
    "pause_keys",
    "pause_processor",
    "pauses",
    "promote",
    "prune",
    "prune_over",
    "punctuality",
    "put_under_limits",
    "rank",
    "ready",
    "recount_schedules",
    "rerank",
    "rescue",
    "resume",
    "resume_processor",
    "run_now",
    "schedules",
    "set_limits",
    "set_schedules",
    "settle",
    "settle_within",
    "soonest",
    "still_to_run",
    "succeeded",
    "switch_schedules",
    "tally",
    "tell_limited",
    "tick",
    "unpark",
    "unranked",
    "unserved",
    "validate",
    "wake",
    "walk",
]
