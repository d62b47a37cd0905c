"""The database's clock is wrong for a while, and right again: nobody is taken for dead or living
by it for longer, and no schedule is silent."""

import io
import time
from datetime import timedelta
from functools import partial

from django.core.management import CommandError, call_command
from django.utils import timezone

from partisan_async.models import Schedule, Supervisor, Task
from tests.faults.clock import clock_by_hand
from tests.faults.partisan_tasks import Deposit, Nap

YEAR = timedelta(days=365)

RIGHT = timedelta(0)

QUICK = {"beat": 0.5, "ttl": 4, "WORKERS_COUNT": 2}


def test_a_year_ahead_for_eight_seconds_costs_nobody_a_task_or_a_schedule(site):
    with clock_by_hand(site) as clock:
        clock.jump(RIGHT)
        pair = [site.start(**QUICK), site.start(**QUICK)]
        cron = site.start("--queue_name", "cron", **QUICK)
        for ahead in (YEAR, RIGHT):
            site.wait_until_ended(Deposit().delay())
            naps = [Nap(6).delay() for _ in range(3)]
            for nap in naps:
                site.running(nap)
            clock.jump(ahead)
            time.sleep(8)  # the fault lasts so long
            site.wait_until_ended(*naps, *[Deposit().delay() for _ in range(20)])
            clock.ring("cron")
            site.wait_until(partial(is_near, timezone.now() + ahead))
        site.execute("UPDATE partisan_async_schedule SET enabled = false, next_tick = NULL")
        told = doctor()
        verdict = site.settle_down()
        said = [each.output for each in (*pair, cron)]

    assert verdict.duplicates == {}
    assert [output.count("the database's clock jumped by") for output in said] == [2, 2, 2]
    assert "moved up the tick of EveryFiveMinutes" in said[-1]
    ticks = [task.tick for task in Task.objects.filter(processor_class="EveryFiveMinutes")]
    assert len(ticks) == len(set(ticks))
    assert "The database's clock was ahead when finished_at was written" in told


def test_a_supervisor_that_died_meanwhile_is_not_alive_for_a_year(site):
    with clock_by_hand(site) as clock:
        clock.jump(YEAR)
        victim = site.start(**QUICK)
        nap = Nap(2).delay()
        site.running(nap)
        victim.kill()
        # As one of another host: no look at its process proves that it is gone.
        Supervisor.objects.update(hostname="elsewhere")
        clock.jump(RIGHT)

        site.start(**QUICK)
        site.wait_until_ended(nap)
        site.wait_until(lambda: Supervisor.objects.count() == 1)
        site.settle_down()

    nap.refresh_from_db()
    assert (nap.status, nap.claim_seq) == ("finished", 2)
    assert not Schedule.objects.exists()
    assert nap.finished_at < timezone.now() + timedelta(minutes=1)


def is_near(now):
    """Tell whether the next tick is one of the next minutes."""
    tick = Schedule.objects.values_list("next_tick", flat=True).get()
    return tick is not None and abs(tick - now) <= timedelta(minutes=11)


def doctor():
    said = io.StringIO()
    try:
        call_command("partisan", "doctor", stdout=said)
    except CommandError as error:
        said.write(str(error))
    return said.getvalue()
