"""The promise, rule by rule: each is a function of the record that yields what violates it.

``RULES`` lists them. A rule's name, with spaces, is what a verdict calls it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.history import (
    FINAL,
    LOST,
    WAITING,
    WORKER_LOST,
    Change,
    Record,
    State,
    what_happened,
)

POSTPONED_TOO_OFTEN = "partisan_async.exceptions.MaxPostponesReached"
TIMED_OUT = "partisan_async.exceptions.TaskTimeout"

LARGEST_CLAIM = 2**31 - 1
"""After it the numbers of claims begin again at 1."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A sentence that says how a task broke a rule."""

    task: int
    sentence: str
    rule: str = ""

    def __str__(self) -> str:
        return f"task {self.task}: {self.sentence} [{self.rule}]"


# The rules: what became of each task


def every_committed_task_is_there(record: Record) -> Iterator[Violation]:
    """What was acknowledged is not gone."""
    for task in sorted(record.history.committed - record.tasks):
        yield Violation(task, "its commit was acknowledged, and there is no row")


def no_task_that_was_rolled_back_is_there(record: Record) -> Iterator[Violation]:
    """And none of them ever ran: see ``only committed tasks run``."""
    for task in sorted(record.history.rolled_back & record.tasks):
        yield Violation(task, "its transaction was rolled back, and there is a row")


def only_committed_tasks_run(record: Record) -> Iterator[Violation]:
    """A task of which there is no row must not run."""
    for event in record.events:
        if event.task not in record.tasks:
            yield Violation(event.task, f"it has a {event.kind} in the ledger, and there is no row")


def every_task_ends(record: Record) -> Iterator[Violation]:
    """In ``finished`` or in ``error``."""
    for row in record.rows.values():
        if row.state.status not in FINAL:
            yield Violation(row.id, f"{row.processor} is left in {row.state.status}")


def every_task_ends_as_it_must(record: Record) -> Iterator[Violation]:
    """As its processor declares; and an error has its reason on the row."""
    for row in record.rows.values():
        state, kind = row.state, record.kind(row.id)
        if state.status not in FINAL:
            continue
        if state.status == "error" and not state.errors:
            yield Violation(row.id, f"{row.processor} ended in error, and no reason is on its row")
        if kind.poison and state.error != WORKER_LOST:
            yield Violation(row.id, f"{row.processor} kills its worker, and ended by {state.error}")
        if kind.ends not in ("either", state.status) and not record.is_given_up(row):
            why = f" ({state.error})" if state.error else ""
            yield Violation(
                row.id, f"{row.processor} ended in {state.status}{why} and not in {kind.ends}"
            )


def each_end_in_error_is_told_of_once(record: Record) -> Iterator[Violation]:
    """Where its processor has an ``ON_ERROR``; and nothing else is told of."""
    told = Counter((row.processor, row.first) for row in record.rows.values())
    for row in record.rows.values():
        if on_error := record.kind(row.id).on_error:
            due = row.state.status == "error"
            if (count := told[on_error, str(row.id)]) != due:
                yield Violation(row.id, f"it is {row.state.status}, and told of {count} times")


def what_is_finished_has_returned(record: Record) -> Iterator[Violation]:
    """Under its last claim. A postponed task, marked finished, would be lost."""
    for row in record.rows.values():
        if row.state.status == "finished":
            end = record.ends.get((row.id, row.state.claim_seq))
            how = end.how if end else "not ended"
            if how != "returned":
                claim = f"its last run, claim {row.state.claim_seq},"
                yield Violation(row.id, f"it is finished, and {claim} has {how}")


# The rules: what the runs did


def no_claim_starts_or_ends_twice(record: Record) -> Iterator[Violation]:
    """``(id, claim_seq)`` names one run, and users build on that."""
    counts = Counter((event.task, event.claim_seq, event.kind) for event in record.events)
    for (task, claim_seq, kind), count in counts.items():
        if count > 1:
            yield Violation(task, f"claim {claim_seq} has {count} {kind}s")


def every_end_has_its_start(record: Record) -> Iterator[Violation]:
    """Before it, in the same process: else the ledger itself is not to be trusted."""
    for (task, claim_seq), end in record.ends.items():
        start = record.starts.get((task, claim_seq))
        if start is None or start.n > end.n or start.process != end.process:
            yield Violation(task, f"the end of claim {claim_seq} has no start before it")


def duplicates_have_a_cause(record: Record) -> Iterator[Violation]:
    """A task runs again unasked only where its claim was lost."""
    for (task, number), (_, following), cause in record.duplicates():
        if cause not in LOST:
            yield Violation(task, f"claim {following} ran though claim {number} was {cause}")


def what_is_taken_for_dead_is_dead(record: Record) -> Iterator[Violation]:
    """A run is given back, or its worker called dead, when its process does nothing any more.

    Without that two runs of one task could go on side by side, with nobody's lease lost. A run that
    was cut off is over itself, and its process goes on with others.
    """
    last = {event.process: event for event in sorted(record.events, key=lambda event: event.at)}
    for (task, claim_seq), change in record.over.items():
        start = record.starts.get((task, claim_seq))
        fate = what_happened(change)
        dead = _is_blamed(change) or (fate in LOST and fate != "rescued")
        if start is None or not dead:
            continue
        end = record.ends.get((task, claim_seq))
        if fate == "cut off" and end is not None and end.at <= change.at:
            continue
        if last[start.process].at > change.at:
            yield Violation(
                task, f"claim {claim_seq}: {fate}, and process {start.process} went on after that"
            )


# The rules: what was written on the rows


def the_audit_tells_all(record: Record) -> Iterator[Violation]:
    """Each row is as its last change left it, and each change begins where the last one ended."""
    states: dict[int, State | None] = {}
    for change in record.changes:
        if states.get(change.task) != change.old:
            yield Violation(change.task, f"change {change.n} does not follow the one before it")
        states[change.task] = change.new
    for task in record.tasks:
        row = record.rows.get(task)
        if (row.state if row else None) != states.get(task):
            yield Violation(task, "its row is not what its last change made of it")


def every_change_is_of_a_known_kind(record: Record) -> Iterator[Violation]:
    """No counter is erased, no status skipped, and no counter moves without an outcome."""
    for change in record.changes:
        final = change.old is not None and change.old.status in FINAL
        if change.old != change.new and not final and what_happened(change) is None:
            yield Violation(change.task, f"change {change.n} is of no known kind: {_diff(change)}")


def nothing_changes_what_has_ended(record: Record) -> Iterator[Violation]:
    """``finished`` and ``error`` are final."""
    for change in record.changes:
        if change.old is not None and change.old.status in FINAL:
            yield Violation(
                change.task, f"it had ended when change {change.n} came: {_diff(change)}"
            )


def claims_are_counted_one_by_one(record: Record) -> Iterator[Violation]:
    """``claim_seq`` grows by one with each claim or rescue, and moves with nothing else."""
    for change in record.changes:
        if change.old is None or change.new is None:
            continue
        claimed = what_happened(change) in ("claimed", "rescued")
        before, after = change.old.claim_seq, change.new.claim_seq
        if after != (before % LARGEST_CLAIM + 1 if claimed else before):
            yield Violation(
                change.task, f"claim_seq went from {before} to {after}: {_diff(change)}"
            )


def a_rescue_is_by_another(record: Record) -> Iterator[Violation]:
    """Who holds a claim runs it, and does not claim it anew."""
    for change in record.changes:
        if what_happened(change) == "rescued":
            assert change.old is not None
            assert change.new is not None
            if change.new.claimed_by == change.old.claimed_by:
                yield Violation(change.task, f"{change.old.claimed_by} rescued it from itself")


def only_the_holder_settles(record: Record) -> Iterator[Violation]:
    """The session that settles a claim is the holder's: told by what else it claimed."""
    if record.history.pooled:
        return
    holders: dict[str, set[str | None]] = defaultdict(set)
    for change in record.changes:
        if what_happened(change) in ("claimed", "rescued") and change.new and change.new.claimed_by:
            holders[change.session].add(change.new.claimed_by)
    for (task, claim_seq), change in record.over.items():
        known = holders.get(change.session)
        assert change.old is not None
        if known and what_happened(change) != "rescued" and change.old.claimed_by not in known:
            others = ", ".join(str(other) for other in known)
            yield Violation(
                task, f"claim {claim_seq} of {change.old.claimed_by} was settled by {others}"
            )


def an_outcome_is_that_of_its_claims_run(record: Record) -> Iterator[Violation]:
    """What is written under a claim is how that claim's run ended, and where it ran."""
    for (task, claim_seq), change in record.over.items():
        start, end = record.starts.get((task, claim_seq)), record.ends.get((task, claim_seq))
        fate = what_happened(change)
        if fate in LOST or fate in ("deferred", None):
            continue
        told = f"claim {claim_seq} was {fate}, and its run"
        how = end.how if end else None
        if how == "returned" and fate == "failed" and record.kind(task).tells:
            continue  # its result could not be kept
        if how not in _ways_to(str(fate), change.new, started=start is not None):
            yield Violation(task, f"{told} {'has ' + how if how else 'has not ended'}")
        elif end is not None and end.n > change.n:
            yield Violation(task, f"{told} ended only after that")


def _ways_to(fate: str, new: State | None, *, started: bool) -> tuple[str | None, ...]:
    """Return how a run may have ended, by the ledger, to have this written."""
    error = new.error if new else None
    match fate:
        case "finished":
            return ("returned",)
        case "postponed" | "made way":
            return ("postponed",)
        case "failed" | "retried" if error in (WORKER_LOST, TIMED_OUT):
            # The worker died, or the time was up, just when it was to tell; or before.
            return (None, "returned", "raised", "postponed")
        case "failed" if error == POSTPONED_TOO_OFTEN:
            return ("postponed",)
        case _ if not started:
            return (None,)  # run() was not even reached
    return ("raised",)


def a_worker_on_the_row_is_the_runs(record: Record) -> Iterator[Violation]:
    """A run that is written under another's claim shows by the process it ran in."""
    for (task, claim_seq), change in record.over.items():
        start = record.starts.get((task, claim_seq))
        if start is None or change.old is None or change.new is None:
            continue
        if change.new.attempted != change.old.attempted:
            pid = (change.new.worker or "").rpartition("/")[2]
            if pid != str(start.pid):
                yield Violation(
                    task, f"claim {claim_seq} ran in {start.pid}, and worker {pid} is on the row"
                )


def the_counters_add_up(record: Record) -> Iterator[Violation]:
    """Tries, postpones and losses are those that the audit saw."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for change in record.changes:
        fate = what_happened(change)
        if fate in ("finished", "failed", "retried") and change.new:
            counts[change.task]["tries"] += change.new.attempted != (
                change.old and change.old.attempted
            )
            dead = fate == "failed" and change.new.error == WORKER_LOST
            counts[change.task]["lost"] += dead
        counts[change.task]["postpones"] += fate == "postponed"
        counts[change.task]["lost"] += fate == "worker died alone"
    for row in record.rows.values():
        for name in ("tries", "postpones", "lost"):
            said, seen = getattr(row.state, name), counts[row.id][name]
            if said != seen:
                yield Violation(row.id, f"it says {name}={said}, and there were {seen}")


def identical_calls_do_not_wait_twice(record: Record) -> Iterator[Violation]:
    """At no moment. A row that gave its digest up is exempt."""
    waiting: dict[str, int] = {}
    for change in record.changes:
        for state, comes in ((change.old, False), (change.new, True)):
            if state is None or state.digest is None or state.status not in WAITING:
                continue
            if not comes:
                waiting.pop(state.digest, None)
            elif twin := waiting.get(state.digest):
                yield Violation(
                    change.task, f"it waits, and so does task {twin}, an identical call"
                )
            else:
                waiting[state.digest] = change.task


def calls_of_a_key_are_there_once_until_they_end(record: Record) -> Iterator[Violation]:
    """At no moment twice, from the insert to the end, whoever holds or rescues the row."""
    there: dict[str, int] = {}
    for change in record.changes:
        for state, comes in ((change.old, False), (change.new, True)):
            if state is None or state.unique_key is None or state.status in FINAL:
                continue
            if not comes:
                there.pop(state.unique_key, None)
            elif twin := there.get(state.unique_key):
                yield Violation(change.task, f"it is there, and so is task {twin} of its key")
            else:
                there[state.unique_key] = change.task


# The rules: who is blamed for a worker's death


def only_who_was_alone_is_blamed(record: Record) -> Iterator[Violation]:
    """``lost`` grows for the only run that was in flight when its process died."""
    for (task, claim_seq), change in record.over.items():
        start = record.starts.get((task, claim_seq))
        if start is None or not _is_blamed(change):
            continue
        others = record.runs_of[start.process] - {(task, claim_seq)}
        if beside := sorted(run for run in others if run not in record.ends):
            runs = ", ".join(f"claim {number} of task {other}" for other, number in beside)
            yield Violation(task, f"claim {claim_seq} is blamed, and beside it ran {runs}")


def of_a_batch_only_one_is_suspected(record: Record) -> Iterator[Violation]:
    """Sync tasks run one after the other: when their worker dies, the others had not started."""
    suspects: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for (task, _), change in record.over.items():
        died = what_happened(change) in ("worker died alone", "worker died in company")
        if record.kind(task).is_async or not (died or _is_blamed(change)):
            continue
        assert change.old is not None
        assert change.new is not None
        suspects[change.new.worker, change.old.claimed_by].append(task)
    for (worker, _), tasks in suspects.items():
        if len(tasks) > 1:
            listed = ", ".join(map(str, tasks))
            yield Violation(
                tasks[0], f"sync tasks are suspects of worker {worker}'s death: {listed}"
            )


def suspects_run_alone(record: Record) -> Iterator[Violation]:
    """Who may take a worker down has it for itself, from its start to its end."""
    for change in record.changes:
        new = change.new
        if what_happened(change) not in ("claimed", "rescued") or new is None:
            continue
        run = (change.task, new.claim_seq)
        if not (new.suspect or new.lost) or run not in record.starts:
            continue
        for other in record.runs_of[record.starts[run].process] - {run}:
            if record.overlap(run, other):
                beside = f"claim {other[1]} of task {other[0]}"
                yield Violation(
                    change.task, f"claim {run[1]} is a suspect's, and beside it ran {beside}"
                )


def _is_blamed(change: Change) -> bool:
    old, new = change.old, change.new
    return old is not None and new is not None and new.lost > old.lost


def _diff(change: Change) -> str:
    if change.old is None or change.new is None:
        return f"{change.old} -> {change.new}"
    return ", ".join(
        f"{name} {before!r} -> {after!r}"
        for name in State.__slots__
        if (before := getattr(change.old, name)) != (after := getattr(change.new, name))
    )


RULES = (
    every_committed_task_is_there,
    no_task_that_was_rolled_back_is_there,
    only_committed_tasks_run,
    every_task_ends,
    every_task_ends_as_it_must,
    each_end_in_error_is_told_of_once,
    what_is_finished_has_returned,
    no_claim_starts_or_ends_twice,
    every_end_has_its_start,
    duplicates_have_a_cause,
    what_is_taken_for_dead_is_dead,
    the_audit_tells_all,
    every_change_is_of_a_known_kind,
    nothing_changes_what_has_ended,
    claims_are_counted_one_by_one,
    a_rescue_is_by_another,
    only_the_holder_settles,
    an_outcome_is_that_of_its_claims_run,
    a_worker_on_the_row_is_the_runs,
    the_counters_add_up,
    identical_calls_do_not_wait_twice,
    calls_of_a_key_are_there_once_until_they_end,
    only_who_was_alone_is_blamed,
    of_a_batch_only_one_is_suspected,
    suspects_run_alone,
)
