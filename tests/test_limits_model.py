"""PostgreSQL held to the model of limits, whatever is enqueued, claimed, settled, killed, allowed.

The supervisors are real connections and real hints of open keys; the clock stands still until it is
moved, for the database and for them alike: so nothing here depends on how fast anything is.
"""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from partisan_async import store
from partisan_async.models import LimitOverride, Task
from partisan_async.policy import Failure, Finished, GivenBack, Postponed, Retried
from partisan_async.supervisor import news, open_keys
from partisan_async.supervisor.open_keys import OpenKeys
from tests.limited import Limited, execute, limit, row
from tests.limits_model import Model, Numbers, Row
from tests.test_races import TTL

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS = {
    "many": Numbers(running=3, running_per_key=2),
    "turns": Numbers(running=2),
    "order": Numbers(in_order=True),
    "rate": Numbers(rates=((5, 1.0),), rates_per_key=((2, 1.0), (3, 4.0))),
    "paced": Numbers(running=2, rates_per_key=((2, 2.0),), in_order=True),
}
KEYS = ("a", "b", "c", None)
BOOM = Failure("builtins.ValueError", "boom", "Traceback …")
BEGIN = 1_900_000_000.0
ROOM = 3
"""Of a supervisor, at once."""

CLOCK = """
DROP SCHEMA IF EXISTS model_clock CASCADE;
CREATE SCHEMA model_clock;
CREATE TABLE model_clock.face (at timestamptz NOT NULL);
INSERT INTO model_clock.face VALUES (now());
CREATE FUNCTION model_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT at FROM model_clock.face';
CREATE FUNCTION model_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT at FROM model_clock.face';
"""

TABLES = ("task", "supervisor", "limit", "limitoverride", "limitpause", "limitstart")

names = st.sampled_from(sorted(LIMITS))
keys = st.sampled_from(KEYS)
places = st.sampled_from(range(3))
calls = st.tuples(names, keys, st.sampled_from([1, 10]))
outcomes = st.tuples(
    st.sampled_from(["end", "retry", "postpone", "pause the key", "give back"]),
    st.sampled_from([0.0, 0.3, 1.0]),
)


class Supervisor(Limited):
    """One by the clock that is set by hand, with its own idea of which keys are open."""

    def __init__(self):
        super().__init__()
        self.connection.execute("SET search_path = model_clock, pg_catalog, public")
        self.keys = OpenKeys()
        self.running = {}
        self.beat()

    def beat(self):
        mine = store.Beat(self.me, "default", probe_channel="x", nonce="y")
        self.execute(store.beat([mine], hostname="h", process="{}", ttl=TTL))


class Limits(RuleBasedStateMachine):
    """What may happen to rows under limits."""

    clock: ClassVar[float] = BEGIN

    @initialize()
    def begin(self):
        execute(f"TRUNCATE {', '.join(f'partisan_async_{name}' for name in TABLES)}")
        self.set_clock(BEGIN)
        self.model = Model(dict(LIMITS))
        self.others = []
        for name, numbers in LIMITS.items():
            limit(
                name,
                running=numbers.running,
                running_per_key=numbers.running_per_key,
                rates=[list(rate) for rate in numbers.rates],
                rates_per_key=[list(rate) for rate in numbers.rates_per_key],
                in_order=numbers.in_order,
            )
        self.others = [Supervisor() for _ in range(3)]

    def teardown(self):
        for other in getattr(self, "others", ()):
            other.connection.close()

    @property
    def now(self):
        return type(self).clock

    def set_clock(self, at):
        at = round(at, 3)  # as the model has times
        type(self).clock = at
        execute("UPDATE model_clock.face SET at = %s", [moment(at)])
        for other in getattr(self, "others", ()):
            other.beat()

    @rule(
        place=places,
        calls=st.lists(calls, min_size=4, max_size=4),
        ends=st.lists(outcomes, min_size=6, max_size=6),
        seconds=st.sampled_from([-0.3, 0.0, 0.1, 0.3, 0.7, 0.98, 1.0]),
    )
    def go_on(self, place, calls, ends, seconds):
        """What is usual: some end, some are enqueued, time passes, and somebody looks."""
        self.settle(ends)
        for name, key, priority in calls:
            self.enqueue(name, key, priority, 1)
        # What waits for a time waits on where a clock goes back by less than a supervisor notes.
        (self.let_time_pass if seconds >= 0 else self.have_the_clock_jump)(seconds)
        self.promote(place)
        self.work_off(place)

    # What waits

    @rule(name=names, key=keys, priority=st.sampled_from([1, 10]), count=st.integers(1, 5))
    def enqueue(self, name, key, priority, count):
        for _ in range(count):
            self._insert(name, key, priority, "limited", self.now)

    @rule(name=names, key=keys, pause=st.sampled_from([0.5, 2.0]))
    def enqueue_for_later(self, name, key, pause):
        self._insert(name, key, 10, "scheduled", self.now + pause)

    def _insert(self, name, key, priority, status, after):
        after = round(after, 3)
        rank = 0 if LIMITS[name].in_order else priority
        task = row(
            key,
            name,
            priority=priority,
            status=status,
            execute_after=moment(after),
            limit_rank=rank,
        )
        self.model.put(Row(task.pk, name, key, priority, status, after))

    # Who claims

    @rule(
        place=places,
        asked=st.lists(st.tuples(names, keys), min_size=1, max_size=6, unique=True),
        count=st.integers(1, 4),
    )
    def claim(self, place, asked, count):
        """Of some keys, as hints go."""
        self._claimed(place, self._claim(place, asked, (), count))

    @rule(place=places, data=st.data())
    def claim_while_others_hold_a_row(self, place, data):
        """A row that somebody has locked is left out, and in order nothing overtakes it."""
        waiting = [each for each in self.model.rows.values() if each.status == "limited"]
        if not waiting:
            return
        held = data.draw(st.sampled_from(waiting))
        with locked(held.id):
            found = self._claim(place, [held.whose], (), 4, locked=frozenset({held.id}))
        self._claimed(place, found)

    @rule(place=places, data=st.data())
    def claim_when_something_has_come_between_lock_and_count(self, place, data):
        """It counts what is there when it has the lock."""

        def between():
            self.enqueue(data.draw(names), data.draw(keys), 1, 1)

        asked = [(name, key) for name in LIMITS for key in KEYS]
        self._claimed(place, self._claim(place, asked, (), 3, between=between))

    @rule(place=places)
    def work_off(self, place):
        """What is told to look, by a poll or a beat, leaves nothing idle that may start."""
        other = self.others[place]
        other.keys.note_some()
        found = []
        for _ in range(200):
            if not other.keys.is_any_open:
                break
            if other.keys.walks:
                walked = other.execute(store.walk("default", other.keys.walked))
                other.keys.note_step([(name, key) for name, key in walked])
            asked, ids = other.keys.take()
            if asked or ids:
                claims = self._claim(place, asked, ids, ROOM)
                other.keys.judge(list(other.verdicts.values()), claims)
                found += claims
            self._tell(other, *other.keys.news.take())
        else:
            raise AssertionError(f"it looks for ever: {self._told(other)}")
        idle = self.model.may_start(self.now)
        assert not idle, f"{idle} might start, and do not: {self._told(other)}"
        at, next_at = self.model.opens_at(self.now), other.keys.next_at()
        assert at is None or (next_at is not None and next_at <= at + 0.001), (
            f"something may start in {at - self.now} s, and it looks in"
            f" {next_at and next_at - self.now} s: {self._told(other)}"
        )
        self._claimed(place, found)

    def _tell(self, other, freed, untold):
        told = [*untold, *(pk for _, pk in other.execute(store.freed(freed)))]
        for each in self.others:
            each.keys.note_rows(told)

    def _claim(self, place, asked, ids, count, *, locked=frozenset(), between=None):
        other, model = self.others[place], self.model
        locks, statement = store.claim_limited(other.me, "default", count, TTL, asked, ids)
        with other.connection.transaction():
            other.execute(locks)
            if between is not None:
                between()
            rows = other.execute(statement)
        claims, verdicts = store.outcome(rows)
        other.verdicts = {each.whose: each for each in verdicts}
        places = {whose: place for place, whose in reversed([*enumerate(asked)])}
        for pk in ids:  # their order is anybody's
            places.setdefault(model.rows[pk].whose, len(asked))
        before = model.turns([(place, key) for key, place in places.items()], self.now, count)
        taken = [claim.id for claim in claims]
        wrong = list(model.wrong(taken, self.now, locked=locked))
        assert not wrong, wrong
        if not locked:
            self._turns_were_kept(before, taken, count)
        return claims

    def _turns_were_kept(self, before, taken, count):
        """Who was left, and could have started, comes after those that did, or had no room."""
        mine = {pk: before[pk] for pk in taken if pk in before}
        for pk, turn in before.items():
            if pk in taken:
                continue
            name = self.model.rows[pk].name
            same = [t for each, t in mine.items() if self.model.rows[each].name == name]
            is_full = self.model.room(name, None, self.now, of_key=False) < 1
            is_last = all(each <= turn for each in same)
            # Tasks of other limits come before it, or not, by their ids.
            is_over = len(taken) == count and all(each[0] <= turn[0] for each in mine.values())
            told = f"{pk} at {turn} was left, and {mine} started"
            assert is_last, told
            assert is_full or is_over, told

    def _claimed(self, place, claims):
        for claim in claims:
            self.others[place].running[claim.id] = claim

    # What becomes of it

    @rule(ends=st.lists(outcomes, min_size=4, max_size=4))
    def settle(self, ends):
        """Some of what runs, one after the other."""
        running = [(other, pk) for other in self.others for pk in other.running]
        for (other, pk), (how, pause) in zip(running, ends, strict=False):
            self._end(other, pk, how, pause)

    def _end(self, other, pk, how, pause):
        span, whose = timedelta(seconds=pause), self.model.rows[pk].whose
        decision = {
            "end": Finished(),
            "retry": Retried(span, BOOM),
            "postpone": Postponed(span),
            "pause the key": Postponed(span, None, counted=False),
            "give back": GivenBack(),
        }[how]
        if how == "pause the key":
            other.execute(store.pause_keys({whose: pause}))
            self.model.pause(whose, self.now + pause)
        self._settle(other, pk, decision)
        if how == "end":
            self.model.move(pk, "finished")
        else:
            self.model.go_back(pk, self.now, None if how == "give back" else pause)

    def _settle(self, other, pk, decision):
        claim = other.running.pop(pk)
        assert other.settle(claim, decision) == [(pk,)]
        other.keys.note_ended((claim.limit_name, claim.limit_key))

    @rule(place=places)
    def kill(self, place):
        """Another one rescues what it ran: it waits for its limits again."""
        dead, other = self.others[place], self.others[place - 1]
        statement = store.rescue(other.me, "default", 100, TTL, dead=[dead.me], by_clock=False)
        rescued = {found[0] for found in other.execute(statement)}
        dead.connection.close()
        self.others[place] = Supervisor()
        for pk in dead.running:
            self.model.move(pk, "limited")
        assert len(rescued) == len(dead.running)

    # What else happens

    @rule(seconds=st.sampled_from([0.05, 0.4, 1.0, 2.5]))
    def let_time_pass(self, seconds):
        self.set_clock(self.now + seconds)

    @rule(seconds=st.sampled_from([-3600.0, -1.5, -0.3, 30.0, 3600.0]))
    def have_the_clock_jump(self, seconds):
        self.set_clock(self.now + seconds)
        for other in self.others:
            other.keys.forget_times()

    @rule(place=places)
    def promote(self, place):
        ((_, _, ids),) = self.others[place].execute(store.promote("default"))
        self.model.promote(self.now)
        assert all(self.model.rows[pk].status == "limited" for pk in ids)

    @rule(name=names, key=st.sampled_from([None, "a"]), running=st.sampled_from([0, 1, 4]))
    def allow(self, name, key, running):
        LimitOverride.objects.update_or_create(name=name, key=key, defaults={"running": running})
        self.model.overrides[name, key] = running

    @precondition(lambda self: self.model.overrides)
    @rule(data=st.data())
    def clear(self, data):
        name, key = data.draw(st.sampled_from(sorted(self.model.overrides, key=str)))
        LimitOverride.objects.filter(name=name, key=key).delete()
        del self.model.overrides[name, key]

    @invariant()
    def rows_are_what_the_model_says(self):
        if not hasattr(self, "model"):
            return
        rows = dict(Task.objects.values_list("pk", "status"))
        assert rows == {row.id: row.status for row in self.model.rows.values()}

    def _told(self, other):
        waiting = [each for each in self.model.rows.values() if each.status == "limited"]
        return f"{waiting}; {other.verdicts}; {vars(other.keys)}"


def moment(at):
    return datetime.fromtimestamp(at, UTC)


@contextmanager
def locked(pk):
    """Have somebody hold a row meanwhile."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params) as somebody:
        somebody.execute("SELECT 1 FROM partisan_async_task WHERE id = %s FOR UPDATE", [pk])
        yield
        somebody.rollback()


class Clock:
    """The supervisors' own one."""

    def monotonic(self):
        return Limits.clock


@pytest.fixture
def clock(monkeypatch):
    execute(CLOCK)
    for module in (open_keys, news):
        monkeypatch.setattr(module, "time", Clock())
    yield
    execute("DROP SCHEMA model_clock CASCADE")


def test_the_database_does_as_the_model_says(clock):
    """A failure ends with the steps that lead to it, as few as there are."""
    run_state_machine_as_test(
        Limits,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
