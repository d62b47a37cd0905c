"""Makes, changes, deletes and runs the schedules that are in no code."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from partisan_async import naming, registry, schedule, signals, store
from partisan_async.enqueue import limits
from partisan_async.enqueue.insert import enqueue
from partisan_async.enqueue.run import fetch, run
from partisan_async.enqueue.scheduled import (
    Called,
    call_of_stored,
    called_by,
    made_key,
    schedules_of,
)
from partisan_async.enqueue.subjects import checked, of_stored
from partisan_async.enqueue.wake import wake
from partisan_async.models import Schedule, Task
from partisan_async.models.readable import aware, is_moment
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.steering import audit
from partisan_async.steering.called import called
from partisan_async.steering.rows import change

TTL = timedelta(seconds=store.TTL_SECONDS)


class Surprise(Exception):  # noqa: N818  it is none of the caller's
    """A schedule is there that was to be new, or is gone that was to be changed."""


def create(
    name: str,
    call: BaseTaskProcessor | Callable[..., object],
    when: str | Cron | Every,
    *,
    subject: str | None = None,
) -> Schedule:
    """Have a call enqueued by a schedule from now on, in the caller's transaction; return its row.

    If there is a schedule of this name, it becomes this one, and a tick that is due and not taken
    yet comes with the new call. Switched off it stays off.

    :param name: text of 1 to 254 characters; the schedule's key is ``:name``.
    :param call: as for ``delay()``, such as ``Report("acme")``; of one of Django's own tasks, such
        as ``partial(report.enqueue, "acme")``.
    :param when: a string is a cron expression.
    :param subject: whose its tasks are, as for ``delay()``.
    :raises TypeError, ValueError, ProcessorClassNotFound: a parameter cannot be, or ``delay()``
        would refuse the call. Nothing is written.
    """
    key, known = made_key(name), _checked_schedule(when)
    return _make(key, *called(call, subject), known)


def change_schedule(row: Schedule, called: Called, known: Cron | Every) -> Schedule:
    """Have a schedule that was made at run time be another one, of the same processor.

    :param called: as ``checked_stored`` returned it.
    :raises Surprise: it is gone. Nothing is written.
    """
    return _make(row.pk, registry.get(row.processor_name), called, known, is_there=True)


def make_schedule(
    name: str, processor: type[BaseTaskProcessor], called: Called, known: Cron | Every
) -> Schedule:
    """As ``create``, of a new schedule, for a call that ``checked_stored`` returned.

    :raises Surprise: there is one of this name. Nothing is written.
    """
    return _make(made_key(name), processor, called, known, is_there=False)


def checked_stored(
    processor: type[BaseTaskProcessor],
    arguments: str,
    subject: str | None = None,
    *,
    kept: str | None = None,
) -> Called:
    """Return what a schedule keeps of a call whose arguments are stored ones already.

    :param subject: whose its tasks are, as for ``delay()``.
    :param kept: whose they were: that stays, where ``task_subject()`` does not say it anew.
    :raises TypeError, ValueError: ``delay()`` would refuse the call.
    """
    whose = of_stored(processor, arguments, kept) if subject is None else checked(subject)
    call_of_stored(processor, arguments, processor.QUEUE_NAME, whose)  # UNIQUE may refuse it
    return Called(arguments, whose, limits.of_stored(processor, arguments))


def delete(name: str) -> bool:
    """Delete a schedule that was made at run time, in the caller's transaction.

    Return whether there was one. The tasks that it has enqueued stay.

    :raises TypeError, ValueError: none can have this name.
    """
    return bool(delete_schedules([made_key(name)]))


def delete_schedules(keys: list[str]) -> list[str]:
    """Delete schedules that were made at run time; return the keys of those that there were."""
    deleted = change(store.forget_schedules, keys, store.STEERED)
    audit.put_down("delete-schedule", deleted, schedules=deleted)
    return deleted


def run_once(row: Schedule) -> Task:
    """Enqueue the call of a schedule once more and now, as ``delay()`` does.

    :raises ProcessorClassNotFound: nobody here knows its processor.
    :raises KeyError: it was not made at run time, and is in the code no more.
    :raises TypeError, ValueError: ``delay()`` would refuse it, or its row was changed by hand.
    """
    processor = registry.get(row.processor_name)
    if row.arguments is not None:
        call = call_of_stored(processor, row.arguments, row.queue_name, row.subject)
        key = limits.of_stored(processor, row.arguments)
    else:
        called = called_by(processor, schedules_of(processor)[row.pk])
        call = call_of_stored(processor, called.arguments, processor.QUEUE_NAME, called.subject)
        key = called.limit_key
    task = enqueue(limits.with_limit(call, processor, key))
    signals.tell_of_enqueued(processor, [task])
    return task


def _checked_schedule(when: object) -> Cron | Every:
    if when is None or (wrong := schedule.wrong(when)):
        wrong = "must be a cron expression, Every(seconds=…) or Cron(…)" if when is None else wrong
        kind = ValueError if isinstance(when, str) else TypeError
        raise kind(f"The schedule is {when!r}; it {wrong}.")
    assert isinstance(when, str | Cron | Every)
    known = schedule.of(when)
    if known.kwargs:
        raise ValueError(
            f"The schedule has kwargs={known.kwargs!r}; pass them in the call, as in Report(…)."
        )
    return known


def _make(
    key: str,
    processor: type[BaseTaskProcessor],
    called: Called,
    known: Cron | Every,
    *,
    is_there: bool | None = None,
) -> Schedule:
    """Have a schedule be this one.

    :param is_there: whether there must be one of this key; ``None``: there may be.
    """
    lasting = registry.lasting_name(naming.name_of(processor))
    what = (processor.QUEUE_NAME, lasting, called.arguments)
    when = (str(known), json.dumps(known.rule))
    under = (called.limit_key, limits.is_keyed(processor))
    made = store.Made(key, *what, *when, uuid.uuid4(), called.subject, *under)
    alias = store.database()
    with transaction.atomic(using=alias):
        run(*store.hold(made))
        ((now, before, *ticks),) = fetch(*store.held_schedule(key))
        held = store.Held(aware(now), before, *(tick and aware(tick) for tick in ticks))
        # Not before: until the row is held, somebody else may make it, or delete it.
        if is_there not in {None, bool(held.schedule)}:
            raise Surprise(key)
        run(*store.make(made, _first_tick(held, made, known)))
        wake(made.queue_name, store.STEERED, alias)
        action = "change-schedule" if held.schedule else "create-schedule"
        audit.put_down(action, [key], schedules=[key])
        return Schedule.objects.using(alias).get(pk=key)


def _first_tick(held: store.Held, made: store.Made, known: Cron | Every) -> datetime.datetime:
    """Return the first tick of a schedule that comes in the place of another one.

    A tick that is past and not taken yet is not lost; one that was taken does not come again.
    """
    due = held.next_tick
    if due is not None and is_moment(due) and (due <= held.now or held.schedule == made.schedule):
        return due
    since, last = held.now, held.last_tick
    # Not of a clock that was ahead: such a tick may be years away.
    if last is not None and is_moment(last) and since < last <= since + TTL:
        since = last
    return known.following(since, since)
