"""Scheduled processors under supervisors that are killed: each tick has one task, and only one."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from psycopg.conninfo import make_conninfo

from partisan_async.models import Schedule, Task
from tests.faults.clock import clock_by_hand

FIVE_MINUTES = timedelta(minutes=5)

BEGIN = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""In the night that follows clocks are set back in Berlin, and the hour from two comes twice."""

DAY = [BEGIN + n * FIVE_MINUTES for n in range(1, 289)]

BY_PROOF_ALONE = {"ttl": 7 * 24 * 3600}
"""A day passes in a minute: whoever is silent for longer by the server's clock is not dead."""


def ticks(processor):
    rows = Task.objects.filter(processor_class=processor).order_by("id")
    return [task.tick for task in rows]


class Pair:
    """Two supervisors of one queue. One that ends is replaced."""

    def __init__(self, site, queue_name, **settings):
        self._site = site
        self._settings = {"WORKERS_COUNT": 1, **settings}
        self._queue_name = queue_name
        self._names = {}
        self.both = [self._start(wait=True), self._start(wait=True)]

    def kill(self, victim):
        """Kill it, and have another in its place as soon as that is up."""
        victim.kill()
        self.both[self.both.index(victim)] = self._start(wait=False)

    def up(self):
        return [each for each in self.both if "started: queue" in each.output]

    def named(self, name):
        """Return the one whose sessions have this name."""
        return self.both[[self._names[each] for each in self.both].index(name)]

    def _start(self, *, wait):
        name = f"supervisor {len(self._names)}"
        options = ("--queue_name", self._queue_name)
        url = make_conninfo(self._site.url, application_name=name)
        supervisor = self._site.start(*options, wait=wait, url=url, **self._settings)
        self._names[supervisor] = name
        return supervisor


class TestDay:
    """24 hours of ``*/5 * * * *``, five minutes at a time."""

    def test_every_tick_of_a_day_comes_once(self, site):
        """The clock goes on when a tick is taken, by whomever; what nobody takes fails here."""
        rng = random.Random(1)
        harms = [self.kill_one, self.kill_in_the_middle, self.end_session_in_the_middle] * 4
        harms = [*harms, self.kill_both]
        rng.shuffle(harms)
        harmed = dict(zip(sorted(rng.sample(DAY, len(harms))), harms, strict=True))
        with clock_by_hand(site) as clock:
            clock.set(BEGIN + timedelta(seconds=150))
            pair = Pair(site, "cron", **BY_PROOF_ALONE)
            site.wait_until(lambda: next_tick() == DAY[0])
            for tick in DAY:
                if harm := harmed.get(tick):
                    site.wait_until(lambda: len(pair.up()) == 2)
                    harm(site, clock, pair, tick)
                else:
                    clock.set(tick)
                self.wait_until_taken(site, clock, tick)
            site.wait_until(lambda: len(pair.up()) == 2)
            site.settle_down()

        assert ticks("EveryFiveMinutes") == DAY

    def kill_one(self, site, clock, pair, tick):
        """At the moment at which both are woken."""
        clock.set(tick)
        clock.ring("cron")
        pair.kill(pair.both[0])

    def kill_both(self, site, clock, pair, tick):
        clock.set(tick)
        for supervisor in list(pair.both):
            pair.kill(supervisor)

    def kill_in_the_middle(self, site, clock, pair, tick):
        """The server goes on with the statement, for nobody."""
        name, _ = self.in_the_middle(site, clock, tick)
        pair.kill(pair.named(name))

    def end_session_in_the_middle(self, site, clock, pair, tick):
        """The statement comes to nothing, and both live."""
        _, pid = self.in_the_middle(site, clock, tick)
        assert site.execute("SELECT pg_terminate_backend(%s)", pid) == [(True,)]

    def in_the_middle(self, site, clock, tick):
        """Stop a tick in the middle of its statement; return whose session it is, and its pid."""
        clock.slow_down(1)
        clock.set(tick)
        clock.ring("cron")
        ((name, pid),) = site.wait_until(clock.in_the_middle)
        clock.slow_down(0)
        return name, pid

    def wait_until_taken(self, site, clock, tick):
        def taken():
            if next_tick() > tick:
                return True
            clock.ring("cron")  # who was away has not heard it
            return False

        site.wait_until(taken, f"somebody has taken the tick of {tick}")


def next_tick():
    schedules = Schedule.objects.values_list("next_tick", flat=True)
    return next(iter(schedules), None)


class TestMetronome:
    @pytest.mark.parametrize("harm", ["kill", "restart"])
    def test_no_tick_is_left_out_or_doubled(self, site, harm):
        """By the real clock, with nobody there for a while in between."""
        pair = Pair(site, "metronome")
        for number in range(4):
            before = len(ticks("Metronome"))
            site.wait_until(lambda before=before: len(ticks("Metronome")) > before + 10)
            if harm == "restart":
                site.restart()
            elif number == 2:
                for supervisor in list(pair.both):
                    pair.kill(supervisor)
            else:
                site.wait_until(lambda: len(pair.up()) == 2)
                pair.kill(pair.both[number % 2])
        before = len(ticks("Metronome"))
        site.wait_until(lambda: len(ticks("Metronome")) > before + 10)
        site.wait_until(lambda: len(pair.up()) == 2)
        stop_ticking(site)

        site.settle_down()

        steps = {after - before for before, after in pairwise(ticks("Metronome"))}
        assert steps == {timedelta(seconds=0.2)}


def stop_ticking(site):
    site.execute("UPDATE partisan_async_schedule SET enabled = false, next_tick = NULL")
