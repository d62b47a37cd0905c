"""Supervisors and forkservers that are killed or stopped, with and without their workers."""

import os
import signal
from contextlib import suppress

import psutil
import pytest

from partisan_async.models import Task
from tests.faults.partisan_tasks import (
    AsyncNap,
    AsyncNapOnce,
    HoldTheGilOnce,
    Nap,
    NapOnce,
    Noop,
    Stay,
)

BY_PROOF_ALONE = {"ttl": 600}
"""Nobody is taken for dead for being silent: what is rescued was proven to be dead."""

LONG = 600
"""Seconds: no test waits for so long."""


def assert_nobody_is_blamed():
    assert not Task.objects.exclude(lost=0).exists()


class TestKilled:
    def test_a_neighbour_takes_over_though_the_lease_has_not_lapsed(self, site):
        """On one host a death can be proven. The workers end by themselves, asleep or not."""
        victim = site.start(**BY_PROOF_ALONE)
        with site.load(rate=20):
            naps = [NapOnce(LONG).delay(), AsyncNapOnce(LONG).delay()]
            for nap in naps:
                site.running(nap)
            site.start(**BY_PROOF_ALONE)
            victim.kill()
            site.wait_until_ended(*naps)
            victim.wait_until_nothing_is_left()

        verdict = site.settle_down()

        assert verdict.duplicates["rescued"] >= 2
        assert_nobody_is_blamed()

    @pytest.mark.parametrize("with_its_session", [False, True])
    def test_one_that_is_started_later_takes_over_at_once(self, site, with_its_session):
        """A crash and a restart on one host: the common case."""
        victim = site.start(**BY_PROOF_ALONE)
        with site.load(rate=20):
            naps = [NapOnce(LONG).delay(), AsyncNapOnce(LONG).delay()]
            for nap in naps:
                site.running(nap)
            if with_its_session:
                os.killpg(victim.pid, signal.SIGKILL)
                victim.wait()
            else:
                victim.kill()
            victim.wait_until_nothing_is_left()
            site.start(**BY_PROOF_ALONE)
            site.wait_until_ended(*naps)

        verdict = site.settle_down()

        assert verdict.duplicates["rescued"] >= 2
        assert_nobody_is_blamed()

    def test_while_it_drains_the_next_one_has_its_tasks(self, site):
        """It has given back what had not started; what still ran is left to others."""
        victim = site.start(**BY_PROOF_ALONE)
        with site.load(rate=20):
            nap = NapOnce(LONG).delay()
            site.running(nap)
            victim.signal(signal.SIGTERM)
            victim.wait_for("stopping: waiting for", seconds=60)
            victim.kill()
            site.start(**BY_PROOF_ALONE)
            site.wait_until_ended(nap)

        site.settle_down()

        nap.refresh_from_db()
        assert (nap.status, nap.claim_seq, nap.tries, nap.lost) == ("finished", 2, 1, 0)

    def test_while_it_starts_it_leaves_nothing(self, site):
        """Its workers have not reported yet, and there is nobody any more to report to."""
        victim = site.start(FAULTS_SLOW_FORK_SECONDS=0.5, wait=False)
        with site.load(rate=20):
            site.wait_until(lambda: workers_of(victim))
            victim.kill()
            victim.wait_until_nothing_is_left()
            site.start()

        verdict = site.settle_down()

        assert not verdict.duplicates

    def test_code_that_holds_the_gil_goes_on_for_a_while_and_is_fenced(self, site):
        """No thread of its process can end it meanwhile; its outcome has nobody to go to."""
        victim = site.start(WORKERS_COUNT=1, **BY_PROOF_ALONE)
        task = HoldTheGilOnce(2 * 10**8).delay()
        site.running(task)
        victim.kill()
        with site.load(rate=20):
            site.start(**BY_PROOF_ALONE)
            site.wait_until_ended(task)
            victim.wait_until_nothing_is_left(seconds=60)

        site.settle_down()

        task.refresh_from_db()
        assert (task.status, task.claim_seq, task.tries, task.lost) == ("finished", 2, 1, 0)

    def test_two_in_turn_again_and_again_lose_nothing(self, site):
        """Each rescuer is the next victim, with what it has rescued."""
        pair = [site.start(), site.start()]
        with site.load(rate=30):
            for _ in range(5):
                nap = Nap(0.5).delay()
                site.running(nap)
                pair.pop(0).kill()
                pair.append(site.start())

        verdict = site.settle_down()

        assert set(verdict.duplicates) == {"rescued"}
        assert_nobody_is_blamed()


class TestStopped:
    @pytest.mark.parametrize("with_workers", [False, True])
    def test_past_its_lease_another_runs_its_tasks_and_its_own_outcomes_are_fenced(
        self, site, tmp_path, with_workers
    ):
        """Stopped it cannot know; going on it finds out, ends what is another's, and works."""
        flag = tmp_path / "enough"
        zombie = site.start(WORKERS_COUNT=3)
        with site.load(rate=20):
            short, long = Nap(0.5).delay(), Stay(str(flag)).delay()
            site.running(short), site.running(long)
            zombie.freeze(with_workers=with_workers)
            rescuer = site.start(WORKERS_COUNT=3)
            site.wait_until_ended(short)
            site.wait_until(lambda: site.running(long).claim_seq == 2)
            zombie.thaw()
            zombie.wait_for("killed: cancelled, or taken over by another", seconds=60)
            if not with_workers:
                zombie.wait_for(f"fenced {short.pk} Nap", seconds=60)
            flag.touch()
            rescuer.stop()
            site.wait_until_ended(short, long)
            site.wait_until_ended(*[Noop(number).delay() for number in range(10)])

        verdict = site.settle_down()

        assert verdict.duplicates["rescued"] >= 2
        if not with_workers:
            assert verdict.kept_out >= 1
        ends = [event for event in site.events(long) if event.kind == "end"]
        assert [event.claim_seq for event in ends] == [2]
        for task in (short, long):
            task.refresh_from_db()
            assert (task.status, task.claim_seq, task.lost) == ("finished", 2, 0)

    def test_what_it_lost_and_then_claimed_again_is_not_touched_by_the_first_run(
        self, site, tmp_path
    ):
        """It holds the row as it did before, and yet the end of its old run is another claim's."""
        flag = tmp_path / "enough"
        zombie = site.start(WORKERS_COUNT=2)
        task = Stay(str(flag)).delay()
        site.running(task)
        zombie.freeze(with_workers=False)
        rescuer = site.start(SHUTDOWN_GRACE_SECONDS=0.1)
        site.wait_until(lambda: site.running(task).claim_seq == 2)
        rescuer.stop()
        zombie.thaw()
        site.wait_until(lambda: site.running(task).claim_seq == 3)
        zombie.wait_for(f"fenced {task.pk} Stay: claim 1", seconds=60)
        flag.touch()

        site.settle_down()

        task.refresh_from_db()
        assert (task.status, task.claim_seq, task.tries, task.lost) == ("finished", 3, 1, 0)

    def test_with_nobody_else_there_it_goes_on_where_it_was(self, site):
        """A lease that lapsed costs nothing as long as nobody took its tasks."""
        supervisor = site.start(ttl=1)
        with site.load(rate=20):
            nap = Nap(1).delay()
            site.running(nap)
            supervisor.freeze(with_workers=False)
            site.wait_until(lambda: is_silent(site, seconds=2))
            supervisor.thaw()
            supervisor.wait_for("lease regained", seconds=60)

        verdict = site.settle_down()

        assert not verdict.duplicates
        assert "fenced" not in supervisor.output


class TestForkserver:
    def test_killed_again_and_again_it_costs_nobody_but_the_runs(self, site):
        """Its workers live on; those that are killed later have successors of the next one's."""
        supervisor = site.start()
        for _ in range(3):
            site.wait_until(lambda: len(supervisor.workers()) == 2, "both workers are there")
            with site.load(rate=20):
                naps = [Nap(2).delay(), AsyncNap(2).delay()]
                for nap in naps:
                    site.running(nap)
                before = {each.pid for each in supervisor.workers()}
                forkserver_of(supervisor, site).kill()
                site.wait_until_ended(*naps)
            site.wait_until_ended()
            assert {each.pid for each in supervisor.workers()} == before
            victim = supervisor.workers()[0]
            victim.kill()
            # Until it is seen to be gone, it counts as one of the two.
            site.wait_until(lambda victim=victim: victim not in supervisor.workers(), "it is gone")

        verdict = site.settle_down()

        assert not verdict.duplicates
        assert not Task.objects.exclude(lost=0, suspect=False).exists()


def is_silent(site, *, seconds):
    return site.execute(
        "SELECT 1 FROM partisan_async_supervisor"
        " WHERE last_seen_at < clock_timestamp() - make_interval(secs => %s)",
        seconds,
    )


def workers_of(supervisor):
    with suppress(ValueError, psutil.NoSuchProcess):  # there is no forkserver yet
        return supervisor.workers()


def forkserver_of(supervisor, site):
    def find():
        with suppress(ValueError):  # it is being replaced
            return supervisor.forkserver()

    return site.wait_until(find, "there is one forkserver")
