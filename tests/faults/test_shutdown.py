"""Supervisors that are told to stop: deploys, the grace time, the second signal."""

import os
import signal

import pytest

from partisan_async.models import Task
from tests.faults.partisan_tasks import (
    AsyncNapOnce,
    AsyncNapUntilStopped,
    Nap,
    NapOnce,
    NapUntilStopped,
    NewInThisRelease,
)
from tests.faults.site import DEADLINE_SECONDS

LONG = 600
"""Seconds: no test waits for so long."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
def test_rolling_restarts_lose_and_duplicate_nothing(site, send):
    """What runs may end, what has not started goes back; the new one is there before."""
    old = site.start()
    with site.load(rate=30):
        for number in SIGNALS * 2:
            new = site.start()
            site.running(Nap(0.5).delay())
            send(old.pid, number)
            assert old.wait(DEADLINE_SECONDS) == 0
            old.wait_until_nothing_is_left()
            old = new

    verdict = site.settle_down()

    assert not verdict.duplicates
    assert not verdict.kept_out
    assert not Task.objects.exclude(lost=0).exists()


def test_what_takes_longer_than_the_grace_time_runs_again_elsewhere(site):
    """It is given back, and no try is counted: it did nothing wrong."""
    old = site.start(SHUTDOWN_GRACE_SECONDS=1)
    with site.load(rate=20):
        naps = [NapOnce(LONG).delay(), AsyncNapOnce(LONG).delay()]
        for nap in naps:
            site.running(nap)
        new = site.start()
        old.stop()
        site.wait_until_ended(*naps)

    verdict = site.settle_down()

    assert "stopping: not done in time, given back: " in old.output
    assert "rescued" not in new.output
    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.claim_seq, nap.tries, nap.lost) == ("finished", 2, 1, 0)
    assert set(verdict.duplicates) == {"given back"}


def test_what_makes_way_goes_on_elsewhere_and_nothing_is_counted(site):
    """It may never postpone itself, and is no duplicate: the run has ended by itself."""
    old = site.start(SHUTDOWN_GRACE_SECONDS=LONG)
    with site.load(rate=20):
        naps = [
            NapUntilStopped().delay(),
            *AsyncNapUntilStopped.bulk_delay(map(AsyncNapUntilStopped, range(3))),
        ]
        for nap in naps:
            site.running(nap)
        site.start()
        old.stop()
        site.wait_until_ended(*naps)

    verdict = site.settle_down()

    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.claim_seq, nap.tries, nap.postpones) == ("finished", 2, 1, 0)
        assert nap.stops is None
    assert not verdict.duplicates


def test_without_a_grace_time_it_waits_for_as_long_as_it_takes(site):
    """``None``, as the queue's own value: the flat one, which is shorter, does not count."""
    queue = {"default": {"SHUTDOWN_GRACE_SECONDS": None}}
    old = site.start(SHUTDOWN_GRACE_SECONDS=0.5, PARTISAN_CONFIG=queue)
    with site.load(rate=20):
        nap = Nap(3).delay()
        site.running(nap)
        site.start()
        old.stop()

    verdict = site.settle_down()

    nap.refresh_from_db()
    assert (nap.status, nap.claim_seq) == ("finished", 1)
    assert not verdict.duplicates


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
def test_a_second_signal_ends_it_at_once(site, send):
    """It would wait for ever; what runs is given back."""
    old = site.start(SHUTDOWN_GRACE_SECONDS=None)
    with site.load(rate=20):
        naps = [NapOnce(LONG).delay(), AsyncNapOnce(LONG).delay()]
        for nap in naps:
            site.running(nap)
        send(old.pid, signal.SIGTERM)
        old.wait_for("stopping: waiting for", seconds=DEADLINE_SECONDS)
        send(old.pid, signal.SIGTERM)
        assert old.wait(DEADLINE_SECONDS) == 0
        old.wait_until_nothing_is_left()
        site.start()
        site.wait_until_ended(*naps)

    verdict = site.settle_down()

    for nap in naps:
        nap.refresh_from_db()
        assert (nap.status, nap.claim_seq, nap.tries, nap.lost) == ("finished", 2, 1, 0)
    assert set(verdict.duplicates) == {"given back"}


def test_old_code_leaves_a_new_releases_tasks_for_new_code(site):
    """It puts them off, and they pay for it neither with a try nor with a postpone."""
    old = site.start(FAULTS_OLD_RELEASE=True)
    with site.load(rate=20):
        tasks = [NewInThisRelease(number).delay() for number in range(20)]
        site.wait_until(lambda: put_off(tasks) == 20)
        site.start()
        site.wait_until(lambda: hurry(site) and not site.unfinished(*tasks))
        old.stop()

    verdict = site.settle_down()

    for task in tasks:
        task.refresh_from_db()
        assert (task.status, task.tries, task.postpones, task.lost) == ("finished", 1, 0, 0)
        assert task.errors == []
    assert not verdict.duplicates


def put_off(tasks):
    pks = [task.pk for task in tasks]
    return Task.objects.filter(pk__in=pks, status="scheduled", unrecognised__gt=0).count()


def hurry(site):
    """Have the minute be over that each of them was put off by."""
    site.execute(
        "UPDATE partisan_async_task SET execute_after = now()"
        " WHERE status = 'scheduled' AND unrecognised > 0 AND execute_after > now()"
    )
    return True
