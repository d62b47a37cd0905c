"""Looks for what keeps tasks from running well, and says of each thing what to do. Changes nothing.

Each *look* is a function without arguments that yields what it found: ``well`` once, or ``wrong``
for each thing that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import Error, transaction

from partisan_async import registry, store
from partisan_async.operate.doctor import (
    indexes,
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
    schedules.overdue_schedules,
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

    :param well: ``None``: it could not be looked up.
    :param said: what is so, and where it is not well, what to do.
    """

    look: str
    well: bool | None
    said: str


def examine() -> Iterator[Finding]:
    """Yield what each look found, as soon as it has."""
    registry.autodiscover()
    for look in LOOKS:
        name = look.__name__.replace("_", " ")
        try:
            # One that fails takes no other with it, also where the caller is in a transaction.
            with transaction.atomic(using=store.database()):
                found = list(look())
        except Exception as error:  # noqa: BLE001  no look may keep the others from being told
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
