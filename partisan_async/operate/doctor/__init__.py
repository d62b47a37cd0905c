"""Looks for problems that keep tasks from running well, and says how to solve each. Only reads.

A *look* is a function without arguments that yields what it found: ``well`` once, or ``wrong`` once
for each problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import Error, transaction

from partisan_async import registry, store
from partisan_async.operate.doctor import (
    indexes,
    limits,
    place,
    reach,
    roles,
    schedules,
    sequences,
    server,
    states,
    table,
    tasks,
)
from partisan_async.operate.rights import current_role
from partisan_async.postgres.blame import Blame, way_out, whose
from partisan_async.text.one_line import explain

LOOKS = (
    tasks.migrations,
    roles.rights,
    place.home,
    tasks.silent_supervisors,
    tasks.unserved_queues,
    tasks.paused_queues,
    tasks.paused_processors,
    tasks.lost_tasks,
    tasks.unrecognised_tasks,
    tasks.abandoned_tasks,
    tasks.interrupted_tasks,
    schedules.overdue_schedules,
    limits.older_releases,
    limits.unused_limits,
    table.dead_rows,
    indexes.claim_plan,
    indexes.indexes,
    states.constraints,
    table.bloat,
    sequences.numbers,
    sequences.sequences,
    table.kept_rows,
    server.snapshots,
    server.prepared_transactions,
    server.replication_slots,
    server.notification_queue,
    server.connections,
    server.transaction_ids,
    server.clock,
    server.rows_ahead,
    reach.listen,
)


@dataclass(frozen=True)
class Finding:
    """What a look found.

    :param well: ``None``: the look itself failed.
    :param said: what the look found and, if that is a problem, what to do.
    """

    look: str
    well: bool | None
    said: str


def examine() -> Iterator[Finding]:
    """Yield what each look found, as soon as the look is done."""
    registry.autodiscover()
    for look in LOOKS:
        name = look.__name__.replace("_", " ")
        try:
            # In a savepoint: if the caller is in a transaction, a look that fails would break it
            # for all later looks.
            with transaction.atomic(using=store.database()):
                found = list(look())
        except Exception as error:  # noqa: BLE001  a failed look must not hide the others
            yield Finding(name, None, f"It could not be looked up: {_told(error)}")
        else:
            yield from (Finding(name, well, said) for well, said in found)


def _told(error: Exception) -> str:
    if not isinstance(error, Error):
        return " ".join(str(error).split())
    said = explain(error)
    cause = error.__cause__ or error
    if whose(cause) is not Blame.RIGHT:
        return said
    return f"{said}; {way_out(cause, current_role(store.database()))}"
