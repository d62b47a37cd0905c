"""The frames on the link between the supervisor and a worker process: a JSON array a line.

Up: ``Hello`` once, then ``Started`` and ``Done`` for each task, ``Revoked`` as an answer. Down:
``Revoke``. A task goes by its *ticket*, a number that grows with each dispatch to one process. No
exception object travels, only what the row is to tell of it, so that nothing can fail to unpickle.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import Any

from partisan_async.policy import (
    Failure,
    Outcome,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)


@dataclass(frozen=True, slots=True)
class Hello:
    """The process is there. ``trouble``: why it did not start; ``cold``: why it had no preload."""

    pid: int
    trouble: str | None
    cold: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """This task's ``run()`` begins, and may take so many seconds; ``None``: as long as it likes."""

    ticket: int
    limit: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """This task's ``run()`` is over, after so many seconds; it ``overran`` its time limit."""

    ticket: int
    seconds: float
    overran: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Revoke:
    """Hand back the tasks that have not started, of tickets up to this one."""

    upto: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """The sync tasks after this ticket, up to that one, will not start.

    Nor will async ones up to that one, unless their start was told before this.
    """

    after: int
    upto: int


Frame = Hello | Started | Done | Revoke | Revoked

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Hello, Started, Revoke, Revoked)}
_OUTCOMES: dict[str, Any] = {
    kind.__name__: kind for kind in (Returned, PostponeAsked, Unrecognised)
}


def encode(frame: Frame) -> bytes:
    """Return the frame as one line."""
    if isinstance(frame, Done):
        kind = type(frame.outcome).__name__
        fields = [frame.ticket, frame.seconds, frame.overran, kind, *astuple(frame.outcome)]
        return json.dumps(["Done", *fields]).encode() + b"\n"
    return json.dumps([type(frame).__name__, *astuple(frame)]).encode() + b"\n"


class Decoder:
    """Puts frames together again from the pieces a socket hands out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that this piece completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_decode(line) for line in lines]


def _decode(line: bytes) -> Frame:
    kind, *fields = json.loads(line)
    if kind != "Done":
        frame: Frame = _KINDS[kind](*fields)
        return frame
    ticket, seconds, overran, outcome, *values = fields
    if outcome == "Raised":
        failure, retryable = values
        return Done(ticket, seconds, overran, Raised(Failure(*failure), retryable))
    return Done(ticket, seconds, overran, _OUTCOMES[outcome](*values))
