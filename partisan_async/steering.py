"""What an operator does: run tasks again, now, not at all, or forget them; pause, switch, drain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import product, takewhile
from typing import Any
from uuid import UUID

from django.db import Error, connections, transaction
from django.db.models import QuerySet

from partisan_async import signals, store
from partisan_async.blame import is_of_some_rows
from partisan_async.exceptions import TaskCancelled
from partisan_async.models import ENDED, Task
from partisan_async.policy import Failure
from partisan_async.printable import storable
from partisan_async.retold import MESSAGE_LENGTH


def retry(ids: Sequence[int]) -> list[int]:
    """Run tasks again that ended in error, all counts at zero; return the ids of those that do."""
    return _steer_tasks("retry", store.again, ids, Task.STATUS_NEW)


def run_now(ids: Sequence[int]) -> list[int]:
    """Run tasks at once that are scheduled; return the ids of those that do."""
    return _steer_tasks("run-now", store.run_now, ids, Task.STATUS_NEW)


def cancel(ids: Sequence[int], *, by: str = "", reason: str = "") -> list[int]:
    """End tasks that wait or run, in error; return the ids of those that did.

    One that runs is killed with its worker process: at once by a supervisor that listens, and else
    at its next beat.

    :param by: who does it, for people; kept on the rows, as is the reason.
    """
    by, reason = storable(by[:MESSAGE_LENGTH]), storable(reason[:MESSAGE_LENGTH])
    failure = Failure.of(TaskCancelled(by, reason))
    end = partial(store.cancel, failure=failure, by=by, reason=reason)
    done = _steer_tasks("cancel", end, ids, store.HELD_NO_MORE)
    signals.tell_of_cancelled(done, by, reason)
    return done


AT_ONCE = 1000
"""So many tasks are steered in one transaction."""


def in_batches(
    do: Callable[[Sequence[int]], list[int]], tasks: QuerySet[Task]
) -> Iterator[list[int]]:
    """Do it to all of these tasks; yield the ids of those it was done to, after each thousand.

    Each thousand is a transaction of its own. Tasks that come meanwhile are left alone, and so is
    what was done and matches again.
    """
    done, last = 0, tasks.order_by("-pk").values_list("pk", flat=True).first() or 0
    while ids := list(
        tasks.filter(pk__gt=done, pk__lte=last)
        .order_by("pk")
        .values_list("pk", flat=True)[:AT_ONCE]
    ):
        done = ids[-1]
        yield do(ids)


def delete(ids: Sequence[int]) -> list[int]:
    """Delete tasks that have ended; return the ids of those that were."""
    return _steer_tasks("delete", store.delete, ids, None)


def prune(
    older_than: timedelta, *, statuses: Sequence[str] = ENDED, queue_name: str | None = None
) -> Iterator[store.Pruned]:
    """Delete the rows of tasks that ended so long ago; yield what became of each thousand.

    What the database does not let go, as where a row of the site's refers to it, holds up no other.
    """
    names = [queue_name] if queue_name else ended_queues()
    for name, status in product(names, statuses):
        behind, more = None, True
        while more:
            pruned = _run(store.pruning(older_than, status, name, behind=behind))
            behind, more = pruned.last, pruned.more
            if pruned.deleted or pruned.kept:
                yield pruned


def ended_queues() -> list[str]:
    """Return the names of the queues with rows that have ended."""
    return [name for (name,) in _execute(store.ended_queues())]


def pause(queue_name: str) -> bool:
    """Have nothing of a queue started; what runs goes on. Return whether that is news."""
    return _tell(queue_name, store.pause(queue_name))


def resume(queue_name: str) -> bool:
    """End a queue's pause; return whether it was paused."""
    return _tell(queue_name, store.resume(queue_name))


def switch_on(processor_classes: Sequence[str]) -> list[str]:
    """Have schedules tick from now on; return the processors of those that did not."""
    return _steer(partial(store.switch_schedules, on=True), processor_classes, store.STEERED)


def switch_off(processor_classes: Sequence[str]) -> list[str]:
    """Have schedules tick no more; return the processors of those that did."""
    return _steer(partial(store.switch_schedules, on=False), processor_classes, store.STEERED)


def drain(supervisor_id: UUID) -> bool:
    """Have a supervisor start nothing more, and end when all that it runs has ended.

    Return whether there is such a one. Its service manager may start another in its place.
    """
    rows = _execute(store.drain(supervisor_id))
    for (queue_name,) in rows:
        store.wake(queue_name, store.STEERED, store.database())
    return bool(rows)


ACTIONS: dict[str, tuple[Callable[[Sequence[int]], list[int]], tuple[str, ...]]] = {
    "retry": (retry, (Task.STATUS_ERROR,)),
    "run-now": (run_now, (Task.STATUS_SCHEDULED,)),
    "cancel": (cancel, (Task.STATUS_NEW, Task.STATUS_SCHEDULED, Task.STATUS_IN_PROCESS)),
    "delete": (delete, ENDED),
}
"""Each with the statuses that it can be done in."""


def locked(action: str, ids: Sequence[int]) -> list[int]:
    """Return those that the action is for, and passes over: another transaction has them locked."""
    _, statuses = ACTIONS[action]
    return [pk for (pk,) in _execute(store.locked(ids, statuses))]


def _steer_tasks(
    action: str, way: Callable[..., store.Statement], ids: Sequence[int], told: str | None
) -> list[int]:
    """Return the ids of those it was done to: not of those that others hold locked for longer."""
    connection = connections[store.database()]
    taken = store.taken_by(connection)
    takes = connection.in_atomic_block and taken.has_room_for(len(ids))
    taken.count += len(ids) if takes else 0
    done: list[int] = []
    left = list(ids)
    for attempt, _ in enumerate(takewhile(bool, store.attempts())):
        try:
            now = _steer(partial(way, takes=takes), left, told, taken)
        except Error as error:
            if attempt == 0 or not _is_the_rows(error):
                raise
            break  # the others are done
        done += now
        left = _matching(action, set(left).difference(now))
        if not left:
            break
    return done


def _matching(action: str, ids: set[int]) -> list[int]:
    """Return those that the action is for: they were locked when it came, or are refused."""
    _, statuses = ACTIONS[action]
    rows = Task.objects.using(store.database()).filter(pk__in=ids, status__in=statuses)
    return sorted(rows.values_list("pk", flat=True)) if ids else []


def _steer(
    way: Callable[[Sequence[Any]], store.Statement],
    keys: Sequence[Any],
    told: str | None,
    taken: store.Taken | None = None,
) -> list[Any]:
    """Return what the rows begin with; each ends with the queue to wake.

    :param told: what its supervisors are told; ``None``: nothing.
    """
    rows = _do(way, keys)
    for queue_name in {queue_name for _, queue_name in rows}:
        if told is not None:
            store.wake(queue_name, told, store.database(), taken)
    return [key for key, _ in rows]


def _do(way: Callable[[Sequence[Any]], store.Statement], keys: Sequence[Any]) -> list[Any]:
    """Do it to all that the database lets it be done to: in halves, where one spoils it for all.

    :raises Error: it is the only one.
    """
    try:
        with transaction.atomic(using=store.database()):
            return _execute(way(keys))
    except Error as error:
        if len(keys) < 2 or not _is_the_rows(error):
            raise
    middle = len(keys) // 2
    rows, refused = [], []
    for half in (keys[:middle], keys[middle:]):
        try:
            rows += _do(way, half)
        except Error as error:
            if not _is_the_rows(error):
                raise
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]
    return rows


def _tell(queue_name: str, statement: store.Statement) -> bool:
    changed = _execute(statement)
    store.wake(queue_name, store.STEERED, store.database())
    return bool(changed)


def _run(batch: store.Batch) -> store.Pruned:
    answer: list[Any] | Exception
    try:
        statement = next(batch)
        while True:
            try:
                with transaction.atomic(using=store.database()):
                    answer = _execute(statement)
            except Error as error:
                if not _is_the_rows(error):
                    raise
                answer = error
            statement = batch.send(answer)
    except StopIteration as done:
        pruned: store.Pruned = done.value
        return pruned


def _is_the_rows(error: Error) -> bool:
    return is_of_some_rows(error.__cause__ or error)


def _execute(statement: store.Statement) -> list[Any]:
    with connections[store.database()].cursor() as cursor:
        cursor.execute(*statement)
        return list(cursor.fetchall())
