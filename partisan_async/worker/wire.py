"""What travels between the supervisor and a worker process: tasks by the feed, frames by the link.

Both have a JSON array a line. A task goes by its *ticket*, a number that grows with each one that
is sent to the process. By the link, up: ``Hello`` once, then ``Started`` and ``Done`` for each
task, ``Revoked`` as an answer. Down: ``Revoke``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from partisan_async.policy import RETURNED, Outcome
from partisan_async.worker.outcome_fields import fields_of, outcome_of
from partisan_async.worker.well_formed import MOST, is_well_formed


class Hello(NamedTuple):
    """The process is there. ``trouble``: why it did not start; ``note``: what it lacks."""

    pid: int
    trouble: str | None
    note: str | None


class Started(NamedTuple):
    """This task's ``run()`` begins; ``limit``: its time limit in seconds, if it has one."""

    ticket: int
    limit: float | None


class Done(NamedTuple):
    """This task's ``run()`` is over. ``overran``: it took longer than its time limit."""

    ticket: int
    microseconds: int
    overran: bool
    outcome: Outcome


class Revoke(NamedTuple):
    """Order to hand back the tasks up to this ticket that have not started."""

    upto: int


class Revoked(NamedTuple):
    """The sync tasks after this ticket, up to that one, will not start.

    Nor will async ones up to that one, unless their start was told before this.
    """

    after: int
    upto: int


Tasks = Sequence[tuple[int, Sequence[Any]]]
"""Tickets and claims; these by their fields, in order."""


def pack(tasks: Tasks) -> bytes:
    """Return these tasks as one line of the feed."""
    return f"{_encode(tasks)}\n".encode()


END = b"[]\n"
"""No tasks: the worker is to end in order. Where the feed just ends, a supervisor was killed."""


def unpack(feed: Iterable[bytes]) -> Iterator[Tasks]:
    """Yield the tasks of each line, until the feed ends; a line that is cut short is left out."""
    for line in feed:
        if line.endswith(b"\n"):
            tasks: Tasks = json.loads(line)
            yield tasks


Frame = Hello | Started | Done | Revoke | Revoked

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Hello, Started, Revoke, Revoked)}


def encode(frame: Frame) -> bytes:
    """Return the frame as one line."""
    # The two that most tasks send, spelt out: it takes a fifth of the time.
    if isinstance(frame, Started) and frame.limit is None:
        return b'["Started",%d,null]\n' % frame.ticket
    if isinstance(frame, Done) and frame.outcome is RETURNED and not frame.overran:
        return b'["Done",%d,%d,false,"Returned"]\n' % (frame.ticket, frame.microseconds)
    fields = [type(frame).__name__, *frame]
    if isinstance(frame, Done):
        fields[-1:] = fields_of(frame.outcome)
    return f"{_encode(fields)}\n".encode()


class Decoder:
    """Puts frames together again from the pieces a socket hands out."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Return the frames that this piece completes, one by one.

        What comes before a line that is no frame is handed out first: a start that was lost with it
        would be a run that nobody counts.

        :raises Exception: of any class, in its turn: a line is no frame, or not as its types say.
        """
        # A line of many megabytes comes in thousands of pieces: it is put together once.
        self._rest.append(data)
        if b"\n" not in data:
            return iter(())
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        return map(_decode, _parsed(lines))


def _parsed(lines: list[bytes]) -> Iterable[Any]:
    try:
        # As one document: most of what a line costs is the call.
        together: list[Any] = json.loads(b"[%b]" % b",".join(lines))
    except Exception:  # noqa: BLE001  it may be anything; which line it is, is seen one by one
        return map(json.loads, lines)
    return together


_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


_NOTHING = ["Returned"]


def _decode(fields: list[Any]) -> Frame:
    frame = _frame(fields)
    # Of the two that most tasks send, little can be wrong: whose run it is, is known by the ticket.
    if type(frame) is Started and frame[1] is None:
        return frame
    if type(frame) is Done and frame[3] is RETURNED:
        _, microseconds, overran, _ = frame
        if type(microseconds) is int and type(overran) is bool and 0 <= microseconds < MOST:
            return frame
    if not is_well_formed(frame):
        raise ValueError(frame)
    return frame


def _frame(fields: list[Any]) -> Frame:
    kind = fields.pop(0)
    if kind != "Done":
        frame: Frame = _KINDS[kind](*fields)
        return frame
    if fields[3:] == _NOTHING:
        fields[3] = RETURNED
        return Done(*fields)
    ticket, microseconds, overran, name, *values = fields
    return Done(ticket, microseconds, overran, outcome_of(name, values))
