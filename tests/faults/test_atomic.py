"""``ATOMIC`` tasks whose workers and supervisors are killed: what they write is there once."""

import random
import signal
import time
from contextlib import suppress

import psutil
import pytest
from django.db import connections

from tests.faults.partisan_tasks import Increment

WAVES = 40
WAVE = 25
INCREMENTS = WAVES * WAVE


def test_a_thousand_increments_under_fire_are_a_thousand(site):
    """In each wave a worker is killed at random, one before its commit, and one between the commit
    and the news of it; once a supervisor, too. Each counts once.
    """
    rng = random.Random(1)
    supervisors = [site.start(WORKERS_COUNT=2) for _ in range(2)]
    untold = []

    def kill_a_worker():
        workers = [each for supervisor in supervisors for each in supervisor.workers()]
        with suppress(psutil.NoSuchProcess):
            if workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                return True
        return False

    for wave in range(WAVES):
        Increment.bulk_delay([Increment(wave, number) for number in range(WAVE - 2)])
        Increment(wave, dies="before the commit").delay()
        untold.append(Increment(wave, dies="after the commit").delay())
        time.sleep(rng.uniform(0, 0.05))
        site.wait_until(kill_a_worker, "a worker is there to be killed")
        if wave == WAVES // 2:
            supervisors.pop(0).kill()
            supervisors.append(site.start(WORKERS_COUNT=2))
        site.wait_until_ended()

    ends = site.execute("SELECT status, count(*) FROM partisan_async_task GROUP BY 1")
    assert ends == [("finished", INCREMENTS)]
    counts = site.execute("SELECT count(*), count(DISTINCT task_id) FROM faults_deposit")
    assert counts == [(INCREMENTS, INCREMENTS)]
    ((again,),) = site.execute("SELECT count(*) FROM partisan_async_task WHERE claim_seq > 1")
    assert again >= WAVES  # those that died before their commit, at the least
    ((once,),) = site.execute(
        "SELECT count(*) FROM partisan_async_task WHERE id = ANY(%s) AND claim_seq = 1",
        [task.pk for task in untold],
    )
    assert once > WAVES / 2  # killed after the commit; the others were hit before it, by chance


@pytest.mark.parametrize("delete", [False, True], ids=["kept", "deleted"])
def test_a_commit_whose_answer_is_lost_is_not_done_again(site, delete):
    """The worker cannot know that it took effect, and gives the run back; the row knows."""
    relay = site.relay()
    url = site.relayed(relay)
    supervisor = site.start(url=url, WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=delete)
    tasks = []
    for wave in range(5):
        before = relay.lost_answers
        relay.lose_answers(1, matching=b"COMMIT")
        tasks.append(Increment(wave).delay())
        site.wait_until(lambda n=before: relay.lost_answers > n, "a COMMIT was not answered")
        supervisor.wait_for(f"cut off {tasks[-1].pk} Increment", seconds=60)
    site.wait_until_ended()
    site.wait_until_ended(Increment(5).delay())

    relay.close()
    counts = site.execute("SELECT count(*), count(DISTINCT task_id) FROM faults_deposit")
    assert counts == [(6, 6)]
    rows = site.execute("SELECT status, claim_seq, interrupted FROM partisan_async_task")
    assert rows == ([] if delete else [("finished", 1, 0)] * 6)
    assert "fenced" not in supervisor.output


def test_runs_whose_sessions_are_ended_run_again_and_count_once(site):
    """By an administrator, and by a crash of the server: none of them ends in error."""
    site.start(WORKERS_COUNT=2)
    for wave in range(6):
        Increment.bulk_delay([Increment(wave, number) for number in range(200)])
        time.sleep(0.1)
        if wave % 3 == 2:
            site.restart()
        else:
            connections["default"].close()
            site.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " application_name = '' AND backend_type = 'client backend'"
            )
    site.wait_until_ended()

    assert site.execute("SELECT status, count(*) FROM partisan_async_task GROUP BY 1") == [
        ("finished", 1200)
    ]
    counts = site.execute("SELECT count(*), count(DISTINCT task_id) FROM faults_deposit")
    assert counts == [(1200, 1200)]
