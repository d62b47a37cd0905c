"""Schedules made, changed and deleted while two supervisors tick and are killed: each tick once."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from partisan_async import schedules
from partisan_async.models import Schedule, Task
from partisan_async.schedule import Cron, Every
from tests.faults.clock import clock_by_hand
from tests.faults.partisan_tasks import Errand
from tests.faults.test_ticks import BY_PROOF_ALONE, Pair

STEP = timedelta(minutes=5)

NIGHTS = {
    "spring": datetime(2026, 3, 28, 22, tzinfo=UTC),  # two hours later it is two, and then four
    "autumn": datetime(2026, 10, 24, 21, tzinfo=UTC),  # the hour from two comes twice
}
"""In Berlin; each is followed for seven hours."""

STEPS = 7 * 12

BERLIN = "Europe/Berlin"

RULES = [
    Cron("30 2 * * *", time_zone=BERLIN, catch_up=True),
    Cron("15,45 2 * * *", time_zone=BERLIN, catch_up=True),
    Cron("*/10 * * * *", time_zone=BERLIN, catch_up=True),
    Cron("5 1-4 * * *", time_zone=BERLIN, catch_up=True),
    Every(seconds=900, catch_up=True),
]

NAMES = ["one", "two", "three", "four"]


class Expected:
    """What ticks there must be of schedules, and which may be: due when they were deleted."""

    def __init__(self):
        self.must, self.may = defaultdict(list), defaultdict(list)
        self._next = {}

    def make(self, name, rule, now):
        """Made or changed, after all that was due has come or stays to come."""
        before = self._next.get(name)
        if before is None or str(before[0]) != str(rule):
            self._next[name] = (rule, rule.following(now, now))

    def delete(self, name, now):
        _, due = self._next.pop(name)
        if due == now:
            self.may[name].append(due)

    def pass_by(self, now):
        """All that is due by then comes, whoever changes it meanwhile."""
        for name, (rule, due) in self._next.items():
            while due <= now:
                self.must[name].append(due)
                due = rule.following(due, due)
            self._next[name] = (rule, due)

    @property
    def names(self):
        return list(self._next)


@pytest.mark.parametrize("night", NIGHTS)
def test_no_tick_is_lost_and_none_comes_twice(site, night):
    """Changes come at the moment of ticks, before or after they are taken; so do deaths."""
    rng = random.Random(night)
    expected = Expected()
    with clock_by_hand(site) as clock:
        now = NIGHTS[night]
        clock.set(now)
        pair = Pair(site, "errands", **BY_PROOF_ALONE)
        for name in NAMES:
            make(rng, expected, name, now)
        for step in range(STEPS):
            now += STEP
            clock.set(now)
            if rng.random() < 0.5:
                clock.ring("errands")
            if step % 12 == 7:
                site.wait_until(lambda: len(pair.up()) == 2)
                pair.kill(rng.choice(pair.both))
            gone = [name for name in expected.names if rng.random() < 0.04]
            for name in gone:
                assert schedules.delete(name)
                expected.delete(name, now)
            expected.pass_by(now)
            for name in NAMES:
                if name not in expected.names or rng.random() < 0.12:
                    make(rng, expected, name, now)
            wait_until_taken(site, clock, now)
        site.wait_until(lambda: len(pair.up()) == 2)
        site.settle_down()

    found = defaultdict(list)
    for task in Task.objects.order_by("id"):
        found[task.args[0]].append(task.tick)
    for name in NAMES:
        ticks = sorted(found[name])
        assert len(set(ticks)) == len(ticks), f"{name}: twice"
        missing = set(expected.must[name]) - set(ticks)
        assert not missing, f"{name}: lost"
        assert set(ticks) <= {*expected.must[name], *expected.may[name]}, f"{name}: too many"
    assert sum(map(len, found.values())) > 20


def make(rng, expected, name, now):
    rule = rng.choice(RULES)
    schedules.create(name, Errand(name, rng.random()), rule)
    expected.make(name, rule, now)


def wait_until_taken(site, clock, now):
    def taken():
        if not Schedule.objects.filter(next_tick__lte=now).exists():
            return True
        clock.ring("errands")  # who was away has not heard it
        return False

    site.wait_until(taken, f"somebody has taken what is due at {now}")


def test_by_the_real_clock_they_go_on_through_kills(site):
    """With nobody there for a while, in between."""
    pair = Pair(site, "errands")
    made = {}
    for name in NAMES:
        row = schedules.create(name, Errand(name), Every(seconds=0.3, catch_up=True))
        made[name] = row.next_tick
    for number in range(6):
        before = Task.objects.count()
        site.wait_until(lambda before=before: Task.objects.count() > before + 12)
        name = NAMES[number % len(NAMES)]
        schedules.create(name, Errand(name, number), Every(seconds=0.3, catch_up=True))
        for victim in list(pair.both) if number == 3 else [pair.both[number % 2]]:
            pair.kill(victim)
    before = Task.objects.count()
    site.wait_until(lambda: Task.objects.count() > before + 12)
    site.wait_until(lambda: len(pair.up()) == 2)
    last = {}
    for name in NAMES:
        last[name] = Schedule.objects.get(pk=f":{name}").last_tick
        schedules.delete(name)

    site.settle_down()

    for name in NAMES:
        ticks = [t.tick for t in Task.objects.order_by("execute_after", "id") if t.args[0] == name]
        steps = {after - before for before, after in pairwise(ticks)}
        assert ticks[0] == made[name]
        assert steps == {timedelta(seconds=0.3)}
        assert ticks[-1] >= last[name]
