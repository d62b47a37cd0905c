"""What was recorded of a site under faults: rows, ledger and audit, and how they hang together.

Nothing here touches a database. Words used here. A *run* is one claim's start in the ledger, and
its end if there is one. A claim is *over* by the change that settled its row or made it another's,
its *fate*; it is *lost* when that change carries no outcome of its own: it was rescued, given back,
or its worker died. A *duplicate* is a run of a lost claim, after which the task ran again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Literal

WAITING = ("new", "scheduled", "limited")
FINAL = ("finished", "error")

WORKER_LOST = "partisan_async.exceptions.WorkerLost"

LOST = ("rescued", "given back", "cut off", "worker died alone", "worker died in company")
"""The fates without an outcome."""


@dataclass(frozen=True, slots=True)
class State:
    """A row, or what of it the rules are about.

    :param errors: how many it keeps; ``None`` where the column is no list.
    :param error: the class of the newest one.
    :param worker: ``host/pid`` of the newest run that was written.
    :param attempted: when that run started.
    :param after: its ``execute_after``; a change of that alone is none of a task's way.
    :param limit: the limit that it starts under, and ``key`` its key there.
    :param claimed: when it was claimed, in seconds, by the database's clock.
    """

    status: str
    claim_seq: int = 0
    claimed_by: str | None = None
    tries: int = 0
    postpones: int = 0
    lost: int = 0
    suspect: bool = False
    unrecognised: int = 0
    interrupted: int = 0
    errors: int | None = 0
    error: str | None = None
    worker: str | None = None
    attempted: str | None = None
    after: str | None = field(default=None, compare=False)
    digest: str | None = None
    unique_key: str | None = None
    limit: str | None = None
    key: str | None = None
    claimed: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A task as it is in the end.

    :param first: the first argument of its call, as text.
    """

    id: int
    processor: str
    state: State
    first: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the ledger.

    :param n: its place in the order of all events and changes.
    :param at: by the clock of the process that wrote it.
    :param how: ``returned``, ``raised`` or ``postponed``; of a start, nothing.
    :param process: tells the process from any other, which ``pid`` alone does not.
    """

    n: int
    at: datetime
    kind: Literal["start", "end"]
    how: str
    task: int
    claim_seq: int
    pid: int
    process: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the audit: an insert has no ``old`` state, a delete no ``new`` one.

    :param session: the server process that made it.
    :param begun: when its transaction began.
    :param committed: when that was committed; a moment later others saw it.
    """

    n: int
    at: datetime
    task: int
    old: State | None
    new: State | None
    session: str
    begun: datetime | None = None
    committed: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a processor: how its tasks must end, and where they run.

    :param tells: it keeps a result, which the database may refuse.
    :param on_error: the processor that is told of those of its tasks that end in error.
    """

    ends: str = "either"
    poison: bool = False
    is_async: bool = False
    tells: bool = False
    on_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that was recorded.

    :param kinds: by the processor's name; of others nothing is expected.
    :param committed: tasks whose commit was acknowledged to who enqueued them.
    :param rolled_back: tasks whose transaction was rolled back.
    :param pooled: supervisors share server processes, as behind a pooler.
    """

    rows: Iterable[Row]
    events: Iterable[Event]
    changes: Iterable[Change]
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    committed: Set[int] = frozenset()
    rolled_back: Set[int] = frozenset()
    pooled: bool = False


Claim = tuple[int, int]
"""``(id, claim_seq)``."""


class Record:
    """A history, put in order for the rules."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.rows = {row.id: row for row in history.rows}
        self.events = sorted(history.events, key=lambda event: event.n)
        self.changes = sorted(history.changes, key=lambda change: change.n)
        self.tasks = {change.task for change in self.changes} | set(self.rows)
        self.starts: dict[Claim, Event] = {}
        self.ends: dict[Claim, Event] = {}
        self.runs_of: dict[str, set[Claim]] = defaultdict(set)
        """By process."""
        for event in self.events:
            claim = (event.task, event.claim_seq)
            (self.starts if event.kind == "start" else self.ends).setdefault(claim, event)
            self.runs_of[event.process].add(claim)
        self.over: dict[Claim, Change] = {}
        """By what change each claim ended."""
        for change in self.changes:
            if change.old is not None and change.old.status == "in_process":
                self.over.setdefault((change.task, change.old.claim_seq), change)

    def kind(self, task: int) -> Kind:
        """What is known of a task's processor."""
        row = self.rows.get(task)
        return self.history.kinds.get(row.processor, Kind()) if row else Kind()

    def fate(self, claim: Claim) -> str | None:
        """How a claim ended; ``None`` while it has not, or in no known way."""
        change = self.over.get(claim)
        return change and what_happened(change)

    def duplicates(self) -> Iterator[tuple[Claim, Claim, str]]:
        """Yield each run after which the task ran again unasked, the next run, and why."""
        claims: dict[int, list[int]] = defaultdict(list)
        for task, claim_seq in self.starts:
            claims[task].append(claim_seq)
        for task, numbers in claims.items():
            numbers.sort()
            for number, following in pairwise(numbers):
                fate = self.fate((task, number))
                if fate not in ("retried", "postponed", "made way", "deferred"):
                    yield (task, number), (task, following), fate or "for no known reason"

    def overlap(self, run: Claim, other: Claim) -> bool:
        """Tell whether two runs of one process were under way at the same time."""
        if run not in self.starts or other not in self.starts:
            return False

        def before(first: Claim, second: Claim) -> bool:
            end = self.ends.get(first)
            return end is not None and end.n < self.starts[second].n

        return not before(run, other) and not before(other, run)

    def is_given_up(self, row: Row) -> bool:
        """Tell whether an innocent task was alone in so many dying workers that it was ended."""
        lost = row.state.status == "error" and row.state.error == WORKER_LOST
        return lost and row.state.lost >= 3 and not self.kind(row.id).poison


def what_happened(change: Change) -> str | None:
    """Return what a change of a row was, by what it changed; ``None`` if nothing explains it."""
    old, new = change.old, change.new
    if old is None:
        assert new is not None
        fresh = new.claim_seq == new.tries == new.postpones == new.lost == new.unrecognised == 0
        return "enqueued" if fresh and new.status in WAITING else None
    if new is None:
        return "finished" if old.status == "in_process" else None  # DELETE_TASKS_ON_COMPLETE
    counted = (
        new.tries - old.tries,
        new.postpones - old.postpones,
        new.lost - old.lost,
        new.unrecognised - old.unrecognised,
    )
    ran = new.attempted != old.attempted
    if old.status == "in_process":
        return _what_became_of_a_claim(old, new, counted, ran)
    if ran or any(counted) or old.status in FINAL:
        return None
    match old.status, new.status:
        case "scheduled", "new" | "limited":
            return "promoted"
        case "scheduled", "scheduled" if replace(old, after=new.after) == new:
            return "moved"  # a test has it due sooner
        case "new" | "limited", "in_process":
            return "claimed"
    return None


def _what_became_of_a_claim(
    old: State, new: State, counted: tuple[int, ...], ran: bool
) -> str | None:
    ready = "new" if new.limit is None else "limited"
    match new.status, counted, ran:
        case "in_process", (0, 0, 0, 0), False:
            return "rescued"
        case "limited", (0, 0, 0, 0), False if new.claim_seq != old.claim_seq:
            return "rescued"  # a run anew is a start, and waits for its limit
        case "finished", (1, 0, 0, 0), True:
            return "finished"
        case "error", (1, 0, 0 | 1, 0), True:
            return "failed"
        case "error", (0, 0, 0, 0), False:
            return "failed"  # it met too many supervisors that do not know its processor
        case "new" | "scheduled" | "limited", (1, 0, 0, 0), True:
            return "retried"
        case "new" | "scheduled" | "limited", (0, 1, 0, 0), True:
            return "postponed"
        case "new" | "scheduled" | "limited", (0, 0, 0, 1), _:
            return "deferred"
        case now, (0, 0, 1, 0), True if now == ready and new.suspect:
            return "worker died alone"
        case now, (0, 0, 0, 0), True if now == ready and new.suspect and not old.suspect:
            return "worker died in company"  # a suspect has none
        case now, (0, 0, 0, 0), True if now == ready and new.after != old.after:
            return "made way"  # postponed by nothing while its supervisor stopped, or with its key
        case "scheduled", (0, 0, 0, 0), True if new.limit is not None and not new.interrupted:
            return "made way"
        case "limited", (0, 0, 0, 0), False if new.after != old.after:
            return "cut off"  # in order it keeps its place
        case now, (0, 0, 0, 0), _ if now == ready and new.suspect == old.suspect:
            return "given back"
        case "scheduled", (0, 0, 0, 0), _ if new.interrupted - old.interrupted in (0, 1):
            return "cut off"
    return None
