"""Erases all that is of one subject: the answer to somebody's request for deletion."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import Error, connections, transaction

from partisan_async import signals, store
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.subjects import checked
from partisan_async.enqueue.taking import PAUSES_SECONDS as SHORT_PAUSES_SECONDS
from partisan_async.enqueue.taking import taken_by
from partisan_async.enqueue.wake import wake
from partisan_async.exceptions import TaskCancelled
from partisan_async.models import ENDED, Task
from partisan_async.policy import Failure
from partisan_async.postgres.blame import Blame, whose
from partisan_async.steering import audit
from partisan_async.steering.rows import is_the_rows

PAUSES_SECONDS = (0, 0.05, 0.1, 0.2, 0.4, *(1,) * 9)
"""Pauses before the turns for rows that others have locked: 10 seconds in all. In a transaction of
the caller's, who would keep others waiting, it is as long as ``delay()`` waits."""

REASON = "its subject was erased"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """How much an erasure has erased.

    :param waiting: number of tasks that waited.
    :param running: number of tasks that ran.
    :param ended: number of tasks that had ended.
    :param emptied: number of these tasks whose rows the database refuses to delete, as when a row
        of the site refers to one: these rows stay, have ended, and are empty.
    :param schedules: number of schedules that were made at run time.
    :param windows: number of windows of ``UNIQUE``.
    :param left: number of rows that are still there: other transactions have them locked, or the
        database refuses every change of them.
    """

    waiting: int = 0
    running: int = 0
    ended: int = 0
    emptied: int = 0
    schedules: int = 0
    windows: int = 0
    left: int = 0

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self.waiting + self.running + self.ended


def erase(subject: str) -> Erased:
    """Delete all rows of a subject: tasks in every state, schedules, windows; return the counts.

    Tasks that wait will not run. Those that run are killed as by ``cancel``, and their rows are
    gone already. A thousand rows are erased at a time; outside of a transaction each thousand is
    one, and rows that others have locked are waited for, for 10 seconds at most.

    :raises TypeError, ValueError: it cannot be a subject.
    """
    checked_subject = checked(subject)
    if checked_subject is None:
        raise TypeError("erase: say whose, by a subject such as 'customer:42'.")
    erasing = _Erasing(checked_subject)
    left = 0
    try:
        for pause in erasing.pauses:
            time.sleep(pause)
            erasing.turn()
            left = sum(counts_of(checked_subject))
            if left == len(erasing.refused):
                break
    finally:
        # What was committed was done, also where the next statement loses the connection. The line
        # does not say whose it was.
        done = erasing.counts.total() - erasing.counts["emptied"]
        audit.put_down("erase", [f"{done:,} rows of one subject"] if done else [], count=done)
    return Erased(**erasing.counts, left=left)


def counts_of(subject: str) -> tuple[int, int, int]:
    """Return how many tasks, schedules and windows of a subject there are."""
    ((tasks, schedules, windows),) = fetch(*store.counts_of(subject))
    return tasks, schedules, windows


class _Erasing:
    """The erasure of one subject."""

    def __init__(self, subject: str) -> None:
        self.counts: Counter[str] = Counter()
        """What was erased, by the fields of ``Erased``."""
        self.refused: set[int] = set()
        """Ids of tasks whose rows the database changes in no way."""
        self._subject = subject
        self._alias = store.database()
        connection = connections[self._alias]
        self._is_within = connection.in_atomic_block
        self._taken = taken_by(connection)
        self.pauses = SHORT_PAUSES_SECONDS if self._is_within else PAUSES_SECONDS
        """Seconds before each turn."""

    def turn(self) -> None:
        """Erase what nobody has locked."""
        # Schedules first, which would enqueue more; windows last, which tasks begin.
        self._all("schedules", store.erase_schedules(self._subject))
        behind = -(2**63)
        while ids := [pk for (pk,) in fetch(*store.ids_of(self._subject, behind))]:
            behind = ids[-1]
            self._erase([pk for pk in ids if pk not in self.refused])
        self._all("windows", store.erase_windows(self._subject))

    def _all(self, name: str, statement: store.Statement) -> None:
        while rows := self._execute(statement):
            self.counts[name] += len(rows)
            if name == "schedules":
                self._wake({queue_name for _, queue_name in rows}, store.STEERED)

    def _erase(self, ids: Sequence[int]) -> None:
        """Erase tasks; if the database refuses, erase them in halves, down to single ones."""
        takes = self._is_within and self._taken.has_room_for(len(ids))
        try:
            with transaction.atomic(using=self._alias):
                told = self._unended(ids)
                gone = fetch(*store.erase_tasks(ids, self._subject, takes=takes), self._alias)
        except Error as error:
            if not is_the_rows(error):
                raise
            if len(ids) > 1:
                middle = len(ids) // 2
                self._erase(ids[:middle])
                self._erase(ids[middle:])
            elif whose(error.__cause__ or error) is Blame.ROW:
                self._empty(ids[0])
            return  # whoever is in the way may be gone at the next turn
        self._taken.count += len(gone) if takes else 0
        self._tell(gone, told)

    def _empty(self, pk: int) -> None:
        """Empty a row that the database keeps."""
        failure = Failure.of(TaskCancelled("", REASON))
        told = self._unended([pk])
        try:
            emptied = self._execute(store.empty_tasks([pk], self._subject, failure))
        except Error as error:
            if not is_the_rows(error):
                raise
            self.refused.add(pk)
            return
        self.counts["emptied"] += len(emptied)
        self._tell(emptied, told)

    def _tell(self, gone: Sequence[Any], told: Sequence[Task]) -> None:
        self.counts.update(_kind(status) for _, _, status in gone)
        held = {queue_name for _, queue_name, status in gone if status == Task.STATUS_IN_PROCESS}
        self._wake(held, store.HELD_NO_MORE)
        ids = {pk for pk, _, _ in gone}
        for task in told:
            if task.pk in ids:
                signals.send_cancelled(task, "", REASON)

    def _unended(self, ids: Sequence[int]) -> list[Task]:
        """Return the tasks that have not ended, if anybody is to be told of them."""
        if not signals.task_cancelled.receivers:
            return []
        rows = Task.objects.using(self._alias)
        return list(rows.filter(pk__in=ids).exclude(status__in=ENDED).order_by("pk"))

    def _wake(self, queue_names: set[str], told: str) -> None:
        for queue_name in queue_names:
            wake(queue_name, told, self._alias, self._taken)

    def _execute(self, statement: store.Statement) -> list[Any]:
        with transaction.atomic(using=self._alias):
            return fetch(*statement, self._alias)


def _kind(status: str) -> str:
    if status in ENDED:
        return "ended"
    return "running" if status == Task.STATUS_IN_PROCESS else "waiting"
