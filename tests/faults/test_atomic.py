"""``ATOMIC`` tasks whose workers and supervisors are killed: what they write is there once."""

import random
import signal
from contextlib import suppress

import psutil

from tests.faults.partisan_tasks import Increment

INCREMENTS = 1000


def test_a_thousand_increments_under_fire_are_a_thousand(site):
    """Killed at random, also between the commit and the news of it: each counts once."""
    rng = random.Random(1)
    supervisors = [site.start(WORKERS_COUNT=2) for _ in range(2)]
    kills = 0
    Increment.bulk_delay([Increment(number) for number in range(INCREMENTS)])

    def all_ended():
        nonlocal kills
        unfinished = site.unfinished()
        # Each time some have ended since: the same one killed for the third time would be an error.
        if INCREMENTS - unfinished < (kills + 1) * 20:
            return not unfinished
        with suppress(psutil.NoSuchProcess):
            workers = [each for supervisor in supervisors for each in supervisor.workers()]
            if workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                kills += 1
                if kills == 20:
                    supervisors.pop(0).kill()
                    supervisors.append(site.start(WORKERS_COUNT=2))
        return not unfinished

    site.wait_until(all_ended, "all have ended")

    assert kills >= 40
    ends = site.execute("SELECT status, count(*) FROM partisan_async_task GROUP BY 1")
    assert ends == [("finished", INCREMENTS)]
    counts = site.execute("SELECT count(*), count(DISTINCT task_id) FROM faults_deposit")
    assert counts == [(INCREMENTS, INCREMENTS)]
    ((again,),) = site.execute("SELECT count(*) FROM partisan_async_task WHERE claim_seq > 1")
    assert again > 10
