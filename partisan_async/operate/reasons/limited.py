"""What a task waits for under its limit: what runs there, what is closed, what comes before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext, ngettext

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Limit, LimitOverride, LimitPause, Task
from partisan_async.operate.limit_statements import ROOM
from partisan_async.operate.limit_states import window
from partisan_async.operate.reasons.pace import told_pace
from partisan_async.operate.reasons.words import at, listed, now
from partisan_async.operate.ways_out import WaysOut
from partisan_async.text import moments

Row = TypeVar("Row", bound=Model)

NAMED = 5
"""Maximum number of running tasks that are named."""

COUNTED = 1000
"""Maximum number counted of the tasks that run, and of those that come before it."""


def behind_limit(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say what a task waits for that starts under a limit."""
    if task.limit_key is None:
        said = gettext("It waits for limit %(limit)r.")
        yield said % {"limit": task.limit_name}
    else:
        said = gettext("It waits for limit %(limit)r, key %(key)s.")
        yield said % {"limit": task.limit_name, "key": ways.key(task.limit_key)}
    limit = _of(Limit).filter(pk=task.limit_name).first()
    if limit is None:
        yield gettext(
            "What that limit allows is not known yet, and nothing of it starts: a supervisor whose"
            " code has it writes that as it starts."
        )
        return
    if not limit.ranked:
        yield gettext("Its tasks are being put into another order, and none starts until then.")
    yield from _paused(task)
    yield from _running(task, limit, ways)
    yield from _rates(task, limit)
    count = _count_before(task)
    yield from _before(task, count)
    if not _is_held_back(task):
        yield from told_pace(task, count)


def _is_held_back(task: Task) -> bool:
    """Tell whether an operator or a pause lets none of its key start: then no pace says when."""
    closed = _of(LimitOverride).filter(name=task.limit_name, running=0)
    paused = _of(LimitPause).filter(name=task.limit_name, until__gt=now())
    is_its = Q(key__isnull=True) | _is_key("key", task.limit_key)
    return closed.filter(is_its).exists() or paused.filter(_is_key("key", task.limit_key)).exists()


def _paused(task: Task) -> Iterator[str]:
    moment = now()
    rows = _of(LimitPause).filter(name=task.limit_name, until__gt=moment)
    pause = rows.filter(_is_key("key", task.limit_key)).first()
    if pause is not None:
        if task.limit_key is None:
            said = gettext("None without a key starts until %(moment)s, as one of them asked.")
        else:
            said = gettext("None of its key starts until %(moment)s, as one of them asked.")
        yield said % {"moment": moments.told(pause.until, moment)}
    if task.execute_after > moment:
        said = gettext("It starts no earlier than %(moment)s.")
        yield said % {"moment": moments.told(task.execute_after, moment)}


def _running(task: Task, limit: Limit, ways: WaysOut) -> Iterator[str]:
    running = _of(Task).filter(status=Task.STATUS_IN_PROCESS, limit_name=task.limit_name)
    overrides = _of(LimitOverride).filter(name=task.limit_name)
    if task.limit_key is not None:
        own = overrides.filter(key=task.limit_key).first()
        if own is not None and own.running < 1:
            yield gettext("Its key was closed %(at)s.") % {"at": at(own.set_at)}
        of_key = _named(running.filter(limit_key=task.limit_key), ways)
        if limit.in_order:
            most: int | None = 1
            yield gettext("Those of a key run one at a time, in the order of their ids.")
        else:
            most = limit.running_per_key if own is None else own.running
        yield from _told(gettext("Of its key"), of_key, most)
    whole = overrides.filter(key__isnull=True).first()
    if whole is not None and whole.running < 1:
        yield gettext("The limit was closed %(at)s.") % {"at": at(whole.set_at)}
    most = limit.running if whole is None else whole.running
    if most is not None:
        yield from _told(gettext("Under this limit"), _named(running, ways), most)


def _told(of: str, names: Sequence[str], most: int | None) -> Iterator[str]:
    """Say how many run; nothing where none does, and any number may."""
    about = {"of": of, "count": _counted(len(names)), "most": most and f"{most:,}"}
    about["tasks"] = listed([*names[:NAMED], *(["…"] if names[NAMED:] else [])])
    if most is None and names:
        yield gettext("%(of)s %(count)s run: %(tasks)s.") % about
    elif most and names:
        yield gettext("%(of)s %(count)s of at most %(most)s run: %(tasks)s.") % about
    elif most:
        yield gettext("%(of)s none runs, and at most %(most)s may.") % about


def _rates(task: Task, limit: Limit) -> Iterator[str]:
    each, of_key = gettext("%(count)s in %(time)s"), gettext("%(count)s of its key in %(time)s")
    pairs = [(each, *pair) for pair in limit.rates]
    if task.limit_key is not None:
        pairs += [(of_key, *pair) for pair in limit.rates_per_key]
    told = [
        said % {"count": f"{count:,}", "time": window(seconds)} for said, count, seconds in pairs
    ]
    if not told:
        return
    yield gettext("No more start than: %(rates)s.") % {"rates": listed(told)}
    params = {"name": limit.name, "key": task.limit_key}
    for row in fetch(ROOM, params):
        # Its own rates do not hold for a task without a key.
        nexts = [each for each in row[: 1 if task.limit_key is None else 2] if each is not None]
        moment = now()
        if nexts and max(nexts) > moment:
            said = gettext("By that the next one starts no earlier than %(moment)s.")
            yield said % {"moment": moments.told(max(nexts), moment)}


def _before(task: Task, count: int) -> Iterator[str]:
    about = {"count": _counted(count)}
    if task.limit_key is None:
        if not count:
            yield gettext("It is the first of those without a key.")
            return
        said = ngettext(
            "%(count)s task without a key comes before it.",
            "%(count)s tasks without a key come before it.",
            count,
        )
    elif not count:
        yield gettext("It is the first of its key.")
        return
    else:
        said = ngettext(
            "%(count)s task of its key comes before it.",
            "%(count)s tasks of its key come before it.",
            count,
        )
    yield said % about


def _count_before(task: Task) -> int:
    # A row comparison is an index condition: the index is read up to this task only.
    is_key = "limit_key IS NULL" if task.limit_key is None else "limit_key = %(key)s"
    sql = f"""
    SELECT count(*) FROM (
        SELECT FROM partisan_async_task
        WHERE status = 'limited' AND queue_name = %(queue_name)s AND limit_name = %(name)s
            AND {is_key} AND (limit_rank, id) < (%(rank)s, %(id)s)
        ORDER BY limit_rank, id LIMIT {COUNTED + 1}) AS before
    """  # noqa: S608
    about = {"queue_name": task.queue_name, "name": task.limit_name, "key": task.limit_key}
    ((count,),) = fetch(sql, about | {"rank": task.limit_rank, "id": task.pk})
    return cast("int", count)


def _of(model: type[Row]) -> QuerySet[Row]:
    return model._default_manager.using(store.database())  # noqa: SLF001  documented API


def _is_key(column: str, key: str | None) -> Q:
    return Q(**{f"{column}__isnull": True}) if key is None else Q(**{column: key})


def _named(running: QuerySet[Task], ways: WaysOut) -> list[str]:
    rows = running.values_list("pk", "processor_class")[: COUNTED + 1]
    return [ways.task(pk, name) for pk, name in rows]


def _counted(count: int) -> str:
    if count > COUNTED:
        return gettext("more than %(count)s") % {"count": f"{COUNTED:,}"}
    return f"{count:,}"
