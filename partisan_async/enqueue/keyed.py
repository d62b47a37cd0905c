"""Enqueues calls with a ``UNIQUE`` that says more than which calls are the same.

A call gets a row of its own, or a twin stands for it: one that waits, or runs, or the task that a
window has begun with. See ``unique`` for these words.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from django.db import connections, transaction

from partisan_async.claim import Call
from partisan_async.enqueue.ids import drawn
from partisan_async.enqueue.late import none_if_it_waits
from partisan_async.enqueue.rows import Rows
from partisan_async.enqueue.run import fetch, run
from partisan_async.enqueue.taking import Taken, attempts
from partisan_async.enqueue.wake import wake_for
from partisan_async.models import WAITING, Status, Task
from partisan_async.store import bulk
from partisan_async.store.bulk import INSERTED_AT_ONCE
from partisan_async.store.keyed import (
    close_windows,
    column_of,
    insert_keyed,
    meet_twins,
    windows,
)
from partisan_async.store.statement import array

_Way = Callable[[Sequence[bytes]], dict[bytes, Task]]


def enqueue_keyed(call: Call, alias: str, taken: Taken) -> Task:
    """Enqueue one call, in the caller's transaction, if there is one; as ``enqueue_all_keyed``."""
    own = transaction.atomic(using=alias) if connections[alias].get_autocommit() else nullcontext()
    with own:
        whose = None if call.subject is None else [call.subject]
        in_limit = None if call.limit_name is None else [call.limit_key]
        own_call = [call.arguments], [call.key]
        (task,) = enqueue_all_keyed(call, *own_call, alias, taken, whose, in_limit)
    return task


def enqueue_all_keyed(
    common: Call,
    encoded: Sequence[str],
    keys: Sequence[bytes],
    alias: str,
    taken: Taken,
    subjects: Sequence[str | None] | None = None,
    limit_keys: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
) -> list[Task]:
    """Return the row of each call, or its twin's; wake supervisors after the commit.

    It has to be in a transaction.

    :param common: the first of them; they differ in arguments, keys and subjects alone, and in
        their keys under their limit.
    :param subjects: whose each is: one, of those with one key; ``None``: all are nobody's.
    :param limit_keys: its key under their limit; ``None``: they start under none.
    :param ids: an id for each, as text; ``None``: they are drawn here.
    """
    assert common.unique is not None
    whose = None if subjects is None else dict(zip(keys, subjects, strict=True))
    ones: dict[bytes, _Own] = {}
    in_limit = limit_keys or [None] * len(keys)
    for key, each, limit_key in zip(keys, encoded, in_limit, strict=True):
        if common.unique.on_twin == "replace" or key not in ones:
            ones[key] = _Own(each, limit_key)
    takes = taken.has_room_for(len(ones))
    taken.count += len(ones) if takes else 0
    given = None if ids is None else _firsts(keys, ids)
    found = _Calls(common, ones, whose, alias, given, takes=takes).enqueued()
    waiting = [task for task in found.values() if task.status in WAITING]
    wake_for(waiting, alias, taken)
    if not waiting and connections[alias].in_atomic_block:
        taken.keep(alias)
    return [found[key] for key in keys]


def _firsts(keys: Sequence[bytes], ids: Sequence[str]) -> list[str]:
    """Return the id of the first call of each key."""
    firsts: dict[bytes, str] = {}
    for key, given in zip(keys, ids, strict=True):
        firsts.setdefault(key, given)
    return list(firsts.values())


class _Own(NamedTuple):
    """What one of several calls with a key has of its own, which may be the last or the first."""

    encoded: str
    limit_key: str | None


class _Calls:
    """Calls of different keys: what each has of its own, by its key.

    :param whose: the subject of each, likewise; ``None``: all are nobody's.
    :param ids: of each; ``None``: they are drawn here.
    :param takes: whether the keys are taken, see ``taking``.
    """

    def __init__(
        self,
        common: Call,
        own: dict[bytes, _Own],
        whose: dict[bytes, str | None] | None,
        alias: str,
        ids: Sequence[str] | None,
        *,
        takes: bool,
    ) -> None:
        assert common.unique is not None
        self._common, self._rule = common, common.unique
        self._own = own
        self._whose = whose
        self._alias = alias
        self._takes = takes
        self._column = column_of(common)
        self._place = {key: place for place, key in enumerate(own)}
        self._given: Sequence[str] = ids or ["NULL"] * len(own)
        if ids is None and len(own) > INSERTED_AT_ONCE:
            # Ids are given out in the order of the calls, and rows inserted in that of the keys.
            self._given = drawn(len(own), alias)

    def enqueued(self) -> dict[bytes, Task]:
        """Return the row of each, or its twin's."""
        found: dict[bytes, Task] = {}
        missing = sorted(self._own)
        for attempt, is_unique in enumerate(attempts()):
            for way in self._ways() if is_unique else [self._insert_beside]:
                with none_if_it_waits(self._alias, late=attempt > 0 and is_unique):
                    found |= self._all(way, missing)
                missing = [key for key in missing if key not in found]
                if not missing:
                    return found
        raise AssertionError("beside its twins each call has a row")

    def _all(self, way: _Way, keys: Sequence[bytes]) -> dict[bytes, Task]:
        found: dict[bytes, Task] = {}
        for chunk in self._chunks(keys):
            found |= way(chunk)
        return found

    def _ways(self) -> Iterator[_Way]:
        yield self._insert
        # A twin waits or runs, or another transaction, which is open yet, takes the key. The twin
        # may go on, or that transaction end, before the look: then the insert is tried again.
        yield self._meet_twins
        if self._rule.within_seconds is not None:
            yield self._look_at_windows

    def _insert(self, keys: Sequence[bytes]) -> dict[bytes, Task]:
        calls = (self._ids(keys), self._texts(keys), keys, *self._more(keys))
        statement = insert_keyed(self._common, *calls, takes=self._takes)
        found, in_vain = self._inserted(keys, *fetch(*statement, self._alias))
        if in_vain:
            run(*close_windows(keys, in_vain), self._alias)
        for key, task in found.items():
            setattr(task, self._column, key)
        return found

    def _meet_twins(self, keys: Sequence[bytes]) -> dict[bytes, Task]:
        _, in_limit = self._more(keys)
        texts = dict(zip(keys, self._texts(keys), strict=True))
        statement = meet_twins(self._common, texts, in_limit)
        twins = {}
        for task in Task.objects.using(self._alias).raw(*statement):
            task.is_twin = True
            twins[bytes(getattr(task, self._column))] = task
        return twins

    def _look_at_windows(self, keys: Sequence[bytes]) -> dict[bytes, Task]:
        """Return the tasks that open windows began with, also those whose rows are gone."""
        found = fetch(*windows(self._common, keys), self._alias)
        rows = Task.objects.using(self._alias).in_bulk([pk for _, pk, _ in found])
        twins = {}
        for key, pk, began in found:
            task = rows.get(pk) or self._gone(bytes(key), pk, began)
            is_twin = task.status in WAITING and getattr(task, self._column) is not None
            # A twin that was not met is locked by somebody: what is to change it may not be lost.
            if not is_twin or self._rule.on_twin == "ignore":
                task.is_twin = True
                twins[bytes(key)] = task
        return twins

    def _insert_beside(self, keys: Sequence[bytes]) -> dict[bytes, Task]:
        """Insert calls that no call will be a twin of: two rows rather than a wait."""
        common = self._common.beside_twins()
        calls = (self._ids(keys), self._texts(keys), None, *self._more(keys))
        statement = bulk.insert_bulk(common, *calls, takes=False)
        ((*answer,),) = fetch(*statement, self._alias)
        return self._inserted(keys, [*answer, None])[0]

    def _inserted(
        self, keys: Sequence[bytes], answer: Sequence[Any]
    ) -> tuple[dict[bytes, Task], Sequence[Any]]:
        """Return the rows that an insert made, and the windows that began in vain."""
        given, pks, *same, in_vain = answer
        if not pks:
            return {}, in_vain
        rows = Rows(self._alias, self._common, *same)
        key_of = dict(zip(given, keys, strict=True))
        calls = {key_of[pk]: pk for pk in pks}
        return {key: self._row(rows, pk, key) for key, pk in calls.items()}, in_vain

    def _gone(self, key: bytes, pk: int, created_at: datetime.datetime) -> Task:
        """Return a task whose row is gone, as far as anybody knows it."""
        rows = Rows(self._alias, self._common, Status.FINISHED.value, created_at, None)
        return self._row(rows, pk, key)

    def _row(self, rows: Rows, pk: int, key: bytes) -> Task:
        subject = None if self._whose is None else self._whose[key]
        encoded, limit_key = self._own[key]
        return rows.of(pk, json.loads(encoded), None, subject, limit_key)

    def _chunks(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Yield a thousand at a time, each thousand in the order of the calls."""
        for start in range(0, len(keys), INSERTED_AT_ONCE):
            yield sorted(keys[start : start + INSERTED_AT_ONCE], key=self._place.__getitem__)

    def _ids(self, keys: Sequence[bytes]) -> str:
        return array(self._given[self._place[key]] for key in keys)

    def _texts(self, keys: Sequence[bytes]) -> list[str]:
        return [self._own[key].encoded for key in keys]

    def _more(
        self, keys: Sequence[bytes]
    ) -> tuple[list[str | None] | None, list[str | None] | None]:
        """Return the subjects of these calls, if any, and their keys, if they have a limit."""
        limit_keys = [self._own[key].limit_key for key in keys]
        return (
            None if self._whose is None else [self._whose[key] for key in keys],
            None if self._common.limit_name is None else limit_keys,
        )
