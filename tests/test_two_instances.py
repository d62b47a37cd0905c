"""Two instances on one host, restarted in turn by the script and the unit of the how-to.

systemd is a thread of the test: it keeps to what systemd.service(5) says of ``Type=notify`` and
``KillMode=mixed``, and ``systemctl`` asks it.
"""

import configparser
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import suppress

import pytest

from partisan_async.operate import overview
from tests.conftest import ended, marks, wait_until
from tests.process import Partisan
from tests.test_deploy import FILES
from tests.test_docs import check_manage
from tests.test_notify import Manager
from tests.testapp.partisan_tasks import Write

UNITS = ("partisan-all@1", "partisan-all@2")

SYSTEMCTL = """#!{python}
import socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
asked.sendall(" ".join(sys.argv[1:]).encode())
sys.exit(int(asked.recv(1)))
"""

pytestmark = pytest.mark.django_db(transaction=True)


def command(unit):
    """What the unit starts, without the program and the script."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(FILES / "partisan-all.conf")
    _, _, name, *options = shlex.split(parser["Service"]["ExecStart"])
    return name, [word.replace("%i", unit.rpartition("@")[2]) for word in options]


class PlayedSystemd:
    """Runs the units, and answers ``systemctl restart``."""

    def __init__(self, folder):
        self.folder = folder
        self.env = {}
        self.units = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(address := f"/tmp/systemd-{uuid.uuid4().hex}")
        self._server.listen()
        self._address = address
        (folder / "systemctl").write_text(SYSTEMCTL.format(python=sys.executable, address=address))
        (folder / "systemctl").chmod(0o755)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def restart(self, *names):
        """Stop these at once, and start them; return whether all came up."""
        stopped = [self.units.pop(name) for name in names if name in self.units]
        for each in stopped:
            each.signal(signal.SIGTERM)
        for each in stopped:
            each.wait()
            each.end()
        starting = [self._start(name) for name in names]
        came_up = [wait_until_ready() for wait_until_ready in starting]
        return all(came_up)

    def close(self):
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._address)
        self._thread.join()
        self._server.close()
        os.unlink(self._address)
        for each in self.units.values():
            each.end()

    def _start(self, name):
        subcommand, options = command(name)
        address = f"/tmp/partisan-{uuid.uuid4().hex}"
        manager = Manager(address)
        # Its port may be somebody else's on this machine.
        options = [re.sub(r"^910\d$", "0", word) for word in options]

        class Unit(Partisan):
            program = ("-m", "django", subcommand)

        running = self.units[name] = Unit(*options, NOTIFY_SOCKET=address, **self.env)

        def wait_until_ready():
            try:
                while running.process.poll() is None:
                    with suppress(TimeoutError):
                        manager.listen("READY=1", seconds=0.2)
                        return True
                return False
            finally:
                manager.close()
                os.unlink(address)

        return wait_until_ready

    def _serve(self):
        while True:
            asked, _ = self._server.accept()
            with asked:
                words = asked.recv(1000).decode().split()
                if not words:
                    return
                verb, *names = words
                assert verb == "restart"
                asked.sendall(b"0" if self.restart(*names) else b"1")


@pytest.fixture
def systemd(tmp_path):
    systemd = PlayedSystemd(tmp_path)
    try:
        yield systemd
    finally:
        systemd.close()


@pytest.fixture
def served(systemd):
    """Both instances, up."""
    assert systemd.restart(*UNITS), [each.output for each in systemd.units.values()]
    return systemd


def run(systemd, *words):
    """Run the words; return the exit code, whether each queue was served ever, and the tasks."""
    env = os.environ | {"PATH": f"{systemd.folder}:{os.environ['PATH']}"}
    queues = {each.queue_name for each in overview.supervisors()}
    running, moments, tasks = subprocess.Popen(words, env=env), [], []
    while running.poll() is None:
        serving = {each.queue_name for each in overview.supervisors() if each.starts}
        moments.append(queues <= serving)
        tasks.append(Write(str(len(tasks))).delay())
    return running.returncode, all(moments), tasks


class TestInTurn:
    def test_each_queue_is_served_at_any_moment_and_each_task_runs_once(self, served):
        before = {each.id for each in overview.supervisors()}

        code, always, tasks = run(served, str(FILES / "restart-in-turn"), *UNITS)

        assert (code, always) == (0, True)
        assert not before & {each.id for each in overview.supervisors()}
        wait_until(lambda: ended(*tasks))
        written = [text for text in marks() if text.isdigit()]  # a queue has a schedule, too
        assert sorted(written) == sorted(str(number) for number in range(len(tasks)))

    def test_both_at_once_would_leave_a_gap(self, served):
        """So what the other tests see is no accident."""
        code, always, tasks = run(served, "systemctl", "restart", *UNITS)

        assert (code, always) == (0, False)
        wait_until(lambda: ended(*tasks))

    def test_what_does_not_come_up_leaves_the_other_as_it_is(self, served):
        kept = served.units[UNITS[1]]
        served.env["DJANGO_SETTINGS_MODULE"] = "tests.nowhere"

        code, always, tasks = run(served, str(FILES / "restart-in-turn"), *UNITS)

        assert (code, always) == (1, True)
        assert served.units[UNITS[1]] is kept
        wait_until(lambda: ended(*tasks))


class TestFiles:
    def test_the_command_exists(self):
        check_manage(*command(UNITS[0]))

    def test_it_takes_away_what_the_other_unit_starts(self):
        """Two lines with a command would be two commands, which systemd refuses."""
        lines = (FILES / "partisan-all.conf").read_text().splitlines()
        assert [line[:15] for line in lines if line.startswith("ExecStart=")] == [
            "ExecStart=",
            "ExecStart=/srv/",
        ]

    def test_each_instance_has_a_port_of_its_own(self):
        ports = {command(unit)[1][-1] for unit in UNITS}
        assert ports == {"9101", "9102"}
