"""The checker: it is silent on a good history, and objects to one that breaks any of its rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.checker import judge
from tests.faults.history import WORKER_LOST, Change, Event, History, Kind, Row, State
from tests.faults.rules import RULES

KINDS = {
    "Job": Kind("finished"),
    "AsyncJob": Kind("finished", is_async=True),
    "Failing": Kind("error"),
    "Deadly": Kind("error", poison=True),
    "Telling": Kind(on_error="Job"),
}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PIDS = {"p1": 101, "p2": 102, "p3": 103, "p4": 104}


class Story:
    """A history in the making: each call is one thing that happened, and takes a second."""

    def __init__(self) -> None:
        self.n = 0
        self.processors: dict[int, str] = {}
        self.firsts: dict[int, str] = {}
        self.states: dict[int, State | None] = {}
        self.events: list[Event] = []
        self.changes: list[Change] = []
        self.given: dict[str, object] = {}

    def change(self, task: int, session: str, **changes: object) -> None:
        old = self.states.get(task)
        self.put(task, replace(old or State("new"), **changes), session)

    def put(self, task: int, new: State | None, session: str) -> None:
        self.changes.append(
            Change(self._next(), self._now(), task, self.states.get(task), new, session)
        )
        self.states[task] = new

    def enqueue(self, task: int, processor: str = "Job", **changes: object) -> None:
        self.processors[task] = processor
        self.change(task, "client", **changes)

    def claim(self, task: int, by: str = "A") -> None:
        """Claim it, or rescue it."""
        claim_seq = self.states[task].claim_seq + 1
        self.change(task, f"session {by}", status="in_process", claimed_by=by, claim_seq=claim_seq)

    def start(self, task: int, process: str = "p1", claim_seq: int | None = None) -> None:
        self._tell("start", "", task, process, claim_seq)

    def end(
        self, task: int, how: str = "returned", process: str = "p1", claim_seq: int | None = None
    ) -> None:
        self._tell("end", how, task, process, claim_seq)

    def settle(self, task: int, status: str, process: str | None = None, **changes: object) -> None:
        """Write what became of it.

        :param process: where it ran, if it did.
        :param changes: by how much counters grow; other columns as they are to be.
        """
        state = self.states[task]
        by = changes.pop("by", state.claimed_by)
        for name in ("tries", "postpones", "lost", "unrecognised", "errors"):
            changes[name] = getattr(state, name) + changes.get(name, 0)
        if process:
            changes |= {"worker": f"host/{PIDS[process]}", "attempted": str(self.n)}
        changes = {"claimed_by": None, "suspect": False} | changes
        self.change(task, f"session {by}", status=status, **changes)

    def run(self, task: int, process: str = "p1", by: str = "A") -> None:
        """Have it run from its claim to its end."""
        self.claim(task, by)
        self.start(task, process)
        self.end(task, process=process)
        self.settle(task, "finished", process, tries=1)

    def history(self) -> History:
        rows = [
            Row(task, self.processors[task], state, self.firsts.get(task))
            for task, state in self.states.items()
            if state
        ]
        return History(
            rows=rows, events=self.events, changes=self.changes, kinds=KINDS, **self.given
        )

    def judge(self):
        return judge(self.history())

    def broken(self) -> set[str]:
        """Return the rules that are broken."""
        return {violation.rule for violation in self.judge().violations}

    def _tell(self, kind: str, how: str, task: int, process: str, claim_seq: int | None) -> None:
        if claim_seq is None:
            claim_seq = self.states[task].claim_seq
        event = Event(
            *(self._next(), self._now(), kind, how),
            *(task, claim_seq, PIDS[process], process),
        )
        self.events.append(event)

    def _next(self) -> int:
        self.n += 1
        return self.n

    def _now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.n)


@pytest.fixture
def story():
    return Story()


def worker_dies(story: Story, task: int, process: str = "p1", **changes: object) -> None:
    """Write that a task was running, alone, in a worker that died."""
    changes = {"lost": 1, "errors": 1, "error": WORKER_LOST, "suspect": True} | changes
    story.settle(task, changes.pop("status", "new"), process, **changes)


def told_of(story, status, calls):
    """Have a task end so, with so many calls of its ON_ERROR."""
    story.enqueue(1, "Telling")
    story.claim(1)
    story.start(1)
    story.end(1, "raised" if status == "error" else "returned")
    story.settle(1, status, "p1", tries=1, errors=int(status == "error"))
    for task in range(2, 2 + calls):
        story.firsts[task] = "1"
        story.enqueue(task)
        story.run(task)


class TestSilence:
    """It must not object to what is allowed, or nobody would listen."""

    def test_each_way_that_a_task_may_go(self, story):
        story.enqueue(1, status="scheduled")
        story.change(1, "session A", status="new")
        story.run(1)

        story.enqueue(2)  # raises, is retried, postpones itself, meets old code, and returns
        for how, status, counted in (
            ("raised", "scheduled", {"tries": 1, "errors": 1}),
            ("raised", "new", {"tries": 1, "errors": 1}),
            ("postponed", "scheduled", {"postpones": 1}),
            (None, "scheduled", {"unrecognised": 1}),
        ):
            story.claim(2)
            if how:
                story.start(2)
                story.end(2, how)
            story.settle(2, status, "p1" if how else None, **counted)
            if status == "scheduled":
                story.change(2, "session B", status="new")
        story.run(2, by="B", process="p2")

        story.enqueue(3, "Failing")
        story.claim(3)
        story.start(3)
        story.end(3, "raised")
        story.settle(3, "error", "p1", tries=1, errors=1, error="builtins.ValueError")

        story.enqueue(4)  # claimed, and given back before it started
        story.claim(4)
        story.settle(4, "new")
        story.run(4)

        story.enqueue(5)  # deleted when it finished
        story.claim(5)
        story.start(5)
        story.end(5)
        story.put(5, None, "session A")

        verdict = story.judge()

        assert verdict.ok, str(verdict)
        assert verdict.tasks == 5
        assert verdict.ended == {"finished": 3, "error": 1}
        assert verdict.runs == 8
        assert not verdict.duplicates

    def test_what_is_rescued_runs_twice_and_the_old_run_may_end_late(self, story):
        story.enqueue(1)
        story.claim(1, "A")
        story.start(1, "p1")
        story.claim(1, "B")
        story.start(1, "p2")
        story.end(1, process="p1", claim_seq=1)
        story.end(1, process="p2")
        story.settle(1, "finished", "p2", tries=1)

        verdict = story.judge()

        assert verdict.ok, str(verdict)
        assert verdict.duplicates == {"rescued": 1}
        assert verdict.kept_out == 1

    def test_a_claim_that_is_lost_before_it_started_makes_no_duplicate(self, story):
        story.enqueue(1)
        story.claim(1, "A")
        story.run(1, by="B", process="p2")

        assert story.judge().ok
        assert not story.judge().duplicates

    @pytest.mark.parametrize(("status", "calls"), [("error", 1), ("finished", 0)])
    def test_an_end_in_error_may_be_told_of(self, story, status, calls):
        """By a call of its ON_ERROR, which is a task like any other."""
        told_of(story, status, calls)

        assert story.judge().ok

    def test_poison_kills_three_workers(self, story):
        story.enqueue(1, "Deadly")
        for process, status, tries in (("p1", "new", 0), ("p2", "new", 0), ("p3", "error", 1)):
            story.claim(1)
            story.start(1, process)
            suspect = status == "new"
            worker_dies(story, 1, process, status=status, tries=tries, suspect=suspect)

        verdict = story.judge()

        assert verdict.ok, str(verdict)
        assert verdict.duplicates == {"worker died alone": 2}
        assert verdict.given_up == 0

    def test_an_innocent_task_may_be_killed_three_times_from_outside(self, story):
        """It ends in error with the reason on its row; that is counted."""
        story.enqueue(1)
        for process, status, tries in (("p1", "new", 0), ("p2", "new", 0), ("p3", "error", 1)):
            story.claim(1)
            story.start(1, process)
            worker_dies(story, 1, process, status=status, tries=tries, suspect=status == "new")

        assert story.judge().ok
        assert story.judge().given_up == 1

    def test_neighbours_on_the_event_loop_are_suspects_together(self, story):
        for task in (1, 2):
            story.enqueue(task, "AsyncJob")
            story.claim(task)
            story.start(task)
        for task in (1, 2):
            story.settle(task, "new", "p1", suspect=True)
        story.run(1, "p2")
        story.run(2, "p3")

        verdict = story.judge()

        assert verdict.ok, str(verdict)
        assert verdict.duplicates == {"worker died in company": 2}

    def test_a_worker_may_die_between_the_end_and_its_telling(self, story):
        """The ledger has the end; the supervisor was never told."""
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1)
        worker_dies(story, 1)
        story.run(1, "p2")

        assert story.judge().ok
        assert story.judge().duplicates == {"worker died alone": 1}

    def test_a_worker_may_die_between_its_start_and_the_ledgers(self, story):
        story.enqueue(1)
        story.claim(1)
        worker_dies(story, 1)
        story.run(1, "p2")

        assert story.judge().ok
        assert not story.judge().duplicates

    def test_a_process_goes_on_after_a_run_that_was_cut_off(self, story):
        """The run alone is over: its session with the database was."""
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1, "raised")
        story.settle(1, "scheduled", "p1", interrupted=1)
        story.enqueue(2)
        story.run(2, "p1")
        story.change(1, "session A", status="new")
        story.run(1, "p1")

        assert story.judge().ok
        assert story.judge().duplicates == {"cut off": 1}

    def test_a_run_that_did_not_heed_its_time_limit_has_no_end(self, story):
        story.enqueue(1, "Failing")
        story.claim(1)
        story.start(1)
        timeout = "partisan_async.exceptions.TaskTimeout"
        story.settle(1, "error", "p1", tries=1, errors=1, error=timeout)

        assert story.judge().ok

    def test_a_twin_may_wait_beside_one_that_gave_its_digest_up(self, story):
        story.enqueue(1, digest="d")
        story.claim(1)
        story.enqueue(2, digest="d")
        story.start(1)
        story.end(1, "postponed")
        story.settle(1, "new", "p1", postpones=1, digest=None)
        story.run(1)
        story.run(2)

        assert story.judge().ok

    def test_behind_a_pooler_sessions_tell_nothing(self, story):
        story.enqueue(1)
        story.run(1, by="B")
        story.enqueue(2)
        story.claim(2, "A")
        story.start(2)
        story.end(2)
        story.settle(2, "finished", "p1", tries=1, by="B")
        story.given["pooled"] = True

        assert story.judge().ok

    def test_the_numbers_of_claims_begin_again_at_1(self, story):
        story.enqueue(1)
        story.claim(1)
        last = replace(story.states[1], claim_seq=2**31 - 1)
        story.states[1] = last
        story.changes[-1] = replace(story.changes[-1], new=last)
        story.change(1, "session B", claimed_by="B", claim_seq=1)

        assert story.broken() == {"claims are counted one by one", "every task ends"}
        assert len([v for v in story.judge().violations if "counted" in v.rule]) == 1


class TestWhatBecameOfEachTask:
    def test_a_committed_task_that_is_not_there(self, story):
        story.given["committed"] = {1}

        assert story.broken() == {"every committed task is there"}

    def test_a_rolled_back_task_that_is_there(self, story):
        story.enqueue(1)
        story.run(1)
        story.given["rolled_back"] = {1}

        assert story.broken() == {"no task that was rolled back is there"}

    def test_a_run_of_a_task_that_is_not_there(self, story):
        story.start(9, claim_seq=1)

        assert story.broken() == {"only committed tasks run"}

    @pytest.mark.parametrize("status", ["new", "scheduled", "in_process"])
    def test_a_task_that_is_left(self, story, status):
        story.enqueue(1, status="scheduled" if status == "scheduled" else "new")
        if status == "in_process":
            story.claim(1)

        assert story.broken() == {"every task ends"}

    def test_a_task_that_ends_otherwise_than_it_must(self, story):
        story.enqueue(1, "Failing")
        story.run(1)

        assert story.broken() == {"every task ends as it must"}

    @pytest.mark.parametrize(("status", "calls"), [("error", 0), ("error", 2), ("finished", 1)])
    def test_an_end_that_is_not_told_of_as_it_must(self, story, status, calls):
        told_of(story, status, calls)

        assert story.broken() == {"each end in error is told of once"}

    def test_an_error_without_its_reason(self, story):
        story.enqueue(1, "Failing")
        story.claim(1)
        story.start(1)
        story.end(1, "raised")
        story.settle(1, "error", "p1", tries=1)

        assert story.broken() == {"every task ends as it must"}

    def test_poison_that_ends_by_another_error(self, story):
        story.enqueue(1, "Deadly")
        story.claim(1)
        story.start(1)
        story.end(1, "raised")
        story.settle(1, "error", "p1", tries=1, errors=1, error="builtins.ValueError")

        assert story.broken() == {"every task ends as it must"}

    @pytest.mark.parametrize("how", ["postponed", "raised", None])
    def test_a_task_that_is_finished_and_has_not_returned(self, story, how):
        """The ancestor's fault: it marked postponed tasks as finished."""
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        if how:
            story.end(1, how)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {
            "what is finished has returned",
            "an outcome is that of its claims run",
        }


class TestWhatTheRunsDid:
    def test_a_claim_that_starts_twice(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.start(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {"no claim starts or ends twice"}

    def test_a_claim_that_ends_twice(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {"no claim starts or ends twice"}

    def test_an_end_without_a_start(self, story):
        story.enqueue(1)
        story.claim(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {"every end has its start"}

    def test_a_task_that_runs_again_though_it_has_ended(self, story):
        story.enqueue(1)
        story.run(1)
        story.claim(1)
        story.start(1, "p2")
        story.end(1, process="p2")
        story.settle(1, "finished", "p2", tries=1)

        assert story.broken() == {
            "duplicates have a cause",
            "nothing changes what has ended",
            "claims are counted one by one",
        }

    def test_a_run_that_is_given_back_while_its_process_goes_on(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1, "p1")
        story.settle(1, "new")
        story.run(1, "p2")
        story.end(1, process="p1", claim_seq=1)

        assert story.broken() == {"what is taken for dead is dead"}

    def test_a_run_that_makes_way_is_no_duplicate(self, story):
        """It has ended by itself, and its process goes on for as long as it stops."""
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1, "postponed")
        story.settle(1, "new", "p1", after="now")
        story.enqueue(2)
        story.run(2, "p1")
        story.run(1, "p2")

        assert story.judge().ok
        assert not story.judge().duplicates

    def test_nor_does_it_make_way_where_its_run_has_returned(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1, "returned")
        story.settle(1, "new", "p1", after="now")
        story.run(1, "p2")

        assert "an outcome is that of its claims run" in story.broken()

    def test_a_run_that_is_cut_off_and_goes_on(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1, "p1")
        story.settle(1, "scheduled", "p1", interrupted=1)
        story.run(1, "p2")
        story.end(1, process="p1", claim_seq=1)

        assert "what is taken for dead is dead" in story.broken()

    def test_a_worker_that_is_called_dead_and_takes_another_task(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1, "p1")
        worker_dies(story, 1)
        story.run(1, "p2")
        story.enqueue(2)
        story.run(2, "p1")

        assert "what is taken for dead is dead" in story.broken()


class TestWhatWasWrittenOnTheRows:
    def test_a_row_that_is_not_what_was_made_of_it(self, story):
        story.enqueue(1)
        story.run(1)
        story.states[1] = replace(story.states[1], worker="host/9")

        assert story.broken() == {"the audit tells all"}

    def test_a_row_that_is_gone(self, story):
        story.enqueue(1)
        story.run(1)
        story.states[1] = None

        assert story.broken() == {"the audit tells all"}

    def test_a_change_that_the_audit_missed(self, story):
        story.enqueue(1)
        story.run(1)
        del story.changes[1]

        assert "the audit tells all" in story.broken()

    def test_a_counter_that_is_erased(self, story):
        """The ancestor's fault: an error erased the counters."""
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1, "postponed")
        story.settle(1, "new", "p1", postpones=1)
        story.claim(1)
        story.start(1)
        story.end(1, "raised")
        story.settle(1, "new", "p1", tries=1, postpones=-1, errors=1)
        story.run(1)

        assert story.broken() >= {"every change is of a known kind", "the counters add up"}

    def test_a_status_that_is_skipped(self, story):
        story.enqueue(1)
        story.change(1, "session A", status="error", errors=1)

        assert "every change is of a known kind" in story.broken()

    def test_a_try_that_is_counted_twice(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=2)

        assert story.broken() == {"every change is of a known kind", "the counters add up"}

    def test_a_change_after_the_end(self, story):
        story.enqueue(1)
        story.run(1)
        story.change(1, "session A", worker="host/9")

        assert story.broken() == {"nothing changes what has ended"}

    def test_a_claim_that_is_not_counted(self, story):
        story.enqueue(1)
        story.claim(1, "A")
        story.change(1, "session B", claimed_by="B")
        story.start(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {"claims are counted one by one"}

    def test_a_settle_that_counts_a_claim(self, story):
        story.enqueue(1)
        story.claim(1)
        story.settle(1, "new", claim_seq=2)
        story.run(1)

        assert story.broken() == {"claims are counted one by one"}

    def test_one_that_rescues_from_itself(self, story):
        story.enqueue(1)
        story.claim(1, "A")
        story.claim(1, "A")
        story.start(1)
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)

        assert story.broken() == {"a rescue is by another"}

    def test_one_that_settles_anothers_claim(self, story):
        """A zombie that is back, and no fence."""
        story.enqueue(1)
        story.claim(1, "A")
        story.start(1, "p1")
        story.claim(1, "B")
        story.start(1, "p2")
        story.end(1, process="p1", claim_seq=1)
        story.settle(1, "finished", "p1", tries=1, by="A")

        assert story.broken() == {
            "only the holder settles",
            "an outcome is that of its claims run",
            "a worker on the row is the runs",
            "what is finished has returned",
        }

    def test_one_that_gives_anothers_claim_back(self, story):
        """Nothing but the session shows it."""
        story.enqueue(1)
        story.claim(1, "A")
        story.claim(1, "B")
        story.settle(1, "new", by="A")
        story.run(1, by="B")

        assert story.broken() == {"only the holder settles"}

    @pytest.mark.parametrize(
        ("how", "status", "counted"),
        [
            ("returned", "new", {"tries": 1, "errors": 1}),
            ("returned", "new", {"postpones": 1}),
            ("raised", "scheduled", {"postpones": 1}),
            ("postponed", "scheduled", {"tries": 1, "errors": 1}),
            (None, "scheduled", {"tries": 1, "errors": 1}),
        ],
    )
    def test_an_outcome_that_is_not_the_runs(self, story, how, status, counted):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        if how:
            story.end(1, how)
        story.settle(1, status, "p1", **counted)
        if status == "scheduled":
            story.change(1, "session A", status="new")
        story.run(1)

        assert "an outcome is that of its claims run" in story.broken()

    def test_an_outcome_that_is_written_before_the_end(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1)
        story.settle(1, "finished", "p1", tries=1)
        story.end(1)

        assert story.broken() == {"an outcome is that of its claims run"}

    def test_a_worker_that_is_not_the_runs(self, story):
        story.enqueue(1)
        story.claim(1)
        story.start(1, "p1")
        story.end(1)
        story.settle(1, "finished", "p2", tries=1)

        assert story.broken() == {"a worker on the row is the runs"}

    def test_identical_calls_that_wait_side_by_side(self, story):
        story.enqueue(1, digest="d")
        story.enqueue(2, digest="d")
        story.run(1)
        story.run(2)

        assert story.broken() == {"identical calls do not wait twice"}

    def test_a_call_that_is_enqueued_while_one_of_its_key_runs(self, story):
        story.enqueue(1, unique_key="k")
        story.claim(1)
        story.start(1)
        story.enqueue(2, unique_key="k")
        story.end(1)
        story.settle(1, "finished", "p1", tries=1)
        story.run(2)

        assert story.broken() == {"calls of a key are there once until they end"}


class TestWhoIsBlamed:
    def test_one_that_was_not_alone(self, story):
        for task in (1, 2):
            story.enqueue(task, "AsyncJob")
            story.claim(task)
            story.start(task)
        worker_dies(story, 1)
        story.settle(2, "new", "p1", suspect=True)
        story.run(1, "p2")
        story.run(2, "p3")

        assert story.broken() == {"only who was alone is blamed"}

    def test_one_of_a_batch_that_had_not_started(self, story):
        for task in (1, 2):
            story.enqueue(task)
            story.claim(task)
        story.start(1)
        story.settle(1, "new", "p1", suspect=True)
        story.settle(2, "new", "p1", suspect=True)
        story.run(1, "p2")
        story.run(2, "p3")

        assert story.broken() == {"of a batch only one is suspected"}

    @pytest.mark.parametrize("first", ["suspect", "other"])
    def test_a_suspect_with_another_beside_it(self, story, first):
        story.enqueue(1, "AsyncJob")
        story.enqueue(2, "AsyncJob")
        story.claim(1)
        story.start(1)
        worker_dies(story, 1)
        for task in (1, 2) if first == "suspect" else (2, 1):
            story.claim(task)
            story.start(task, "p2")
        for task in (1, 2):
            story.end(task, process="p2")
            story.settle(task, "finished", "p2", tries=1)

        assert story.broken() == {"suspects run alone"}


def test_a_violation_says_which_task_and_how(story):
    story.enqueue(7)

    assert str(story.judge()).splitlines()[-1] == ("  task 7: Job is left in new [every task ends]")
    assert not story.judge().ok


def test_every_rule_is_broken_by_some_history_here():
    """So that none of them is one that can never object."""
    from pathlib import Path

    told = Path(__file__).read_text()
    names = [rule.__name__.replace("_", " ") for rule in RULES]

    assert [name for name in names if f'"{name}"' not in told] == []
    assert Counter(names).most_common(1)[0][1] == 1
