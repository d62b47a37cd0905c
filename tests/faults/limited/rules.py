"""What must be so of tasks under limits, rule by rule, as in ``tests/faults/rules.py``.

The audit tells of claims: of one limit they come one after the other, each committed before the
next has its number, so that what is in process then is what the claim counted, or less. The ledger
tells of runs. Excepted is only what these rules name: a *zombie* is a run that goes on though
another supervisor has taken its task, since its own one was killed or has lost its lease.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from partisan_async.limits import Rate
from tests.faults.history import Change, Claim, Record, what_happened
from tests.faults.limited.record import Circumstances, Key, Override
from tests.faults.rules import Violation

SEEN_AFTER = timedelta(milliseconds=50)
"""A commit is seen by others so long after its time at the latest: it goes to disk in between."""

ZOMBIE_SECONDS = {"kill a supervisor": 5.0}
"""How long a run may go on when another supervisor has its task; of what is not listed, for ever.

A supervisor that is stopped or cut off cannot end what it runs; one that died leaves workers that
end themselves.
"""

COSTS_A_LEASE = (
    "kill a supervisor",
    "stop a supervisor past its lease",
    "stop a supervisor and its workers past its lease",
    "black-hole a supervisor past its lease",
    "restart PostgreSQL",
    "make the database read-only",
    "have the database's clock jump",
    "use up all connections",
)
"""Of other faults a run outlives nothing."""

LEASE = timedelta(seconds=4)
"""What was silent for so long before a fault ended is rescued only after it."""


@dataclass
class Figures:
    """The most that was there at once, and in a window, of each limit; beside what is allowed."""

    claimed: Counter[str] = field(default_factory=Counter)
    claimed_of_a_key: Counter[str] = field(default_factory=Counter)
    ran: Counter[str] = field(default_factory=Counter)
    ran_of_a_key: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    in_windows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By rate: the most in a window, and what it allows."""
    zombies: Counter[str] = field(default_factory=Counter)
    beside_zombies: Counter[str] = field(default_factory=Counter)
    """By limit: starts beside so many zombies that the limit was overrun by them."""


def is_claim(change: Change) -> bool:
    """Tell whether a change started a task under a limit."""
    return what_happened(change) == "claimed" and change.new is not None and bool(change.new.limit)


class Allowed:
    """How many may run of a limit, and of a key of it, as a claim may have read it."""

    def __init__(self, circumstances: Circumstances) -> None:
        self._limits = circumstances.limits
        self._overrides: dict[Key, list[Override]] = defaultdict(list)
        for each in sorted(circumstances.overrides, key=lambda each: each.not_before):
            self._overrides[each.name, each.key].append(each)

    def running(self, name: str, key: str | None, change: Change) -> int | None:
        """Return the most of all keys (``key`` is ``None``), or of one."""
        limit = self._limits[name]
        declared = limit.running if key is None else limit.running_per_key
        if key is not None and limit.in_order:
            declared = 1
        assert change.begun is not None
        possible = [declared]
        for each in self._overrides.get((name, key), []):
            if each.not_after <= change.begun:
                possible.clear()  # whoever reads now reads this one, or a later one
            if each.not_before <= change.at:
                number = declared if each.running is None else each.running
                if key is not None and limit.in_order:
                    number = min(1, number)
                possible.append(number)
        return None if None in possible else max(each for each in possible if each is not None)


def no_more_are_claimed_than_may_run(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """Of a limit, and of each key: at no claim, with no exception."""
    allowed = Allowed(around)
    held: Counter[Key] = Counter()
    whole: Counter[str] = Counter()
    for change in record.changes:
        for state, by in ((change.old, -1), (change.new, 1)):
            if state is not None and state.limit and state.status == "in_process":
                whole[state.limit] += by
                held[state.limit, state.key] += by
        if not is_claim(change):
            continue
        assert change.new is not None
        assert change.new.limit is not None
        name, key = change.new.limit, change.new.key
        figures.starts[name] += 1
        figures.claimed[name] = max(figures.claimed[name], whole[name])
        most = allowed.running(name, None, change)
        if most is not None and whole[name] > most:
            yield Violation(change.task, f"of {name} {whole[name]} are claimed, and {most} may be")
        if key is None:
            continue
        figures.claimed_of_a_key[name] = max(figures.claimed_of_a_key[name], held[name, key])
        most = allowed.running(name, key, change)
        if most is not None and held[name, key] > most:
            of = f"of {name}, key {key}, {held[name, key]}"
            yield Violation(change.task, f"{of} are claimed, and {most} may be")


def only_zombies_outlive_their_claims(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """Else a slot was free while its task ran."""
    for claim, over, until, reason in zombies(record, around):
        if reason is None:
            by = over.old and over.old.claimed_by
            how = f"{what_happened(over)}, and nothing had befallen supervisor {by}"
            yield Violation(claim[0], f"claim {claim[1]} was {how}; it ran on until {until}")
            continue
        figures.zombies[reason] += 1
        most = ZOMBIE_SECONDS.get(reason)
        if most is not None and (seconds := (until - over.at).total_seconds()) > most:
            yield Violation(claim[0], f"claim {claim[1]} ran on for {seconds:.1f} s: {reason}")


def zombies(
    record: Record, around: Circumstances
) -> Iterator[tuple[Claim, Change, datetime, str | None]]:
    """Yield runs that went on, or began, when their claims were over: until when, and why."""
    for claim, start in record.starts.items():
        over, end = record.over.get(claim), record.ends.get(claim)
        row = record.rows.get(claim[0])
        if over is None or row is None or not row.state.limit:
            continue
        last = start if end is None else end
        if last.n > over.n and last.at > over.at:
            excused = what_happened(over) == "rescued"
            yield claim, over, last.at, _reason(over, around) if excused else None


def _reason(over: Change, around: Circumstances) -> str | None:
    """Return what had befallen the supervisor that a claim was taken from."""
    assert over.old is not None
    found = [
        each
        for each in around.befallen
        if each.what in COSTS_A_LEASE
        and each.supervisor in (None, over.old.claimed_by)
        and each.at <= over.at <= each.until + LEASE
    ]
    return found[-1].what if found else None


def no_more_run_than_may(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """As the runs themselves wrote it down; zombies are counted apart."""
    allowed = Allowed(around)
    undead = {claim for claim, _, _, reason in zombies(record, around) if reason is not None}
    moments: list[tuple[int, int, Claim]] = []
    for claim, start in record.starts.items():
        end, over = record.ends.get(claim), record.over.get(claim)
        last = end or over  # without an end of its own its process died, before that was written
        if last is not None and last.n < start.n:
            continue  # its process died while it wrote that it begins
        moments.append((start.n, 1, claim))
        if last is not None:
            moments.append((last.n, -1, claim))
    alive: dict[Any, set[Claim]] = defaultdict(set)
    claims = {
        (change.task, change.new.claim_seq): change
        for change in record.changes
        if change.new is not None and what_happened(change) in ("claimed", "rescued")
    }
    for _, by, claim in sorted(moments):
        row = record.rows.get(claim[0])
        if row is None or not row.state.limit:
            continue
        name, key = row.state.limit, row.state.key
        for of in (name, (name, key)):
            (alive[of].add if by > 0 else alive[of].discard)(claim)
        if by < 0 or claim not in claims:
            continue
        for of, at in ((name, None), ((name, key), key)):
            if of != name and key is None:
                continue
            well = alive[of] - undead
            # All of these are claimed now, so that the claim that came last has counted them.
            last_claim = max((claims[each] for each in well & claims.keys()), key=_n, default=None)
            told = figures.ran if of == name else figures.ran_of_a_key
            told[name] = max(told[name], len(well))
            most = last_claim and allowed.running(name, at, last_claim)
            if most is None or len(alive[of]) <= most:
                continue
            if len(well) > most:
                what = f"of {name}" if of == name else f"of {name}, key {key},"
                yield Violation(claim[0], f"{what} {len(well)} ran, and {most} may")
            else:
                figures.beside_zombies[name] += 1


def _n(change: Change) -> int:
    return change.n


def no_more_start_in_a_window(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """Of a limit, and of each key: by the time of the claim."""
    times: dict[Any, list[tuple[float, int]]] = defaultdict(list)
    for change in filter(is_claim, record.changes):
        assert change.new is not None
        assert change.new.claimed is not None
        times[change.new.limit, None, False].append((change.new.claimed, change.task))
        if change.new.key is not None:
            times[change.new.limit, change.new.key, True].append((change.new.claimed, change.task))
    for (name, key, of_key), starts in times.items():
        limit = around.limits[name]
        starts.sort()
        for rate in limit.rates_per_key if of_key else limit.rates:
            most, task = _most_in_a_window(starts, rate)
            told = f"{name}{' of a key' if of_key else ''}, {rate.per_seconds:g} s"
            before, _ = figures.in_windows.get(told, (0, 0))
            figures.in_windows[told] = (max(most, before), rate.count)
            if most > rate.count:
                of = f"of {name}" + (f", key {key}," if of_key else "")
                within = f"within {rate.per_seconds:g} s"
                yield Violation(task, f"{of} {most} started {within}, and {rate.count} may")


def _most_in_a_window(starts: list[tuple[float, int]], rate: Rate) -> tuple[int, int]:
    """Return the most in any window, and the task that was the last of them."""
    most, task, first = 0, 0, 0
    for number, (at, of) in enumerate(starts):
        while at - starts[first][0] >= rate.per_seconds:
            first += 1
        if number - first + 1 > most:
            most, task = number - first + 1, of
    return most, task


def in_order_each_waits_for_those_before_it(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """A task starts when all of its key that were there before it have ended.

    Those that are to be executed later are there from when they are due.
    """
    there: dict[Key, dict[int, Change | None]] = defaultdict(dict)
    for change in record.changes:
        state = change.new or change.old
        assert state is not None
        if not state.limit or state.key is None or not around.limits[state.limit].in_order:
            continue
        of_key = there[state.limit, state.key]
        if is_claim(change):
            before = [task for task, since in of_key.items() if task < change.task]
            for task in before:
                if _was_seen(of_key[task], change):
                    yield Violation(change.task, f"it started before task {task} had ended")
        status = change.new.status if change.new else None
        if status in ("limited", "in_process"):
            of_key.setdefault(change.task, change)
        else:
            of_key.pop(change.task, None)
            if change.old and change.old.status == "in_process" and status == "scheduled":
                yield Violation(change.task, "it had begun, and gave up its place")


def _was_seen(since: Change | None, by: Change) -> bool:
    """Tell whether a claim must have seen that a row waits."""
    assert since is not None
    assert by.begun is not None
    return since.committed is not None and since.committed + SEEN_AFTER <= by.begun


def nothing_starts_while_its_key_is_paused(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """By the time of the claim, and by the last pause that it must have read."""
    pauses = defaultdict(list)
    for pause in around.pauses:
        pauses[pause.name, pause.key].append(pause)
    for change in filter(is_claim, record.changes):
        assert change.new is not None
        assert change.new.claimed is not None
        assert change.begun is not None
        known = [each for each in pauses[change.new.limit, change.new.key] if each.n < change.n]
        if not known or known[-1].committed is None:
            continue
        last = known[-1]
        if last.committed + SEEN_AFTER <= change.begun and change.new.claimed < last.until:
            early = last.until - change.new.claimed
            yield Violation(change.task, f"it started {early:.3f} s before its key's pause ended")


def each_ends_as_it_was_told_to(
    record: Record, around: Circumstances, figures: Figures
) -> Iterator[Violation]:
    """Those that break, in error; all others, however often they were cut off, in ``finished``."""
    for row in record.rows.values():
        if not row.state.limit or row.state.status not in ("finished", "error"):
            continue
        wanted = "error" if row.first == "break" else "finished"
        if row.state.status != wanted and not record.is_given_up(row):
            yield Violation(row.id, f"told to {row.first}, it ended in {row.state.status}")


RULES = (
    no_more_are_claimed_than_may_run,
    only_zombies_outlive_their_claims,
    no_more_run_than_may,
    no_more_start_in_a_window,
    in_order_each_waits_for_those_before_it,
    nothing_starts_while_its_key_is_paused,
    each_ends_as_it_was_told_to,
)
