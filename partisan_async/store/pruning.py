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

from partisan_async.models.status import ENDED, ENDED_SQL
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
    AND finished_at < statement_timestamp() - %(older_than)s {{behind}}
ORDER BY t.finished_at LIMIT %(at_once)s
"""  # noqa: S608

_BEHIND = "AND t.finished_at >= %(ended)s::timestamptz AND t.id <> ALL(%(kept)s::bigint[])"

_DELETE = """
DELETE FROM partisan_async_task WHERE id = ANY (ARRAY(
    SELECT id FROM partisan_async_task
    WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s) FOR UPDATE SKIP LOCKED))
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
    :param behind: where the batch before ended.
    """

    pruned: Pruned
    """The batch's outcome, once all statements are executed."""

    def __init__(
        self, older_than: timedelta, status: str, queue_name: str, *, behind: Place | None
    ) -> None:
        self.answer: list[Any] | Exception = []
        self._steps = _pruning(older_than, status, queue_name, behind)

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


def prune(
    older_than: timedelta, status: str, queue_name: str, *, behind: Place | None = None
) -> Statement:
    """Delete the next old rows of a queue. Rows: when each ended, and its id.

    :param status: ``finished`` or ``error``.
    :param behind: where the batch before ended.
    """
    old = _old("id", older_than, status, queue_name, behind)
    sql = f"""
    WITH gone AS (
        DELETE FROM partisan_async_task
        WHERE id = ANY (ARRAY({old.sql} FOR UPDATE SKIP LOCKED)) RETURNING finished_at, id)
    SELECT finished_at::text, id FROM gone ORDER BY gone.finished_at
    """  # noqa: S608
    return Statement(sql, old.params)


def _pruning(older_than: timedelta, status: str, queue_name: str, behind: Place | None) -> _Steps:
    answer = yield prune(older_than, status, queue_name, behind=behind)
    if not isinstance(answer, Exception):
        return _pruned(len(answer), {}, answer, behind)
    old = yield _old("finished_at::text, id", older_than, status, queue_name, behind)
    if isinstance(old, Exception):
        raise old
    kept: dict[int, Exception] = {}
    deleted = yield from _deleting([pk for _, pk in old], kept)
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
    ids: Sequence[int], kept: dict[int, Exception]
) -> Generator[Statement, list[Any] | Exception, int]:
    """Delete rows; if the database refuses, delete them in halves. Return how many were deleted."""
    if not ids:
        return 0
    params = {"ids": list(ids), "statuses": list(ENDED)}
    answer = yield Statement(f"{_DELETE} RETURNING id", params)
    if not isinstance(answer, Exception):
        return len(answer)
    if len(ids) == 1:
        kept[ids[0]] = answer
        return 0
    middle = len(ids) // 2
    first = yield from _deleting(ids[:middle], kept)
    return first + (yield from _deleting(ids[middle:], kept))


def _old(
    columns: str, older_than: timedelta, status: str, queue_name: str, behind: Place | None
) -> Statement:
    params: dict[str, Any] = {"older_than": older_than, "status": status}
    params |= {"queue_name": queue_name, "at_once": PRUNED_AT_ONCE}
    if behind is not None:
        params |= {"ended": behind.ended, "kept": list(behind.kept)}
    place = "" if behind is None else _BEHIND
    sql = _OLD.replace("{columns}", columns).replace("{behind}", place)
    return Statement(sql, params)
