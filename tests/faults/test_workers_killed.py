"""Worker processes that die: killed from outside, or by the task that they run."""

import os
import signal
from contextlib import suppress

import psutil
import pytest
from django.db import transaction

from partisan_async.models import Task
from tests.faults.partisan_tasks import (
    AsyncNap,
    AsyncNapOnce,
    AsyncStay,
    Nap,
    NapOnce,
    Noop,
    Stay,
    Trip,
    TripAndStumble,
)

HOW_IT_DIES = [
    ("SIGKILL", "killed by SIGKILL"),
    ("SIGSEGV", "killed by SIGSEGV"),
    ("exit", "exited with code 7"),
]

ASYNC_CONCURRENCY = 10
"""So many tasks at most are lost beside another, where nothing else is set."""


def test_under_load_it_costs_nobody_a_task(site):
    """Three in a row, each in the middle of a task: its slot works again, and the load flows."""
    site.start(WORKERS_COUNT=2)
    with site.load(rate=30):
        for _ in range(3):
            nap = Nap(1).delay()
            os.kill(site.running(nap).pid, signal.SIGKILL)
            site.wait_until_ended(nap)

    verdict = site.settle_down()

    assert verdict.duplicates.total() >= 3


def test_under_load_its_task_runs_again_whatever_ended_it(site):
    """The row tells what it was, and counts one loss where the task was alone in it."""
    site.start(WORKERS_COUNT=2)
    with site.load(rate=20):
        trips = [(Trip(how).delay(), words) for how, words in HOW_IT_DIES * 3]
        site.wait_until_ended(*(trip for trip, _ in trips))

    verdict = site.settle_down()

    for trip, words in trips:
        trip.refresh_from_db()
        assert (trip.status, trip.lost, trip.tries) == ("finished", 1, 1)
        assert words in trip.errors[-1]["message"]
    assert Task.objects.exclude(lost=0).count() == 9
    assert verdict.duplicates["worker died alone"] == 9


@pytest.mark.parametrize(("how", "words"), HOW_IT_DIES)
def test_in_mid_batch_only_the_task_that_ran_is_run_again(site, how, words):
    """Those behind it had not started: they keep their claim, and nobody suspects them."""
    supervisor = site.start(WORKERS_COUNT=1, MAX_QUEUE_SIZE=50)
    for _ in range(100):
        Trip(None).delay()  # so that they are known to be short
    site.wait_until_ended()
    with transaction.atomic():
        batch = [Trip(how if number == 5 else None).delay() for number in range(40)]

    verdict = site.settle_down()

    assert words in supervisor.output
    for task in batch:
        task.refresh_from_db()
        killed = task is batch[5]
        assert (task.status, task.lost, task.claim_seq) == ("finished", killed, 1 + killed)
    ran = [site.events(task)[0].process for task in (batch[4], batch[5], batch[6])]
    assert ran[0] == ran[1] != ran[2]
    assert verdict.duplicates == {"worker died alone": 1}


def test_tasks_side_by_side_on_its_event_loop_are_not_blamed(site):
    """In company nobody can tell who did it: each runs again, alone, and then to its end."""
    site.start(WORKERS_COUNT=1)
    naps = [AsyncNapOnce(600).delay() for _ in range(4)]
    pids = {site.running(nap).pid for nap in naps}

    os.kill(pids.pop(), signal.SIGKILL)
    verdict = site.settle_down()

    assert verdict.duplicates == {"worker died in company": 4}
    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.lost, nap.tries) == ("finished", 0, 1)


def test_under_load_tasks_of_all_kinds_beside_it_end_unblamed(site):
    """Async ones on its event loop, and a sync one that kept them company."""
    site.start(WORKERS_COUNT=1)
    with site.load(rate=20):
        naps = [AsyncNapOnce(600).delay() for _ in range(4)]
        for nap in naps:
            site.running(nap)
        naps.append(NapOnce(600).delay())
        os.kill(site.running(naps[-1]).pid, signal.SIGKILL)
        site.wait_until_ended(*naps)

    verdict = site.settle_down()

    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.lost, nap.tries) == ("finished", 0, 1)
    assert verdict.duplicates["worker died in company"] >= 5
    assert not Task.objects.exclude(lost=0).exists()


def test_under_load_the_old_and_the_new_of_those_that_are_replaced_for_their_age(site):
    """A worker that has run its count of tasks ends its last ones beside its successor."""
    supervisor = site.start(WORKERS_COUNT=2, TASKS_PER_WORKER_INSTANCE=4)
    with site.load(rate=20):
        for _ in range(3):
            nap = AsyncNapOnce(600).delay()
            site.running(nap)
            for worker in supervisor.workers():
                with suppress(psutil.NoSuchProcess):  # an old one may have ended meanwhile
                    worker.kill()
            site.wait_until_ended(nap)

    verdict = site.settle_down()

    assert verdict.duplicates.total() >= 3


def test_idle_ones_are_replaced_and_nobody_is_suspected(site):
    """There was no task in them."""
    supervisor = site.start(WORKERS_COUNT=2)
    with site.load(rate=20):
        site.wait_until_ended(*[Noop(number).delay() for number in range(10)])
    site.wait_until_ended()
    idle = supervisor.workers()
    for worker in idle:
        worker.kill()
    after = [Noop(number, "after").delay() for number in range(10)]

    verdict = site.settle_down()

    assert {event.pid for event in site.events(*after)}.isdisjoint(worker.pid for worker in idle)
    assert not verdict.duplicates
    assert not Task.objects.exclude(lost=0, suspect=False).exists()


class TestSuspectsComeBack:
    """What once took a worker down runs alone, also when it is retried."""

    def test_one_gets_a_worker_though_another_is_taken_for_long(self, site, tmp_path):
        """On one worker something runs for hours, and on the other async tasks come and go."""
        flag = tmp_path / "enough"
        site.start(WORKERS_COUNT=2)
        stay = Stay(str(flag)).delay()
        site.running(stay)
        with site.load(rate=20, mix=[(1, lambda rng: AsyncNap(0.8))]):
            suspect = TripAndStumble().delay()
            site.wait_until_ended(suspect, seconds=30)
            still_running = site.unfinished(stay)
        flag.touch()

        site.settle_down()

        suspect.refresh_from_db()
        assert (suspect.status, suspect.lost, suspect.tries) == ("finished", 1, 2)
        assert still_running

    def test_one_that_finds_no_empty_worker_is_left_to_another_supervisor(self, site, tmp_path):
        """It is not held for hours, until one is empty, while workers elsewhere idle."""
        flag = tmp_path / "enough"
        first = site.start(WORKERS_COUNT=1)
        suspect = TripAndStumble().delay()
        first.wait_for(f"retried {suspect.pk} TripAndStumble", seconds=60)
        stay = AsyncStay(str(flag)).delay()
        site.running(stay)
        claimed = f"claimed 1: {suspect.pk} TripAndStumble"
        site.wait_until(lambda: first.output.count(claimed) == 3, claimed)
        site.start(WORKERS_COUNT=1)
        site.wait_until_ended(suspect, seconds=30)
        still_running = site.unfinished(stay)
        flag.touch()

        site.settle_down()

        assert still_running


class TestStarting:
    """A worker that has not reported yet is slow to do so here, so that it can be hit."""

    def test_at_the_supervisors_start_another_is_started(self, site):
        """It says so, and comes up."""
        supervisor = site.start(WORKERS_COUNT=1, FAULTS_SLOW_FORK_SECONDS=0.5, wait=False)
        next_worker(supervisor, site).kill()
        with site.load(rate=20):
            supervisor.wait_for("started: queue", seconds=60)

        verdict = site.settle_down()

        assert "A worker process ended before it reported. Trying again." in supervisor.output
        assert not verdict.duplicates

    def test_of_those_that_take_a_dead_ones_place_too(self, site):
        """The task that was with the first runs once it is up, blamed for that one alone."""
        supervisor = site.start(WORKERS_COUNT=1, FAULTS_SLOW_FORK_SECONDS=0.5)
        with site.load(rate=20):
            nap = NapOnce(600).delay()
            pid = site.running(nap).pid
            os.kill(pid, signal.SIGKILL)
            for _ in range(2):
                worker = next_worker(supervisor, site, after=pid)
                worker.kill()
                pid = worker.pid
            site.wait_until_ended(nap)

        verdict = site.settle_down()

        assert supervisor.output.count("Trying again.") == 2
        assert not Task.objects.filter(lost__gt=1).exists()
        assert verdict.duplicates.total() <= 1 + ASYNC_CONCURRENCY

    def test_a_forkserver_that_dies_meanwhile_is_replaced_too(self, site):
        """The worker comes up an orphan, and runs what waits."""
        supervisor = site.start(WORKERS_COUNT=1, FAULTS_SLOW_FORK_SECONDS=0.5)
        with site.load(rate=20):
            nap = NapOnce(600).delay()
            pid = site.running(nap).pid
            forkserver = supervisor.forkserver()
            os.kill(pid, signal.SIGKILL)
            next_worker(supervisor, site, after=pid)
            forkserver.kill()
            site.wait_until_ended(nap)

        verdict = site.settle_down()

        assert not Task.objects.filter(lost__gt=1).exists()
        assert verdict.duplicates.total() <= 1 + ASYNC_CONCURRENCY


def next_worker(supervisor, site, *, after=None):
    """Wait for a worker that has not reported yet, and return it."""

    def find():
        with suppress(ValueError, psutil.NoSuchProcess):  # there is no forkserver yet
            workers = supervisor.workers()
            return [each for each in workers if each.pid != after and each.status() != "zombie"]

    found = site.wait_until(find, "a worker is being started")
    assert len(found) == 1, f"{found}\n{supervisor.output}"
    return found[0]
