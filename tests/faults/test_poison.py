"""Tasks that take their worker process down, every time."""

import resource
from contextlib import suppress

import psutil
import pytest
from django.db import transaction

from partisan_async.models import Task
from tests.faults.flow import ended_beside
from tests.faults.partisan_tasks import AsyncNapOnce, AsyncPoison, Dose, Hoard, Hog, Noop, Poison

WORDS = {
    "SIGKILL": "was killed by SIGKILL",
    "SIGSEGV": "was killed by SIGSEGV",
    "exit": "exited with code 7",
}
"""How the row tells what ended the worker."""

MIB = 2**20


def assert_ended_with(how, *tasks):
    for task in tasks:
        task.refresh_from_db()
        last = task.errors[-1]
        assert (task.status, task.lost) == ("error", 3)
        assert last["exception_class"] == "partisan_async.exceptions.WorkerLost"
        assert WORDS[how] in last["message"]


def who_is_blamed():
    return set(Task.objects.exclude(lost=0).values_list("pk", flat=True))


@pytest.mark.parametrize("how", list(WORDS))
def test_a_poison_ends_in_error_and_the_queue_flows_on(site, how):
    """Three losses alone are proof; until then it costs the others a worker at a time."""
    site.start(WORKERS_COUNT=2)
    with site.load(rate=30):
        poison = Poison(how).delay()
        site.wait_until_ended(poison)

    site.settle_down()

    assert_ended_with(how, poison)
    assert who_is_blamed() == {poison.pk}
    assert ended_beside(site, poison) > 0


def test_more_poisons_at_once_than_workers_hold_up_nobody_for_good(site):
    """All workers die again and again, and what is harmless still gets through, unblamed."""
    site.start(WORKERS_COUNT=2)
    with site.load(rate=20):
        with transaction.atomic():
            poisons = {how: [Poison(how).delay() for _ in range(2)] for how in WORDS}
        everyone = [poison for some in poisons.values() for poison in some]
        site.wait_until_ended(*everyone)

    site.settle_down()

    for how, some in poisons.items():
        assert_ended_with(how, *some)
    assert who_is_blamed() == {poison.pk for poison in everyone}
    assert sum(ended_beside(site, poison) for poison in everyone) > 0


@pytest.mark.parametrize("how", list(WORDS))
def test_in_a_batch_it_costs_those_behind_it_nothing(site, how):
    """They had not started: they keep their claims, and nobody suspects them."""
    site.start(WORKERS_COUNT=1, MAX_QUEUE_SIZE=50)
    for _ in range(100):
        Dose(None).delay()  # so that they are known to be short
    site.wait_until_ended()
    with transaction.atomic():
        batch = [Dose(how if number in (5, 20) else None).delay() for number in range(40)]

    verdict = site.settle_down()

    assert_ended_with(how, batch[5], batch[20])
    for task in set(batch) - {batch[5], batch[20]}:
        task.refresh_from_db()
        assert (task.status, task.lost, task.claim_seq) == ("finished", 0, 1)
    assert verdict.duplicates == {"worker died alone": 4}


@pytest.mark.parametrize("how", ["SIGKILL", "exit"])
def test_among_async_tasks_it_alone_is_blamed(site, how):
    """The first death proves nothing against anybody: each runs again alone, and then it shows."""
    site.start(WORKERS_COUNT=1)
    naps = [AsyncNapOnce(600).delay() for _ in range(4)]
    for nap in naps:
        site.running(nap)
    poison = AsyncPoison(how, 0.2).delay()

    verdict = site.settle_down()

    assert_ended_with(how, poison)
    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.lost, nap.tries) == ("finished", 0, 1)
    assert verdict.duplicates == {"worker died in company": 5, "worker died alone": 2}


class TestMemory:
    def test_what_takes_more_than_there_is_ends_and_its_worker_lives_on(self, site):
        """Where a limit is set, Python says so in time: it is an error like any other."""
        supervisor = site.start(WORKERS_COUNT=1)
        with site.load(rate=20):
            site.running(Noop().delay())
            (worker,) = supervisor.workers()
            limit = worker.memory_info().vms + 256 * MIB
            worker.rlimit(resource.RLIMIT_AS, (limit, limit))
            hogs = [Hog(512).delay() for _ in range(3)]
            after = Noop("after").delay()
            site.wait_until_ended(*hogs, after)
            assert supervisor.workers() == [worker]

        site.settle_down()

        for hog in hogs:
            hog.refresh_from_db()
            assert (hog.status, hog.tries, hog.lost) == ("error", 1, 0)
            assert hog.errors[-1]["exception_class"] == "builtins.MemoryError"
        assert who_is_blamed() == set()

    def test_whom_the_system_kills_for_it_three_times_is_given_up(self, site):
        """The kernel kills the biggest process and says nothing: here the test does it."""
        supervisor = site.start(WORKERS_COUNT=2)
        with site.load(rate=20):
            hoard = Hoard(128).delay()
            site.wait_until(lambda: kill_big_ones(supervisor) or not site.unfinished(hoard))

        site.settle_down()

        assert_ended_with("SIGKILL", hoard)
        assert who_is_blamed() == {hoard.pk}
        assert ended_beside(site, hoard) > 0


def kill_big_ones(supervisor):
    """Kill the workers that have taken a hoard's memory."""
    for worker in supervisor.family():
        with suppress(psutil.NoSuchProcess):
            if worker.memory_info().rss > 128 * MIB:
                worker.kill()
