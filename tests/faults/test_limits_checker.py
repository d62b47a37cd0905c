"""The rules of limits: silent on what is allowed, and each objects to what breaks it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from partisan_async.limits import Limit, Rate
from tests.faults.history import Change, Event, History, Row, State
from tests.faults.injector import Befallen
from tests.faults.limited.record import Circumstances, Override, Pause
from tests.faults.limited.rules import RULES
from tests.faults.limited.verdict import judge_limits

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

LIMITS = {
    "few": Limit(running=2, running_per_key=1),
    "order": Limit(in_order=True),
    "rate": Limit(rates=[Rate(2, per_seconds=10)], rates_per_key=[Rate(1, per_seconds=5)]),
    "free": Limit(fair=True),
}


def at(n):
    return BEGAN + timedelta(seconds=n)


class Story:
    """Each call is one thing that happened, and takes a second."""

    def __init__(self):
        self.n = 0
        self.states, self.changes, self.events = {}, [], []
        self.around = {"limits": LIMITS, "workers": 2}

    def change(self, task, **changes):
        self.n += 1
        old = self.states.get(task)
        new = replace(old or State("limited"), **changes)
        moment = at(self.n)
        self.changes.append(
            Change(self.n, moment, task, old, new, "s", begun=moment, committed=moment)
        )
        self.states[task] = new

    def claim(self, task, by="A"):
        seq = self.states[task].claim_seq + 1
        claimed = at(self.n + 1).timestamp()
        self.change(task, status="in_process", claimed_by=by, claim_seq=seq, claimed=claimed)

    def tell(self, kind, task, claim_seq=None):
        self.n += 1
        seq = claim_seq or self.states[task].claim_seq
        self.events.append(Event(self.n, at(self.n), kind, "returned", task, seq, 1, f"p{task}"))

    def begin(self, task, limit, key=None, by="A"):
        self.change(task, limit=limit, key=key)
        self.claim(task, by)
        self.tell("start", task)

    def end(self, task, status="finished", **changes):
        self.tell("end", task)
        tries = self.states[task].tries + 1
        changes = {"claimed_by": None, "attempted": str(self.n), "tries": tries} | changes
        self.change(task, status=status, **changes)

    def rescue(self, task):
        seq = self.states[task].claim_seq + 1
        self.change(task, status="limited", claimed_by=None, claim_seq=seq)

    def verdict(self):
        rows = [Row(task, "Job", state, "return") for task, state in self.states.items()]
        history = History(rows=rows, events=self.events, changes=self.changes)
        return judge_limits(history, Circumstances(**self.around))

    @property
    def broken(self):
        return {violation.rule for violation in self.verdict().violations}


@pytest.fixture
def story():
    return Story()


class TestSilence:
    def test_one_after_the_other(self, story):
        for task, name in enumerate(("few", "order", "rate", "free"), start=1):
            story.begin(task, name, "k")
            story.end(task, "limited", after="later")
            story.n += 10
            story.claim(task)
            story.tell("start", task)
            story.end(task)

        assert story.broken == set()
        assert story.verdict().figures.ran_of_a_key == {"few": 1, "order": 1, "rate": 1, "free": 1}

    def test_one_that_is_there_only_later(self, story):
        story.change(1, limit="order", key="k", status="scheduled")
        story.begin(2, "order", "k")
        story.change(1, status="limited")
        story.end(2)
        story.claim(1)
        story.tell("start", 1)
        story.end(1)

        assert story.broken == set()

    def test_what_an_operator_allows(self, story):
        story.around["overrides"] = [Override("few", None, 3, at(0), at(0))]
        for task in (1, 2, 3):
            story.begin(task, "few", str(task))
        for task in (1, 2, 3):
            story.end(task)

        assert story.broken == set()

    def test_one_whose_process_died_while_it_wrote_that_it_begins(self, story):
        story.change(1, limit="few", key="k")
        story.claim(1)
        story.rescue(1)
        story.tell("start", 1, claim_seq=1)
        story.events[-1] = replace(story.events[-1], at=at(1))
        story.claim(1, "B")
        story.tell("start", 1)
        story.end(1)

        assert story.broken == set()

    def test_a_zombie_of_a_supervisor_that_was_cut_off(self, story):
        what = "black-hole a supervisor past its lease"
        story.around["befallen"] = [Befallen(what, "A", at(1), at(20))]
        story.begin(1, "few", "k")
        story.rescue(1)
        story.claim(1, "B")
        story.tell("start", 1)
        story.tell("end", 1, claim_seq=1)
        story.end(1)

        assert story.broken == set()
        verdict = story.verdict()
        assert verdict.figures.zombies == {what: 1}
        assert verdict.figures.beside_zombies == {"few": 1}


class TestObjections:
    def test_too_many_of_all(self, story):
        for task in (1, 2, 3):
            story.begin(task, "few", str(task))

        assert story.broken == {"no more are claimed than may run", "no more run than may"}

    def test_too_many_of_a_key(self, story):
        for task in (1, 2):
            story.begin(task, "few", "k")

        assert story.broken == {"no more are claimed than may run", "no more run than may"}

    def test_more_than_an_operator_allows(self, story):
        story.around["overrides"] = [Override("few", None, 0, at(0), at(0))]
        story.begin(1, "few", "k")

        assert "no more are claimed than may run" in story.broken

    @pytest.mark.parametrize("by", ["B", None])
    def test_a_run_that_outlives_its_claim_though_nothing_had_befallen(self, story, by):
        story.around["befallen"] = [Befallen("kill a supervisor", "B", at(1), at(1))]
        if by is None:
            story.around["befallen"] = [Befallen("restart PostgreSQL", None, at(50), at(50))]
        story.begin(1, "few", "k")
        story.rescue(1)
        story.tell("end", 1, claim_seq=1)

        assert "only zombies outlive their claims" in story.broken

    def test_a_worker_that_outlives_its_killed_supervisor_for_long(self, story):
        story.around["befallen"] = [Befallen("kill a supervisor", "A", at(1), at(2))]
        story.begin(1, "few", "k")
        story.rescue(1)
        story.n += 6
        story.tell("end", 1, claim_seq=1)

        assert "only zombies outlive their claims" in story.broken

    @pytest.mark.parametrize("keys", ["aa", "abc"])
    def test_too_many_in_a_window(self, story, keys):
        for task, key in enumerate(keys, start=1):
            story.change(task, limit="rate", key=key)
        for task in range(1, len(keys) + 1):
            story.claim(task)

        assert "no more start in a window" in story.broken

    def test_one_that_overtakes(self, story):
        story.change(1, limit="order", key="k")
        story.n += 1
        story.begin(2, "order", "k")

        assert story.broken == {"in order each waits for those before it"}

    def test_one_that_gives_up_its_place(self, story):
        story.begin(1, "order", "k")
        story.end(1, "scheduled")

        assert story.broken == {"in order each waits for those before it"}

    def test_one_that_starts_in_a_pause(self, story):
        story.change(1, limit="few", key="k")
        story.n += 2
        until = at(story.n + 9).timestamp()
        story.around["pauses"] = [Pause(story.n, "few", "k", until, at(story.n))]
        story.claim(1)

        assert "nothing starts while its key is paused" in story.broken

    def test_one_that_ends_as_it_should_not(self, story):
        story.begin(1, "few", "k")
        story.end(1, "error")

        assert story.broken == {"each ends as it was told to"}


def test_an_open_key_that_waits_beside_a_free_worker_is_told(story):
    story.change(1, limit="few", key="k")
    story.around["calm"] = [(at(0), at(30))]
    story.n = 20
    story.claim(1)
    story.end(1)

    verdict = story.verdict()

    assert 9 < max(wait.seconds for wait in verdict.waits) < 12
    assert not verdict.is_lively


def test_each_rule_has_a_name():
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
