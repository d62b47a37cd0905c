"""Whether an open transaction has a task's row locked, and whose."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async.enqueue.run import fetch
from partisan_async.models import Task
from partisan_async.text.durations import in_words


def locked(task: Task) -> Iterator[str]:
    """Say who has locked the row: claims skip locked rows, and nothing else shows the lock.

    To find out, this locks the row itself for a moment.
    """
    sql = "SELECT 1 FROM partisan_async_task WHERE id = %(id)s FOR UPDATE SKIP LOCKED"
    if fetch(sql, {"id": task.pk}):
        return
    # If several transactions hold the lock, xmax is a multixact id, and no holder is found.
    holders = fetch(
        """
        SELECT a.pid, a.application_name, a.state,
            extract(epoch FROM clock_timestamp() - a.xact_start)::float8
        FROM partisan_async_task t JOIN pg_locks l ON l.transactionid = t.xmax AND l.granted
            JOIN pg_stat_activity a USING (pid) WHERE t.id = %(id)s
        """,
        {"id": task.pk},
    )
    who = "".join(_holder(*holder) for holder in holders)
    yield gettext(
        "An open transaction%(whose)s has locked its row, and it is claimed when that ends: so does"
        " one that made an identical call, which was ignored."
    ) % {"whose": who}


def _holder(pid: int, name: str, state: str, seconds: float | None) -> str:
    return gettext(" of server process %(pid)s (%(name)s, %(state)s, %(time)s)") % {
        "pid": pid,
        "name": name or gettext("unnamed"),
        "state": state,
        "time": in_words(seconds or 0),
    }
