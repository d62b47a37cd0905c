"""What a service manager is told: by a socket of ours, as systemd's."""

import os
import signal
import socket
import time
import uuid

import pytest

from partisan_async import registry
from partisan_async.supervisor.report.service_manager import ServiceManager
from tests.conftest import DEADLINE_SECONDS, marks
from tests.process import partisan


class Manager:
    """Hears what is said to it."""

    def __init__(self, address):
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)

    def listen(self, until, *, seconds=DEADLINE_SECONDS):
        """Return all that it heard until a datagram holds this line."""
        deadline = time.monotonic() + seconds
        while not any(until in lines for lines in self.heard):
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.heard.append(self._socket.recv(4096).decode().splitlines())
        heard, self.heard = self.heard, []
        return heard

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    name = uuid.uuid4().hex
    return f"@partisan-{name}" if request.param == "abstract" else f"/tmp/partisan-{name}"


@pytest.fixture
def manager(address):
    manager = Manager(address)
    yield manager
    manager.close()
    if address[0] == "/":
        os.unlink(address)


class TestServiceManager:
    def test_it_is_told_at_its_address(self, manager, address, monkeypatch):
        """Abstract names are how containers of systemd's have it."""
        monkeypatch.setenv("NOTIFY_SOCKET", address)

        ServiceManager().tell("READY=1", "STATUS=up")

        assert manager.listen("READY=1") == [["READY=1", "STATUS=up"]]

    def test_what_is_started_later_does_not_know_the_address(self, monkeypatch):
        """A command that a task starts would speak for the supervisor."""
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            monkeypatch.setenv(name, "1")

        ServiceManager()

        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)

    @pytest.mark.parametrize("where", ["", "/nowhere/at/all", "@nobody", "x" * 500])
    def test_where_nobody_listens_nothing_happens(self, monkeypatch, where):
        """Most supervisors are started by nobody who asks."""
        monkeypatch.setenv("NOTIFY_SOCKET", where)

        ServiceManager().tell("READY=1")


@pytest.mark.django_db(transaction=True)
class TestSupervisor:
    def test_it_says_when_it_is_up_that_it_lives_and_when_it_stops(self, manager, address):
        """systemctl waits for the first, the watchdog for the second; the third starts its time."""
        with partisan("--async", NOTIFY_SOCKET=address, WATCHDOG_USEC="30000000") as running:
            heard = manager.listen("READY=1")
            # From the first beat on, while the workers start.
            assert all(lines[0] in ("READY=1", "WATCHDOG=1") for lines in heard)
            assert heard[-1][1] == "STATUS=queue 'default': ready; 0 of 2 workers busy"
            registry.get("Sleep")(12, "x").delay()
            running.wait_for("claimed 1")
            manager.listen("STATUS=queue 'default': ready; 1 of 2 workers busy")

            running.signal(signal.SIGTERM)
            manager.listen("STOPPING=1")
            # It is alive while it waits for the task.
            heard = manager.listen("WATCHDOG=1")

            (status,) = (line for line in heard[-1] if line.startswith("STATUS="))
            assert status.startswith("STATUS=queue 'default': stopping since ")
            assert status.endswith(", runs 1 task, starts none; 1 of 2 workers busy")
            assert running.wait() == 0
            assert marks() == ["start x", "end x"]

    def test_workers_are_not_told_where_it_listens(self, manager, address):
        """Nor what tasks start: systemd-notify in a script would end the wait for READY."""
        with partisan("--async", NOTIFY_SOCKET=address) as running:
            manager.listen("READY=1")
            for process in [running.forkserver(), *running.workers()]:
                assert "NOTIFY_SOCKET" not in process.environ()
