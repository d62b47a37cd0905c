"""The health port: what it says, when it says so, and that nobody can keep it from saying it."""

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from partisan_async import registry
from partisan_async.supervisor.report import health
from partisan_async.supervisor.report.health import Health
from tests.conftest import DEADLINE_SECONDS, ended, wait_until
from tests.process import ROOT, Partisan, ends_with_tests, environment, partisan

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def get(port, path, method="GET", **headers):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        client.request(method, path, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def port_of(running):
    return int(re.search(r"health: http://127\.0\.0\.1:(\d+) ", running.output)[1])


@asynccontextmanager
async def serving(ailment="", hindrance="", show=None):
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = Health(listening, ailment=lambda: ailment, hindrance=lambda: hindrance, show=show)
    await server.open()
    try:
        yield port
    finally:
        server.close()


async def talk(port, data, *, eof=False):
    """Send these bytes, and return all that comes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


LIVE = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


class TestAnswers:
    async def test_trouble_is_told_with_its_reason(self):
        """``kubectl describe`` shows the text of a probe that failed."""
        async with serving(ailment="stuck", hindrance="starting") as port:
            live, ready = [
                await talk(port, b"GET %s HTTP/1.1\r\n\r\n" % path)
                for path in (b"/live", b"/ready")
            ]

        assert live.startswith(b"HTTP/1.1 503 ")
        assert live.endswith(b"\r\n\r\nstuck\n")
        assert ready.endswith(b"\r\n\r\nstarting\n")

    async def test_a_head_has_no_body(self):
        """Its length is told all the same."""
        async with serving() as port:
            answer = await talk(port, b"HEAD /live?x=1 HTTP/1.0\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 3\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"POST /live HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"405"),
            (b"DELETE /metrics HTTP/1.1\r\n\r\n", b"405"),
            (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
            (b"GET / HTTP/1.1\r\n\r\n", b"404"),
            (b"GET /live\r\n\r\n", b"400"),
            (b"GET  /live HTTP/1.1\r\n\r\n", b"400"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
            (b"\r\n\r\n", b"400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\x00\r\n\r\n", b"400"),
            (b"GET /live HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
            (b"x" * 20_000, b"431"),
            (b"GET /metrics HTTP/1.1\r\n\r\n", b"501"),
        ],
    )
    async def test_anything_else_is_refused(self, request_, status):
        """Hostile bytes are answered, or dropped, and the next probe is served."""
        async with serving() as port:
            answer = await talk(port, request_)

            # What was sent and never read may reset the connection before the answer is seen.
            assert answer.startswith(b"HTTP/1.1 " + status) or (not answer and status == b"431")
            assert (await talk(port, LIVE)).startswith(b"HTTP/1.1 200 OK")

    async def test_a_client_that_hangs_up_in_the_middle_costs_nothing(self):
        """Port scanners do."""
        async with serving() as port:
            assert await talk(port, b"GET /li", eof=True) == b""
            assert (await talk(port, LIVE)).startswith(b"HTTP/1.1 200 OK")


class TestSlow:
    async def test_a_request_that_drips_is_dropped(self, monkeypatch):
        """Each byte keeps no connection alive any longer."""
        monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.3)
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.monotonic()
            try:
                async with asyncio.timeout(10):
                    while not reader.at_eof():
                        writer.write(b"G")
                        await writer.drain()  # it says whether the connection was reset
                        await asyncio.sleep(0.02)
            except ConnectionError:
                pass
            writer.close()

        assert time.monotonic() - began < 10

    async def test_an_answer_that_is_not_read_is_dropped(self, monkeypatch):
        """Else it would stay in memory for as long as the client likes."""
        monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.3)

        async def show(accept):
            return "text/plain", b"x" * 50_000_000

        async with serving(show=show) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            await asyncio.sleep(1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                async with asyncio.timeout(10):
                    await reader.readexactly(50_000_000)
            writer.close()

    async def test_many_that_say_nothing_keep_no_probe_out(self):
        """The oldest makes room for the newest."""
        async with serving() as port:
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]

            answers = [await talk(port, LIVE) for _ in range(3)]

            assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
            gone = sum(reader.at_eof() for reader, _ in idle)
            assert 200 - gone <= health.OPEN_AT_ONCE < 100
            for _, writer in idle:
                writer.close()


@pytest.mark.django_db(transaction=True)
class TestProcess:
    def test_a_supervisor_is_live_from_its_start_and_ready_until_it_stops(self):
        """A rollout waits for the one, and the other must not be restarted while it drains."""
        with partisan("--async", "--health-port", "0") as running:
            port = port_of(running)
            wait_until(lambda: get(port, "/ready") == (200, "ok\n"))
            assert get(port, "/live") == (200, "ok\n")
            nap = registry.get("Sleep")(3, "x").delay()
            running.wait_for("claimed 1")

            running.signal(signal.SIGTERM)
            running.wait_for("stopping: waiting for 1")

            status, said = get(port, "/ready")
            assert status == 503
            assert re.fullmatch(
                rf"stopping since {CLOCK} \(\d+ \w+ ago\), runs 1 task, starts none\n", said
            )
            assert get(port, "/live") == (200, "ok\n")
            assert running.wait() == 0
            assert ended(nap)
            with pytest.raises(ConnectionRefusedError):
                get(port, "/live")

    def test_an_answer_proves_that_the_loop_turns(self):
        """A process that hangs must not look alive because a thread of it answers."""
        with partisan("--async", "--health-port", "0") as running:
            port = port_of(running)
            running.signal(signal.SIGSTOP)
            client = socket.create_connection(("127.0.0.1", port), timeout=1)
            client.sendall(LIVE)

            with pytest.raises(TimeoutError):
                client.recv(1)

            running.signal(signal.SIGCONT)
            client.settimeout(DEADLINE_SECONDS)
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            client.close()

    def test_workers_do_not_hold_the_port(self):
        """After a crash the next supervisor binds it, while orphans still end."""
        with partisan("--async", "--health-port", "0") as running:
            port = port_of(running)
            registry.get("Sleep")(5, "x").delay()
            running.wait_for("claimed 1")
            workers = running.workers()

            running.signal(signal.SIGSTOP)
            inodes = {
                line.split()[9]
                for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
                if int(line.split()[1].split(":")[1], 16) == port and line.split()[3] == "0A"
            }
            for process in [*workers, running.forkserver()]:
                links = [
                    os.readlink(f"/proc/{process.pid}/fd/{number}")
                    for number in os.listdir(f"/proc/{process.pid}/fd")
                ]
                assert not {f"socket:[{inode}]" for inode in inodes} & set(links)
            assert inodes

    def test_a_port_in_use_is_an_error_before_any_work(self):
        """Not after the workers are up, and not a traceback."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            running = Partisan(
                "--async", "--health-port", str(port), DATABASE_URL="postgresql://x:1/x"
            )
            try:
                assert running.wait() == 1
                assert f"Health cannot be told on port {port} of '127.0.0.1'" in running.output
                assert "Address already in use" in running.output
                assert "Traceback" not in running.output
            finally:
                running.end()

    @pytest.mark.parametrize("port", ["-1", "65536", "http", "9.5"])
    def test_a_port_that_cannot_be_exits_with_2(self, port):
        """As the other options do."""
        ended = subprocess.run(
            [sys.executable, "-m", "django", "start_partisan", f"--health-port={port}"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60,
            preexec_fn=ends_with_tests(),
        )  # fmt: skip

        assert ended.returncode == 2
        assert f"'{port}' must be a port, 0 to 65535" in ended.stderr

    def test_hostile_clients_cost_no_task(self):
        """All at once, from all sides, while tasks run."""
        with partisan("--async", "--health-port", "0") as running, ExitStack() as stack:
            port = port_of(running)
            for number in range(300):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall([b"G", b"\x00\xff" * 50, b"GET /live HTTP/1.1\r\n" * 20][number % 3])
            tasks = [registry.get("Nothing")(number).delay() for number in range(20)]

            wait_until(lambda: ended(*tasks))

            assert get(port, "/live")[0] == 200
            assert "stopping" not in running.output
