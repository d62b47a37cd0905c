"""What an operator does: run tasks again, now, not at all, or forget them; pause, switch, drain.

Each has a twin for async code, named with an ``a`` before. None of them asks who calls it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial, wraps
from itertools import product, takewhile
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import Error, connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from partisan_async import signals, store
from partisan_async.exceptions import TaskCancelled
from partisan_async.models import ENDED, Supervisor, Task
from partisan_async.policy import Failure
from partisan_async.postgres.blame import is_of_some_rows
from partisan_async.steering import audit
from partisan_async.text import encodings
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH

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

P = ParamSpec("P")
R = TypeVar("R")


def retry(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
) -> list[int]:
    """Run tasks again that ended in error, all counts at zero; return the ids of those that do.

    :param ids: of these; with other parameters, those of them that match.
    :param queue_name, processor: those of this queue, or of this processor.
    :param older_than: those that ended so long ago, by the database's clock.
    :raises TypeError: none of these is given.
    """
    which = Which(queue_name, processor, older_than)
    return _to_all("retry", _retry, ids, which)


def run_now(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
) -> list[int]:
    """Run tasks at once that are scheduled; return the ids of those that do.

    The parameters are those of ``retry``; ``older_than`` counts from when they were enqueued.
    """
    which = Which(queue_name, processor, older_than)
    return _to_all("run-now", _run_now, ids, which)


def cancel(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    statuses: Sequence[str] | None = None,
    by: str = "",
    reason: str = "",
) -> list[int]:
    """End tasks that wait or run, in error; return the ids of those that did.

    One that runs is killed with its worker process: at once by a supervisor that listens, and else
    at its next beat. The other parameters are those of ``run_now``.

    :param statuses: those in one of these: of ``new``, ``scheduled`` and ``in_process``; with none
        in it, none.
    :param by: who does it, for people; kept on the rows, as is the reason.
    """
    which = Which(queue_name, processor, older_than, statuses)
    do = partial(_cancel, statuses=which.statuses_for("cancel"), by=by, reason=reason)
    return _to_all("cancel", do, ids, which)


def delete(
    ids: Iterable[int] | None = None,
    *,
    queue_name: str | None = None,
    processor: str | None = None,
    older_than: timedelta | None = None,
    statuses: Sequence[str] | None = None,
) -> list[int]:
    """Delete tasks that have ended; return the ids of those that were.

    The parameters are those of ``retry`` and of ``cancel``. Of many, ``prune`` is faster.
    """
    which = Which(queue_name, processor, older_than, statuses)
    do = partial(_delete, statuses=which.statuses_for("delete"))
    return _to_all("delete", do, ids, which)


@dataclass(frozen=True)
class Which:
    """Which tasks something is to be done to: those that match all that is given."""

    queue_name: str | None = None
    processor: str | None = None
    older_than: timedelta | None = None
    statuses: Sequence[str] | None = None

    def among(self, action: str) -> QuerySet[Task]:
        """Return the tasks that an action is for, and that match now.

        :raises ValueError: the action is for no task in such a status.
        """
        given = {
            "queue_name": self.queue_name,
            "processor_class": self.processor,
            f"{SINCE[action]}__lt": None if self.older_than is None else Now() - self.older_than,
        }
        rows = Task.objects.using(store.database())
        tasks = rows.filter(status__in=self.statuses_for(action))
        return tasks.filter(**{key: value for key, value in given.items() if value is not None})

    def statuses_for(self, action: str) -> Sequence[str]:
        """Return the statuses that a task has to be in; see ``among``."""
        _, able = ACTIONS[action]
        if self.statuses is None:
            return able
        if wrong := sorted(set(self.statuses).difference(able)):
            raise ValueError(
                f"{action}: no task in status {wrong[0]!r}; it is for {', '.join(able)}."
            )
        return self.statuses


def _to_all(
    action: str,
    do: Callable[[Sequence[int]], list[int]],
    ids: Iterable[int] | None,
    which: Which,
) -> list[int]:
    if which == Which():
        if ids is None:
            raise TypeError(f"{action}: say which tasks, by their ids or by the other parameters.")
        named = list(ids)
        parts: Iterable[list[int]] = (
            do(named[start:][:AT_ONCE]) for start in range(0, len(named), AT_ONCE)
        )
    else:
        tasks = which.among(action)
        parts = in_batches(do, tasks if ids is None else tasks.filter(pk__in=list(ids)))
    return [pk for part in parts for pk in sorted(part)]


def _retry(ids: Sequence[int]) -> list[int]:
    return _steer_tasks("retry", store.again, ids, Task.STATUS_NEW, ACTIONS["retry"][1])


def _run_now(ids: Sequence[int]) -> list[int]:
    return _steer_tasks("run-now", store.run_now, ids, Task.STATUS_NEW, ACTIONS["run-now"][1])


def _cancel(ids: Sequence[int], *, statuses: Sequence[str], by: str, reason: str) -> list[int]:
    by, reason = _kept(by), _kept(reason)
    done = _end(ids, statuses, by, reason)
    signals.tell_of_cancelled(done, by, reason)
    return done


def cancel_untold(
    ids: Sequence[int], *, statuses: Sequence[str], by: str, reason: str
) -> list[int]:
    """As ``cancel``, of one thousand, and no signal is sent: they were another place's."""
    return _end(ids, statuses, _kept(by), _kept(reason))


def _kept(text: str) -> str:
    kept = storable(text.strip()[:MESSAGE_LENGTH])
    return encodings.within(kept, encodings.of_database())


def _end(ids: Sequence[int], statuses: Sequence[str], by: str, reason: str) -> list[int]:
    failure = Failure.of(TaskCancelled(by, reason))
    end = partial(store.cancel, failure=failure, by=by, reason=reason, statuses=statuses)
    return _steer_tasks("cancel", end, ids, store.HELD_NO_MORE, statuses)


def _delete(ids: Sequence[int], *, statuses: Sequence[str]) -> list[int]:
    end = partial(store.delete, statuses=statuses)
    return _steer_tasks("delete", end, ids, None, statuses)


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


@dataclass(frozen=True)
class Pruned:
    """What became of old rows.

    :param kept: what the database does not let go, as where a row of the site's refers to it.
    """

    deleted: int
    kept: dict[int, Exception]


def prune(
    older_than: timedelta, *, statuses: Sequence[str] = ENDED, queue_name: str | None = None
) -> Pruned:
    """Delete the rows of tasks that ended so long ago, a thousand at a time; return how many.

    :param statuses: those in one of these: of ``finished`` and ``error``.
    :param queue_name: those of this queue; ``None``: of all.
    :raises ValueError: there is another status.
    """
    if wrong := sorted(set(statuses).difference(ENDED)):
        raise ValueError(f"prune: no task in status {wrong[0]!r}; it is for {', '.join(ENDED)}.")
    deleted = 0
    kept: dict[int, Exception] = {}
    for part in prune_in_batches(older_than, statuses=statuses, queue_name=queue_name):
        deleted += part.deleted
        kept |= part.kept
    return Pruned(deleted, kept)


def prune_in_batches(
    older_than: timedelta, *, statuses: Sequence[str] = ENDED, queue_name: str | None = None
) -> Iterator[store.Pruned]:
    """As ``prune``, and yield what became of each thousand.

    What the database does not let go holds up no other.
    """
    names = ended_queues() if queue_name is None else [queue_name]
    for name, status in product(names, statuses):
        behind, more = None, True
        while more:
            pruning = store.Pruning(older_than, status, name, behind=behind)
            for statement in pruning:
                with pruning.refusals(), transaction.atomic(using=store.database()):
                    pruning.answer = _execute(statement)
            pruned = pruning.pruned
            behind, more = pruned.last, pruned.more
            if pruned.deleted:
                told = f"{pruned.deleted:,} {status} of queue {name!r}"
                audit.put_down("prune", [told], queue_name=name, count=pruned.deleted)
            if pruned.deleted or pruned.kept:
                yield pruned


def ended_queues() -> list[str]:
    """Return the names of the queues with rows that have ended."""
    return [name for (name,) in _execute(store.ended_queues())]


def pause(queue_name: str | None = None, *, processor: str | None = None) -> bool:
    """Have nothing of a queue or of a processor started; what runs goes on, and calls are taken.

    :param processor: nothing of this alone; without a queue: in all of them.
    :return: whether that is news.
    :raises TypeError: neither is given.
    """
    if processor is None:
        queue_name = _named(queue_name)
        return _tell_queue("pause", queue_name, store.pause(queue_name))
    statement = store.pause_processor(processor, queue_name or "")
    to_wake = [queue_name] if queue_name else _served_queues()
    about = {"queue_name": queue_name, "processor": processor}
    return _tell("pause", _named_processor(processor, queue_name), to_wake, statement, **about)


def resume(queue_name: str | None = None, *, processor: str | None = None) -> bool:
    """End a pause; return whether there was one.

    What waited for the end of a processor's pause is made ready again: what one second does of it
    by this call, and the rest by the supervisors of its queue, with their beats.

    :param processor: that of this one; without a queue: wherever it is paused. The queue ``""``
        stands for the pause in every queue: then those in single queues go on.
    :raises TypeError: neither is given.
    """
    if processor is None:
        queue_name = _named(queue_name)
        return _tell_queue("resume", queue_name, store.resume(queue_name))
    statement = store.resume_processor(processor, queue_name)
    about = {"queue_name": queue_name, "processor": processor}
    over = _tell("resume", _named_processor(processor, queue_name), [], statement, **about)
    # Supervisors do it, too: but of an older release none would.
    bring_back(BROUGHT_BACK_SECONDS)
    for name in [queue_name] if queue_name else _served_queues():
        store.wake(name, store.STEERED, store.database())
    return over


BROUGHT_BACK_SECONDS = 1.0
"""So long at most ``resume`` makes tasks ready, and it takes one statement to notice."""


def bring_back(seconds: float = math.inf) -> None:
    """Make tasks ready again whose processors are paused no more, as far as it gets in so long.

    In a transaction of the caller's it does nothing: that would keep them locked.
    """
    if connections[store.database()].in_atomic_block:
        return
    until = time.monotonic() + seconds
    for (name,) in _execute(store.parked_queues()):
        while _execute(store.unpark(name)) != [(0,)]:
            if time.monotonic() >= until:
                return
    _execute(store.end_pauses())


def _named(queue_name: str | None) -> str:
    if queue_name is None:
        raise TypeError('Say what: a queue, as in pause("imports"), or processor="Pay".')
    return queue_name


def _named_processor(processor: str, queue_name: str | None) -> str:
    return f"processor {processor!r} in {f'queue {queue_name!r}' if queue_name else 'every queue'}"


def _tell_queue(action: str, queue_name: str, statement: store.Statement) -> bool:
    thing = f"queue {queue_name!r}"
    return _tell(action, thing, [queue_name], statement, queue_name=queue_name)


def _served_queues() -> list[str]:
    rows = Supervisor.objects.using(store.database())
    return list(rows.values_list("queue_name", flat=True).distinct())


def switch_on(processor_classes: Sequence[str]) -> list[str]:
    """Have schedules tick from now on; return the processors of those that did not."""
    return _switch("switch-on", processor_classes, on=True)


def switch_off(processor_classes: Sequence[str]) -> list[str]:
    """Have schedules tick no more; return the processors of those that did."""
    return _switch("switch-off", processor_classes, on=False)


def drain(supervisor_id: UUID) -> bool:
    """Have a supervisor start nothing more, and end when all that it runs has ended.

    Return whether there is such a one. Its service manager may start another in its place.
    """
    rows = _execute(store.drain(supervisor_id))
    for (queue_name,) in rows:
        store.wake(queue_name, store.STEERED, store.database())
        audit.put_down("drain", [supervisor_id], queue_name=queue_name)
    return bool(rows)


ACTIONS: dict[str, tuple[Callable[[Sequence[int]], list[int]], tuple[str, ...]]] = {
    "retry": (retry, (Task.STATUS_ERROR,)),
    "run-now": (run_now, (Task.STATUS_SCHEDULED,)),
    "cancel": (cancel, store.UNENDED),
    "delete": (delete, ENDED),
}
"""Each with the statuses that it can be done in."""

SINCE = {
    "retry": "finished_at",
    "run-now": "created_at",
    "cancel": "created_at",
    "delete": "finished_at",
}
"""Since when a task is old for it."""


def locked(action: str, ids: Sequence[int]) -> list[int]:
    """Return those that the action is for, and passes over: another transaction has them locked.

    :param action: ``retry``, ``run-now``, ``cancel`` or ``delete``.
    """
    _, statuses = ACTIONS[action]
    return [pk for (pk,) in _execute(store.locked(ids, statuses))]


def _steer_tasks(
    action: str,
    way: Callable[..., store.Statement],
    ids: Sequence[int],
    told: str | None,
    statuses: Sequence[str],
) -> list[int]:
    """Return the ids of those it was done to: not of those that others hold locked for longer."""
    connection = connections[store.database()]
    taken = store.taken_by(connection)
    takes = connection.in_atomic_block and taken.has_room_for(len(ids))
    taken.count += len(ids) if takes else 0
    done: list[int] = []
    left = list(ids)
    try:
        for attempt, _ in enumerate(takewhile(bool, store.attempts())):
            try:
                now = _steer(partial(way, takes=takes), left, told, taken)
            except Error as error:
                if attempt == 0 or not _is_the_rows(error):
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
    """Return those in one of these statuses: they were locked when it came, or are refused."""
    rows = Task.objects.using(store.database()).filter(pk__in=ids, status__in=statuses)
    return sorted(rows.values_list("pk", flat=True)) if ids else []


def _switch(action: str, processor_classes: Sequence[str], *, on: bool) -> list[str]:
    switched = _steer(partial(store.switch_schedules, on=on), processor_classes, store.STEERED)
    audit.put_down(action, switched, schedules=switched)
    return switched


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


def _tell(
    action: str, thing: str, queue_names: Sequence[str], statement: store.Statement, **about: Any
) -> bool:
    changed = _execute(statement)
    for name in queue_names:
        store.wake(name, store.STEERED, store.database())
    if changed:
        audit.put_down(action, [thing], **about)
    return bool(changed)


def _is_the_rows(error: Error) -> bool:
    return is_of_some_rows(error.__cause__ or error)


def _execute(statement: store.Statement) -> list[Any]:
    with connections[store.database()].cursor() as cursor:
        cursor.execute(*statement)
        return list(cursor.fetchall())


def _twin(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the same for async code, in a thread; it commits by itself."""

    @wraps(function)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        return await sync_to_async(function)(*args, **kwargs)

    twin.__name__ = twin.__qualname__ = f"a{function.__name__}"
    twin.__doc__ = f"As ``{function.__name__}``, from async code, where it commits by itself."
    return twin


aretry = _twin(retry)
arun_now = _twin(run_now)
acancel = _twin(cancel)
adelete = _twin(delete)
aprune = _twin(prune)
apause = _twin(pause)
aresume = _twin(resume)
adrain = _twin(drain)
aswitch_on = _twin(switch_on)
aswitch_off = _twin(switch_off)
