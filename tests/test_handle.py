"""Signals reach the process that they are meant for, whoever has its id by now."""

import os
import signal
import subprocess
import sys

import pytest

from partisan_async.testing import live_supervisor
from partisan_async.worker.handle import Handle, descriptor_of
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors of processes")

LAST_PID = "/proc/sys/kernel/ns_last_pid"


def sleeper():
    return subprocess.Popen(["sleep", "600"])


@pytest.fixture
def innocent():
    process = sleeper()
    yield process
    process.kill()
    process.wait()


def successor(pid):
    """Start a process with an id that was another's; ``None``: that cannot be asked for here."""
    for _ in range(50):  # others start processes, too
        try:
            with open(LAST_PID, "w") as last:
                last.write(str(pid - 1))
        except OSError:
            return None
        process = sleeper()
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    return None


def test_a_successor_by_id_is_not_hit():
    """Between the end of a worker and the news of it, its id may be given to any process."""
    first = sleeper()
    handle = Handle(first.pid, descriptor_of(first.pid))
    assert handle.signal(0)
    first.kill()
    first.wait()
    second = successor(first.pid)
    if second is None:
        pytest.skip(f"{LAST_PID} cannot be written")

    try:
        assert not handle.signal(signal.SIGKILL)
        assert second.poll() is None
    finally:
        handle.close()
        second.kill()
        assert second.wait() == -signal.SIGKILL


def test_after_its_end_nothing_is_sent(innocent):
    """The descriptor's number is the next one's that is made."""
    first = sleeper()
    descriptor = descriptor_of(first.pid)
    handle = Handle(first.pid, descriptor)
    first.kill()
    first.wait()
    handle.close()
    handle.close()

    reused = descriptor_of(innocent.pid)
    assert reused == descriptor
    assert not handle.signal(signal.SIGTERM)
    assert innocent.poll() is None
    os.close(reused)


def test_without_descriptors_it_goes_by_the_id(innocent):
    """As on macOS, and where a container forbids them."""
    handle = Handle(innocent.pid, None)

    assert handle.signal(signal.SIGTERM)
    assert innocent.wait() == -signal.SIGTERM
    assert not handle.signal(signal.SIGTERM)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("preload", [True, False], ids=["forked", "cold"])
def test_a_worker_is_signalled_by_its_descriptor(innocent, preload):
    """The forkserver makes it before it can ask for the exit code; a cold one's parent is here."""
    with live_supervisor(WORKERS_COUNT=1, PRELOAD=preload) as supervisor:
        (slot,) = supervisor.parts.dispatcher.pool.slots.usual
        process = slot.process
        process._launch.child._handle._pid = innocent.pid  # as if it had that one's
        process.kill()
        wait_until(lambda: slot.process is not process)
        Write().delay()
        wait_until(ended)

    assert innocent.poll() is None
