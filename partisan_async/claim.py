"""What is handed on along the way of a task: a call, a claim on its row, an attempt, a settlement.

Each is plain data that every process can import.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from partisan_async.policy import Decision, Failed
from partisan_async.unique import Unique


class Call(NamedTuple):
    """A call to enqueue: checked and encoded.

    :param digest: what the row shares with those of the same calls, while these wait.
    :param traceparent: the span that enqueues it; two calls may be identical though it differs.
    :param unique_key: in place of the digest, where calls are the same while they run, too.
    :param unique: where a twin may run, or be changed, or there is a window.
    :param subject: whose task it is; ``None``: nobody's. Calls of two subjects are not the same.
    :param limit_name: the limit that it starts under; ``None``: none, nor key and rank.
    :param limit_key: its key there; ``None``: none.
    :param limit_rank: its turn among those of its key, the lowest first; then by id.
    """

    queue_name: str
    processor_class: str
    arguments: str
    priority: int
    execute_after: datetime.datetime | None
    digest: bytes | None
    traceparent: str | None = None
    unique_key: bytes | None = None
    unique: Unique | None = None
    subject: str | None = None
    limit_name: str | None = None
    limit_key: str | None = None
    limit_rank: int | None = None

    @property
    def key(self) -> bytes:
        """What the same calls share."""
        return self.digest or self.unique_key or b""

    def beside_twins(self) -> Call:
        """Return the call as it is enqueued where the same calls do not count."""
        return self._replace(digest=None, unique_key=None, unique=None)


class Claim(NamedTuple):
    """A claimed row, in the order of the claim's RETURNING.

    :param arguments: JSON; ``None``: they are large, and the worker reads them: ``arguments_of``.
    :param waited_seconds: how long the task was due when it was claimed.
    :param history: JSON of ``HISTORY``, where the row is one of Django's own tasks.
    :param trying_seconds: how long ago its first try had begun when it was claimed, where the row
        keeps that; ``None``: this is the first, or nothing asks.
    :param limit_name: the limit that it runs under, and there, unless it has none, its key.
    """

    id: int
    claim_seq: int
    queue_name: str
    processor_class: str
    arguments: str | None
    priority: int
    tries: int
    postpones: int
    lost: int
    suspect: bool
    unrecognised: int
    interrupted: int
    waited_seconds: float
    history: str | None = None
    traceparent: str | None = None
    trying_seconds: float | None = None
    limit_name: str | None = None
    limit_key: str | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What names this claim: another claim of the same row has another ``claim_seq``."""
        return self.id, self.claim_seq

    @property
    def alone(self) -> bool:
        """Whether the task must run with nothing beside it: it may take its worker down."""
        return self.suspect or self.lost > 0


class Attempt(NamedTuple):
    """One run of a claim in a worker.

    :param seconds: how long ago it started.
    :param worker_id: what names the worker on the row.
    """

    seconds: float
    worker_id: str


class Settlement(NamedTuple):
    """What became of a claim.

    :param attempt: ``None`` if the run never started.
    :param stores_result: the row is kept at its end, and whoever waits for that end is told.
    :param on_error: the call that is enqueued with it if the decision is ``Failed``, except that
        its one argument, the task's id, is not in it yet.
    """

    claim: Claim
    decision: Decision
    attempt: Attempt | None
    stores_result: bool = False
    on_error: Call | None = None

    @property
    def told_by(self) -> Call | None:
        """The call that is enqueued with it, if any."""
        return self.on_error if isinstance(self.decision, Failed) else None
