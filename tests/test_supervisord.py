"""The configuration for supervisord, by the real one: started, stopped in order, restarted."""

import configparser
import shlex
import signal
import subprocess
import sys

import psutil
import pytest

from partisan_async.settings import QueueSettings
from partisan_async.supervisor import supervisor
from tests.conftest import ended, marks, wait_until
from tests.process import ROOT, environment
from tests.test_docs import check_manage
from tests.testapp.partisan_tasks import RunCommand, Sleep, Write

FILE = ROOT / "docs" / "howto" / "files" / "supervisord.conf"
NAME = "partisan-default"


def section():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(FILE)
    return parser[f"program:{NAME}"]


def test_its_command_exists_and_it_leaves_the_time_that_a_stop_takes():
    """By default supervisord kills after 10 seconds, and gives up after three starts."""
    program, script, name, *options = shlex.split(section()["command"])

    assert (program[-11:], script, name) == ("/bin/python", "manage.py", "start_partisan")
    check_manage(name, options)
    stop_seconds = QueueSettings().SHUTDOWN_GRACE_SECONDS + supervisor.CLOSING_SECONDS
    assert int(section()["stopwaitsecs"]) > stop_seconds
    assert (section()["stopasgroup"], section()["autorestart"]) == ("false", "true")
    assert int(section()["startretries"]) > 1000


@pytest.mark.django_db(transaction=True)
class TestReal:
    @pytest.fixture
    def control(self, tmp_path):
        """What runs supervisorctl, beside a supervisord with the page's file."""
        pytest.importorskip("supervisor")
        path = tmp_path / "supervisord.conf"
        socket = tmp_path / "socket"
        text = FILE.read_text()
        for theirs, ours in (
            ("/srv/mysite/.venv/bin/python manage.py", f"{sys.executable} -m django"),
            ("directory=/srv/mysite", f"directory={ROOT}"),
            ("user=mysite\n", ""),
            ("mysite.settings", "tests.settings"),
            ("/var/log/mysite", str(tmp_path)),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        path.write_text(
            f"[supervisord]\nnodaemon=true\nsilent=true\nlogfile={tmp_path}/log\n"
            f"pidfile={tmp_path}/pid\n[unix_http_server]\nfile={socket}\n"
            f"[supervisorctl]\nserverurl=unix://{socket}\n[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"{text}"
        )
        running = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", path],
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def control(*words):
            command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", path, *words]
            done = subprocess.run(command, capture_output=True, text=True, env=environment())
            return done.stdout

        control.process = psutil.Process(running.pid)
        control.log = tmp_path / f"{NAME}.log"
        try:
            yield control
        finally:
            family = control.process.children(recursive=True) if running.poll() is None else []
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
            for process in family:
                if process.is_running():
                    process.kill()

    def starts(self, control):
        log = control.log
        return log.read_text().count("started: queue") if log.exists() else 0

    def test_a_stop_lets_tasks_end_with_what_they_started(self, control):
        wait_until(lambda: self.starts(control))
        task, command = Sleep(2, "long").delay(), RunCommand("sleep 2").delay()
        wait_until(lambda: {"start long", "start sleep 2"} <= {*marks()})

        told = control("stop", NAME)

        assert "stopped" in told
        assert ended(task, command)
        for each in (task, command):
            each.refresh_from_db()
            assert each.status == "finished", each.errors
        assert control.process.children(recursive=True) == []

    def test_a_drained_one_is_started_again(self, control):
        """``autorestart=unexpected``, the default, would take its exit code for the end."""
        wait_until(lambda: self.starts(control))
        (first,) = control.process.children()
        first.send_signal(signal.SIGTERM)

        wait_until(lambda: self.starts(control) > 1)

        task = Write().delay()
        wait_until(lambda: ended(task))
