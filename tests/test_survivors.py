"""What a dead supervisor's worker still runs keeps its slot: for a moment, and no longer."""

import os
import signal
import time
from contextlib import suppress

import pytest

from partisan_async.models import Supervisor, Task
from partisan_async.store import BEAT_SECONDS, TTL_SECONDS
from tests.conftest import wait_until
from tests.limited import limit
from tests.process import partisan
from tests.test_limited_runs import called
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Wait

pytestmark = pytest.mark.django_db(transaction=True)


def rescued(task):
    return Task.objects.get(pk=task.pk).interrupted == 1


@pytest.mark.parametrize("dies", [True, False])
def test_limited_rows_of_a_dead_one_wait_until_its_workers_are_gone(tmp_path, dies):
    """Others are rescued at once. One that hangs is waited for as long as agreed."""
    limit(running_per_key=1)
    path = tmp_path / "go on"
    with partisan("--async", "--workers_count", "2") as doomed:
        plain, limited = Wait(str(path), "plain").delay(), called(Wait, str(path), "limited")
        wait_until(lambda: Mark.objects.count() == 2)
        pids = set(Mark.objects.values_list("pid", flat=True))
        assert len(pids) == 2
        wait_until(lambda: told_of(pids))
        with partisan("--async", "--workers_count", "2") as heir:
            heir.wait_for("listening")
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                killed = time.monotonic()
                doomed.signal(signal.SIGKILL)
                doomed.wait()
                wait_until(lambda: rescued(plain))
                assert not rescued(limited)
                if dies:
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                wait_until(lambda: rescued(limited))
                if time.monotonic() - killed > TTL_SECONDS - BEAT_SECONDS:
                    pytest.skip("The machine is so busy that the lease may have run out.")
            finally:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                path.touch()


def told_of(pids):
    """Tell whether a beat has told of these workers."""
    workers = [each for row in Supervisor.objects.all() for each in row.workers]
    return pids <= {each["pid"] for each in workers if each.get("started")}
