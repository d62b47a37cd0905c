"""The protocol between the supervisor and a worker process: tasks on the feed, frames on the link.

Both carry one JSON array per line. A task has a *ticket*, a number that grows with each task sent
to the process. On the link, the worker sends ``Hello`` once, then ``Started`` and ``Done`` for each
task; the supervisor sends ``Revoke``, and the worker answers with ``Revoked``. When its grace
begins, the supervisor sends ``Stopping`` once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from partisan_async.policy import RETURNED, Outcome
from partisan_async.worker.outcome_fields import fields_of, outcome_of
from partisan_async.worker.well_formed import MOST, is_well_formed


class Hello(NamedTuple):
    """The worker has started. ``trouble``: or why it could not; ``note``: what it lacks."""

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
    """The sync tasks after ``after`` and up to ``upto`` will not start.

    Nor will async tasks up to ``upto``, unless a ``Started`` was sent before this frame.
    """

    after: int
    upto: int


class Stopping(NamedTuple):
    """Word that the supervisor is stopping, and kills what still runs at the end of its grace."""


Tasks = Sequence[tuple[int, Sequence[Any]]]
"""Pairs of a ticket and the fields of a claim, in order."""


def pack(tasks: Tasks) -> bytes:
    """Return these tasks as one line of the feed."""
    return f"{_encode(tasks)}\n".encode()


END = b"[]\n"
"""A batch of no tasks: the order to end. If the feed ends without it, the supervisor died."""


def unpack(feed: Iterable[bytes]) -> Iterator[Tasks]:
    """Yield the tasks of each line until the feed ends; an incomplete line is ignored."""
    for line in feed:
        if line.endswith(b"\n"):
            tasks: Tasks = json.loads(line)
            yield tasks


Frame = Hello | Started | Done | Revoke | Revoked | Stopping

_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Hello, Started, Revoke, Revoked, Stopping)
}


def encode(frame: Frame) -> bytes:
    """Return the frame as one line."""
    # The two most frequent frames are formatted by hand: that takes a fifth of the time.
    if isinstance(frame, Started) and frame.limit is None:
        return b'["Started",%d,null]\n' % frame.ticket
    if isinstance(frame, Done) and frame.outcome is RETURNED and not frame.overran:
        return b'["Done",%d,%d,false,"Returned"]\n' % (frame.ticket, frame.microseconds)
    fields = [type(frame).__name__, *frame]
    if isinstance(frame, Done):
        fields[-1:] = fields_of(frame.outcome)
    return f"{_encode(fields)}\n".encode()


class Decoder:
    """Reassembles frames from the pieces that a socket returns."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that this piece completes.

        Frames before a bad line are yielded before the error: if a start were lost, nobody would
        count its run.

        :raises Exception: of any class, when its line is reached: it is no well-formed frame.
        """
        # A line of many megabytes arrives in thousands of pieces, so join them only once.
        self._rest.append(data)
        if b"\n" not in data:
            return iter(())
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        return map(_decode, _parsed(lines))


def _parsed(lines: list[bytes]) -> Iterable[Any]:
    try:
        # Parse all lines as one document: most of the time per line is the call.
        together: list[Any] = json.loads(b"[%b]" % b",".join(lines))
    except Exception:  # noqa: BLE001  any error: find the bad line one by one
        return map(json.loads, lines)
    return together


_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


_NOTHING = ["Returned"]


def _decode(fields: list[Any]) -> Frame:
    frame = _frame(fields)
    # Check the two most frequent frames quickly: the supervisor checks the ticket, so only these
    # fields can be wrong.
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
