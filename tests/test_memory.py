"""The memory of a host and its workers: looked at, told on the row, and shown."""

import os
import sys

import psutil
import pytest
from django.db import connection

from partisan_async.models import Supervisor
from partisan_async.operate import overview
from partisan_async.supervisor.workers import forkserver
from tests.conftest import wait_until
from tests.process import partisan
from tests.test_host import live_host
from tests.test_partisan_command import partisan as command

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(sys.platform != "linux", reason="no other system tells"),
]


def known():
    """The supervisors, once each has told of its host and its workers."""
    found = overview.supervisors()
    is_known = [each.memory_bytes and each.workers_bytes for each in found]
    return found if found and all(is_known) else []


class TestLook:
    def test_it_counts_each_process_once_and_what_they_share_in_parts(self):
        with partisan("--async", "--queue_name", "a", "--queue_name", "b", "--workers_count", "2"):
            wait_until(known)

            a, b = known()

        assert a.memory_bytes == b.memory_bytes  # one host
        for each in (a, b):
            assert len(each.workers) == 2
            assert each.workers_bytes == sum(worker.memory_bytes for worker in each.workers)
            for worker in each.workers:
                # A worker that shares nothing is a whole interpreter with Django: some 50 MB.
                assert 1e6 < worker.memory_bytes < 40e6

    def test_of_the_host_it_counts_the_forkserver(self):
        with live_host() as host:
            wait_until(known)
            memory, pids = host.shared.memory, (os.getpid(), forkserver.pid())
            wait_until(lambda: memory.of(forkserver.pid()))
            # What it takes by itself at the least, and at the most what it has in memory.
            for pid in pids:
                assert 5e6 < memory.of(pid) < 2 * psutil.Process(pid).memory_info().rss

            assert memory.of_host() == sum(map(memory.of, pids))

    def test_of_a_process_that_is_gone_nothing_is_known(self):
        with live_host() as host:
            wait_until(known)
            assert host.shared.memory.of(2**22 + 1) is None


@pytest.mark.parametrize("told", ["null", "-1", '"x"', "1.5", "9" * 5000, "{}", "1e400"])
def test_what_cannot_be_read_is_unknown(told):
    """As on the rows of a release before, that tells nothing."""
    workers = f'[{{"pid": 1, "running": 0, "tasks": [], "memory_bytes": {told}}}]'
    with_memory = f'{{"pid": 7, "memory_bytes": {told}}}'
    Supervisor.objects.create(
        id="00000000-0000-0000-0000-00000000000a", hostname="here", process={}, queue_name="q"
    )
    with connection.cursor() as cursor:
        sql = "UPDATE partisan_async_supervisor SET workers = %s, process = %s"
        cursor.execute(sql, [workers, with_memory])

    (state,) = overview.supervisors()

    assert (state.memory_bytes, state.workers_bytes) == (None, None)
    line = next(line for line in command("status").splitlines() if line.startswith("here/7"))
    assert line.rstrip().endswith("1        -")
