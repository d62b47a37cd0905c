"""Steers tasks: runs them again, or now; cancels them; deletes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from itertools import takewhile

from django.db import Error, connections

from partisan_async import signals, store
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.taking import attempts, taken_by
from partisan_async.exceptions import TaskCancelled
from partisan_async.models import Task
from partisan_async.policy import Failure
from partisan_async.postgres import encodings
from partisan_async.steering import audit
from partisan_async.steering.other_arguments import Given, retry_with
from partisan_async.steering.rows import change, is_the_rows
from partisan_async.steering.which import ABLE, Which, to_all
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH


def retry(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    subject: str | None = None,
    arguments: Given | None = None,
) -> list[int]:
    """Run failed tasks again, with all counts at zero; return the ids of the changed ones.

    :param ids: of these; with other parameters, those of them that match.
    :param queue_name, processor: those of this queue, or of this processor.
    :param older_than: those that ended so long ago, by the database's clock.
    :param subject: those of this subject, see ``delay``.
    :param arguments: run one task, named by its id alone, with this call in place of its own:
        ``{"args": […], "kwargs": {…}}``, or the JSON of that.
    :raises TypeError: none of these is given; or arguments, and not one id alone; or ``delay()``
        would refuse these.
    :raises ValueError: likewise; or the task is not in error; or an identical call waits.
    """
    which = Which(queue_name, processor, older_than, subject=subject)
    if arguments is not None:
        named = list(ids or ())
        if len(named) != 1 or which != Which():
            raise TypeError(
                "retry: other arguments are for one task; pass its id and nothing else, as in"
                " retry([4711], arguments={…})."
            )
        retry_with(named[0], arguments)
        return named
    return to_all("retry", _retry, ids, which)


def run_now(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    subject: str | None = None,
) -> list[int]:
    """Run scheduled tasks at once; return the ids of the changed ones.

    The parameters are those of ``retry``; ``older_than`` counts from when they were enqueued.
    """
    which = Which(queue_name, processor, older_than, subject=subject)
    return to_all("run-now", _run_now, ids, which)


def cancel(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    subject: str | None = None,
    statuses: Sequence[str] | None = None,
    by: str = "",
    reason: str = "",
) -> list[int]:
    """End tasks that wait or run, in ``error``; return the ids of the changed ones.

    A task that runs is killed with its worker process: at once if its supervisor listens, else at
    the next beat. The other parameters are those of ``run_now``.

    :param statuses: only tasks in these, of ``new``, ``scheduled``, ``limited`` and ``in_process``;
        an empty list matches none, and ``None`` means all of them.
    :param by: who does it, for people; kept on the rows, as is the reason.
    """
    which = Which(queue_name, processor, older_than, statuses, subject)
    do = partial(_cancel, statuses=which.statuses_for("cancel"), by=by, reason=reason)
    return to_all("cancel", do, ids, which)


def delete(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    subject: str | None = None,
    statuses: Sequence[str] | None = None,
) -> list[int]:
    """Delete tasks that have ended; return the ids of the deleted ones.

    The parameters are those of ``retry``. ``prune`` deletes many tasks faster.

    :param statuses: as in ``cancel``, but of ``finished`` and ``error``.
    """
    which = Which(queue_name, processor, older_than, statuses, subject)
    do = partial(_delete, statuses=which.statuses_for("delete"))
    return to_all("delete", do, ids, which)


def locked(action: str, ids: Sequence[int]) -> list[int]:
    """Return the ids of tasks that an action would skip because they are locked.

    :param action: ``retry``, ``run-now``, ``cancel`` or ``delete``.
    """
    statuses = ABLE[action]
    return [pk for (pk,) in fetch(*store.locked(ids, statuses))]


ACTIONS: dict[str, tuple[Callable[[Sequence[int]], list[int]], tuple[str, ...]]] = {
    "retry": (retry, ABLE["retry"]),
    "run-now": (run_now, ABLE["run-now"]),
    "cancel": (cancel, ABLE["cancel"]),
    "delete": (delete, ABLE["delete"]),
}
"""Each action: its function, and the statuses of tasks that it is for."""


def cancel_untold(
    ids: Sequence[int], *, statuses: Sequence[str], by: str, reason: str
) -> list[int]:
    """As ``cancel``, for at most 1,000 tasks, and without signals: they came from another place."""
    return _end(ids, statuses, _kept(by), _kept(reason))


def _retry(ids: Sequence[int]) -> list[int]:
    return _steer_tasks("retry", store.again, ids, Task.STATUS_NEW, ABLE["retry"])


def _run_now(ids: Sequence[int]) -> list[int]:
    return _steer_tasks("run-now", store.run_now, ids, Task.STATUS_NEW, ABLE["run-now"])


def _cancel(ids: Sequence[int], *, statuses: Sequence[str], by: str, reason: str) -> list[int]:
    by, reason = _kept(by), _kept(reason)
    done = _end(ids, statuses, by, reason)
    signals.tell_of_cancelled(done, by, reason)
    return done


def _delete(ids: Sequence[int], *, statuses: Sequence[str]) -> list[int]:
    end = partial(store.delete, statuses=statuses)
    return _steer_tasks("delete", end, ids, None, statuses)


def _end(ids: Sequence[int], statuses: Sequence[str], by: str, reason: str) -> list[int]:
    failure = Failure.of(TaskCancelled(by, reason))
    end = partial(store.cancel, failure=failure, by=by, reason=reason, statuses=statuses)
    return _steer_tasks("cancel", end, ids, store.HELD_NO_MORE, statuses)


def _kept(text: str) -> str:
    kept = storable(text.strip()[:MESSAGE_LENGTH])
    return encodings.within(kept, encodings.of_database(store.database()))


def _steer_tasks(
    action: str,
    way: Callable[..., store.Statement],
    ids: Sequence[int],
    told: str | None,
    statuses: Sequence[str],
) -> list[int]:
    """Return the ids of the changed tasks, without tasks that other transactions keep locked."""
    connection = connections[store.database()]
    taken = taken_by(connection)
    takes = connection.in_atomic_block and taken.has_room_for(len(ids))
    taken.count += len(ids) if takes else 0
    done: list[int] = []
    left = list(ids)
    try:
        for attempt, _ in enumerate(takewhile(bool, attempts())):
            try:
                now = change(partial(way, takes=takes), left, told, taken)
            except Error as error:
                if attempt == 0 or not is_the_rows(error):
                    raise
                break  # the others are done
            done += now
            left = _matching(set(left).difference(now), statuses)
            if not left:
                break
    finally:
        # What an attempt has committed was done, also where the next one loses the connection.
        audit.put_down(action, done, task_ids=done)
    return done


def _matching(ids: set[int], statuses: Sequence[str]) -> list[int]:
    """Return those still in these statuses: locked rows, or rows that the database refuses."""
    rows = Task.objects.using(store.database()).filter(pk__in=ids, status__in=statuses)
    return sorted(rows.values_list("pk", flat=True)) if ids else []
