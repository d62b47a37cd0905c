"""Deletes the rows of tasks that ended long ago, and skips rows that the database keeps.

The site's tables may refer to a row by a foreign key, for example: such a row is *kept*.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
from django.db import Error

from partisan_async.models.status import ENDED_SQL
from partisan_async.postgres.blame import is_of_some_rows
from partisan_async.store.statement import Statement

PRUNED_AT_ONCE = 1000
"""Maximum number of rows that one statement deletes."""


class Place(NamedTuple):
    """Where a batch ends, and the next one begins.

    :param ended: when the batch's last row ended, as PostgreSQL's text.
    :param kept: ids of the kept rows that ended at that very time.
    """

    ended: str
    kept: frozenset[int]


# Each batch begins behind the one before. If each began at the oldest row, a batch full of kept
# rows would block all others for ever.
_OLD = f"""
SELECT {{columns}} FROM partisan_async_task t
WHERE status IN {ENDED_SQL} AND status = %(status)s AND queue_name = %(queue_name)s
    AND finished_at < statement_timestamp() - %(older_than)s {{narrowed}}
ORDER BY {{at}} LIMIT %(at_once)s
"""  # noqa: S608

_BEHIND = "AND t.finished_at >= %(ended)s::timestamptz AND t.id <> ALL(%(kept)s::bigint[])"

# One that was run again since it was found is not old any more, however it has ended.
_DELETE = """
DELETE FROM partisan_async_task WHERE id = ANY (ARRAY(
    SELECT id FROM partisan_async_task
    WHERE id = ANY(%(ids)s) AND status = %(status)s
        AND finished_at < statement_timestamp() - %(older_than)s FOR UPDATE SKIP LOCKED))
"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """The outcome of a batch.

    :param deleted: number of deleted rows.
    :param kept: ids of the kept rows, each with the database's error.
    :param last: where the batch ended; ``None``: no batch has found an old row.
    :param more: True if more old rows may follow.
    """

    deleted: int
    kept: dict[int, Exception]
    last: Place | None
    more: bool


_Steps = Generator[Statement, "list[Any] | Exception", Pruned]
"""Yields statements; receives the rows of each, or the error that a row of it caused."""


class Pruning:
    """The statements that delete a batch of old rows. The caller executes them::

        for statement in pruning:
            with pruning.refusals():
                pruning.answer = execute(statement)
        pruning.pruned

    If the batch cannot be deleted at once, it is deleted in halves, down to single rows.

    :param status: ``finished`` or ``error``.
    :param subject: delete rows of this subject alone.
    :param behind: where the batch before ended.
    """

    pruned: Pruned
    """The batch's outcome, once all statements are executed."""

    def __init__(
        self,
        older_than: timedelta,
        status: str,
        queue_name: str,
        *,
        subject: str | None = None,
        behind: Place | None,
    ) -> None:
        self.answer: list[Any] | Exception = []
        self._steps = _pruning(_Which(older_than, status, queue_name, subject), behind)

    def __iter__(self) -> Iterator[Statement]:
        try:
            statement = next(self._steps)
            while True:
                yield statement
                statement = self._steps.send(self.answer)
        except StopIteration as done:
            self.pruned = done.value

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Set an error that single rows caused as the answer; raise any other."""
        try:
            yield
        except (psycopg.Error, Error) as error:
            own = error.__cause__ if isinstance(error, Error) else error
            if not is_of_some_rows(own or error):
                raise
            self.answer = error


class _Which(NamedTuple):
    """Which rows are old; see ``Pruning``."""

    older_than: timedelta
    status: str
    queue_name: str
    subject: str | None = None


def prune(
    older_than: timedelta, status: str, queue_name: str, *, behind: Place | None = None
) -> Statement:
    """Delete the next old rows of a queue. Rows: when each ended, and its id.

    :param status: ``finished`` or ``error``.
    :param behind: where the batch before ended.
    """
    return _prune(_Which(older_than, status, queue_name), behind)


def _prune(which: _Which, behind: Place | None) -> Statement:
    old = _old("id", which, behind)
    sql = f"""
    WITH gone AS (
        DELETE FROM partisan_async_task
        WHERE id = ANY (ARRAY({old.sql} FOR UPDATE SKIP LOCKED)) RETURNING finished_at, id)
    SELECT finished_at::text, id FROM gone ORDER BY gone.finished_at
    """  # noqa: S608
    return Statement(sql, old.params)


def _pruning(which: _Which, behind: Place | None) -> _Steps:
    answer = yield _prune(which, behind)
    if not isinstance(answer, Exception):
        return _pruned(len(answer), {}, answer, behind)
    old = yield _old("finished_at::text, id", which, behind)
    if isinstance(old, Exception):
        raise old
    kept: dict[int, Exception] = {}
    deleted = yield from _deleting([pk for _, pk in old], which, kept)
    return _pruned(deleted, kept, old, behind)


def _pruned(
    deleted: int, kept: dict[int, Exception], rows: Sequence[Any], behind: Place | None
) -> Pruned:
    last = behind
    if rows:
        ended = rows[-1][0]
        before = behind.kept if behind is not None and behind.ended == ended else frozenset()
        last = Place(ended, before | {pk for at, pk in rows if at == ended and pk in kept})
    return Pruned(deleted, kept, last, more=len(rows) == PRUNED_AT_ONCE)


def _deleting(
    ids: Sequence[int], which: _Which, kept: dict[int, Exception]
) -> Generator[Statement, list[Any] | Exception, int]:
    """Delete rows; if the database refuses, delete them in halves. Return how many were deleted."""
    if not ids:
        return 0
    params = {"ids": list(ids), "status": which.status, "older_than": which.older_than}
    answer = yield Statement(f"{_DELETE} RETURNING id", params)
    if not isinstance(answer, Exception):
        return len(answer)
    if len(ids) == 1:
        kept[ids[0]] = answer
        return 0
    middle = len(ids) // 2
    first = yield from _deleting(ids[:middle], which, kept)
    return first + (yield from _deleting(ids[middle:], which, kept))


def _old(columns: str, which: _Which, behind: Place | None) -> Statement:
    params: dict[str, Any] = which._asdict() | {"at_once": PRUNED_AT_ONCE}
    if behind is not None:
        params |= {"ended": behind.ended, "kept": list(behind.kept)}
    narrowed, at = "" if behind is None else _BEHIND, "t.finished_at"
    if which.subject is not None:
        narrowed += " AND t.subject = %(subject)s"
        # Not in the order of an index: that would be read until enough of the subject are met.
        at += " + interval '0'"
    return Statement(_OLD.format(columns=columns, narrowed=narrowed, at=at), params)
