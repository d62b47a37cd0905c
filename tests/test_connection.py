"""The running side, when its connections end or its database goes away."""

import contextlib
import socket
import threading
import time

import pytest
from django.db import connection

from partisan_async.embedded import EmbeddedPostgres
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.testapp.partisan_tasks import Sleep, Write

pytestmark = pytest.mark.django_db(transaction=True)


def terminate(purpose):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [f"partisan_async default {purpose}"],
        )
        return cursor.fetchone()[0]


@pytest.mark.parametrize("purpose", ["listen", "work", "beat"])
def test_a_terminated_connection_is_opened_again(purpose):
    """And what was notified meanwhile is found."""
    with live_supervisor():
        Write("before").delay()
        wait_until(ended)
        assert terminate(purpose) == 1
        Write("after").delay()
        wait_until(ended)
        wait_until(lambda: terminate(purpose) == 1)

    assert marks() == ["before", "after"]


def test_the_work_connection_is_renewed_after_so_many_claims():
    """CHECKS_BEFORE_CLEANUP: a server process that grows must not grow for ever."""

    def backend():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s",
                ["partisan_async default work"],
            )
            return cursor.fetchone()

    with live_supervisor(CHECKS_BEFORE_CLEANUP=3, beat_seconds=30):
        Write(0).delay()
        wait_until(ended)
        first = backend()
        for number in range(1, 8):
            Write(number).delay()
            wait_until(ended)

        wait_until(lambda: backend() not in (None, first))


def test_tasks_that_run_while_the_connections_end_are_settled_once():
    with live_supervisor():
        tasks = [Sleep(1, number).delay() for number in range(2)]
        wait_until(lambda: len(marks()) == 2)
        for purpose in ("listen", "work", "beat"):
            terminate(purpose)
        wait_until(ended)

    assert len(marks()) == 4
    for task in tasks:
        task.refresh_from_db()
        assert (task.status, task.tries, task.claim_seq) == ("finished", 1, 1)


class Proxy:
    """A TCP relay that can swallow everything: the connection stands, and nobody answers."""

    def __init__(self, target):
        self.target = target
        self.open = threading.Event()
        self.open.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source, sink):
        try:
            while data := source.recv(65536):
                self.open.wait()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes the thread of the other direction
                end.close()


@pytest.mark.skipif(
    not connection.settings_dict["HOST"].startswith("/"), reason="the relay wants a unix socket"
)
def test_a_black_hole_longer_than_the_lease_is_survived(settings):
    """Calls are bounded; and who finds its claims still its own settles them."""
    wrapper = connection.settings_dict
    proxy = Proxy(f"{wrapper['HOST']}/.s.PGSQL.{wrapper['PORT'] or 5432}")
    host, port = wrapper["HOST"], wrapper["PORT"]
    wrapper["HOST"], wrapper["PORT"] = "127.0.0.1", str(proxy.port)
    try:
        with live_supervisor(beat_seconds=0.3, ttl_seconds=1.5):
            wrapper["HOST"], wrapper["PORT"] = host, port
            connection.close()
            task = Sleep(0.5, "through").delay()
            wait_until(lambda: len(marks()) == 1)
            wrapper["HOST"], wrapper["PORT"] = "127.0.0.1", str(proxy.port)
            proxy.open.clear()
            time.sleep(3)  # the fault itself: nothing is waited for here
            proxy.open.set()
            wait_until(lambda: ended(task))
            Write("after").delay()
            wait_until(ended)
    finally:
        wrapper["HOST"], wrapper["PORT"] = host, port
        proxy.listener.close()

    task.refresh_from_db()
    assert (task.status, task.claim_seq) == ("finished", 1)
    assert "after" in marks()


class TestRestart:
    """On a server of its own, which is stopped and started."""

    def test_tasks_go_on_after_an_immediate_restart(self, own_server):
        server, supervisor, shell = own_server
        shell("for n in range(4): Sleep(0.1, n).delay()")
        supervisor.wait_for(" 4 Sleep in")

        server.restart("immediate")

        shell("Write('after').delay(); AsyncSleep(0.1, 'async').delay()")
        supervisor.wait_for(" Write in")
        supervisor.wait_for(" AsyncSleep in")
        statuses = shell("print(list(Task.objects.values_list('status', flat=True).distinct()))")
        assert statuses == "['finished']"


@pytest.fixture
def own_server():
    import subprocess
    import sys

    from tests.process import environment, partisan

    with EmbeddedPostgres() as server:
        env = environment(DATABASE_URL=server.url)

        def shell(code):
            imports = (
                "import django; django.setup(); from partisan_async.models import Task;"
                "from tests.testapp.partisan_tasks import *\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", imports + code],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.strip()

        shell(
            "from django.core.management import call_command; call_command('migrate', verbosity=0)"
        )
        with partisan("--async", "--workers_count", "1", DATABASE_URL=server.url) as supervisor:
            yield server, supervisor, shell
