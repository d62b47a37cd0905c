"""A worker that ends in order ends as Python does."""

import asyncio
import math
import os
import signal
import uuid
from contextlib import suppress

import pytest

from partisan_async.claim import Claim
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.parts import resolved_databases
from partisan_async.supervisor.workers.launch import WorkerStartError
from partisan_async.supervisor.workers.process import WorkerProcess
from partisan_async.testing import live_supervisor
from partisan_async.worker.setup import Setup
from tests.conftest import DEADLINE_SECONDS, ended, marks, wait_until
from tests.home import told
from tests.process import ROOT, partisan
from tests.testapp.partisan_tasks import Sleep, Write

pytestmark = pytest.mark.django_db(transaction=True)

APPS = r"""
import atexit, logging, logging.handlers, os, tempfile, time
from pathlib import Path

from django.apps import AppConfig

FOLDER = Path(__file__).parents[1]
KEPT = tempfile.TemporaryDirectory(dir=FOLDER, prefix="kept")

handler = logging.handlers.MemoryHandler(
    1000, flushLevel=logging.CRITICAL, target=logging.FileHandler(FOLDER / "log")
)
logging.getLogger("shop").addHandler(handler)
logging.getLogger("shop").setLevel(logging.INFO)


def note(what):
    with (FOLDER / what).open("a") as file:
        file.write(f"{os.getpid()}\n")


IS_WORKER = False


def late():
    if not IS_WORKER:
        return
    time.sleep(float(os.environ.get("LATE", "0")))
    note("atexit")


atexit.register(late)


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from partisan_async import signals

        signals.worker_started.connect(started)
        signals.worker_started.connect(broken)
        signals.worker_stopping.connect(broken)
        signals.worker_stopping.connect(stopping)
        signals.task_started.connect(begins)


def broken(**kwargs):
    raise ValueError("on purpose")


def started(sender, **kwargs):
    global IS_WORKER
    IS_WORKER = True
    assert sender is None
    atexit.register(note, "atexit after the fork")
    note("started")


def stopping(sender, **kwargs):
    assert sender is None
    note("stopping")
    note("kept" if Path(KEPT.name).exists() else "kept is gone")


def begins(task, **kwargs):
    note("task")
    logging.getLogger("shop").info("task %s", task.pk)
"""

SETTINGS = """
import os
from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "shop.apps.ShopConfig"]
TASKS_PER_WORKER_INSTANCE = 2
WORKERS_COUNT = int(os.environ.get("WORKERS", "1"))
"""


@pytest.fixture
def shop(tmp_path):
    """A project that has something to do at the end of each process."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "apps.py").write_text(APPS)
    (tmp_path / "ending_settings.py").write_text(SETTINGS)
    return tmp_path


def lines(path):
    return path.read_text().split("\n")[:-1] if path.exists() else []


def start(shop, **env):
    path = {"PYTHONPATH": f"{ROOT}:{shop}", "DJANGO_SETTINGS_MODULE": "ending_settings"}
    return partisan("--async", **path, **env)


def run_three(supervisor):
    """Two in a worker that is spent after them, one in its successor."""
    tasks = [Write(number).delay() for number in range(3)]
    wait_until(lambda: ended(*tasks))
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 0


def test_what_is_registered_runs_whether_a_worker_is_spent_or_stopped(shop):
    """Log lines that a handler keeps, and an error tracker's events, are sent then."""
    with start(shop) as supervisor:
        run_three(supervisor)

    workers = set(lines(shop / "started"))
    ran = set(lines(shop / "task"))
    assert len(ran) == 2
    assert ran <= workers
    assert set(lines(shop / "atexit")) == workers
    assert set(lines(shop / "atexit after the fork")) == workers
    assert lines(shop / "stopping") == list(dict.fromkeys(lines(shop / "stopping")))
    assert set(lines(shop / "stopping")) == workers
    assert len(lines(shop / "log")) == 3


def test_what_a_receiver_raises_is_logged_and_changes_nothing(shop):
    """The others are told all the same."""
    with start(shop) as supervisor:
        run_three(supervisor)
        assert "receiver failed: broken of worker_started" in supervisor.output
        assert "receiver failed: broken of worker_stopping" in supervisor.output
        assert "ValueError: on purpose" in supervisor.output


def test_what_was_made_before_the_fork_is_cleared_away_once(shop):
    """A temporary directory is the next worker's, too."""
    with start(shop) as supervisor:
        run_three(supervisor)
        supervisor.wait_until_nothing_is_left()

    assert lines(shop / "kept")
    assert not (shop / "kept is gone").exists()
    assert not list(shop.glob("kept*/"))


def test_workers_of_a_supervisor_that_was_killed_end_at_once(shop):
    """Nobody could settle what runs, and another supervisor runs it again."""
    with start(shop, WORKERS="4") as supervisor:
        Sleep(600, "it").delay()
        wait_until(lambda: marks() == ["start it"])
        wait_until(lambda: len(lines(shop / "started")) == 4)

        supervisor.signal(signal.SIGKILL)
        supervisor.wait()
        supervisor.wait_until_nothing_is_left()

    assert not lines(shop / "stopping")
    assert not lines(shop / "atexit")


END_OF_FEED = """
import os, socket
from partisan_async.worker import main, wire

def code_of(word):
    feed, supervisors = socket.socketpair()
    supervisors.sendall(word)
    supervisors.close()
    if not (pid := os.fork()):
        another = main.Worker.__new__(main.Worker)
        another.feed = feed
        another._run_all()
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

answer = [code_of(wire.END), code_of(wire.END[:-1]), code_of(b"")]
"""


def test_a_worker_ends_in_order_where_it_is_told_to_alone():
    """Its feed ends first, before its link, where a supervisor is killed: or the other way."""
    with live_supervisor(WORKERS_COUNT=1):
        assert told(END_OF_FEED) == [7, 1, 1]


class Nobody:
    """Listens to a worker process, and does nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def setup_of(**settings):
    """Return what a worker process is started with, by these settings of its queue."""
    return Setup(resolved_databases(), False, uuid.uuid4(), QueueSettings(**settings))


def assert_ended(process, code):
    assert process._exiting.result() == code
    assert not process._signal(0)


@pytest.mark.parametrize("preload", [True, False])
def test_one_that_is_closed_twice_ends_once(preload):
    """As where its slot is replaced while the supervisor stops; its exit code is read once."""
    setup = setup_of(PRELOAD=preload)

    async def close_twice():
        process = WorkerProcess(math.inf, setup, Nobody())
        await process.start()
        await asyncio.gather(process.close(), process.close())
        await process.close()
        return process

    process = asyncio.run(close_twice())

    assert_ended(process, 0)


@pytest.mark.parametrize("preload", [True, False])
def test_one_that_is_closed_while_it_starts_is_killed(preload):
    """It may be far from the moment at which it could see that nobody waits for it any more."""
    setup = setup_of(PRELOAD=preload)

    async def close_early():
        process = WorkerProcess(math.inf, setup, Nobody())
        starting = asyncio.ensure_future(process.start())
        await asyncio.sleep(0)
        while process._feed._transport is None:
            await asyncio.sleep(0)
        assert process.pid is None
        await process.close()
        with suppress(WorkerStartError):
            await starting
        return process

    process = asyncio.run(close_early())

    assert_ended(process, -signal.SIGKILL)


async def until(is_so):
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


class Heard(Nobody):
    """Keeps what a worker process tells of its tasks."""

    def __init__(self):
        self.ended, self.interrupted = [], []

    def on_ended(self, claim, *_):
        self.ended.append(claim.id)

    def on_interrupted(self, claim, *_):
        self.interrupted.append(claim.id)


@pytest.mark.parametrize(("is_killed", "blamed"), [(True, []), (False, [1, 2])])
def test_one_that_has_lost_its_feed_and_is_killed_then_blames_no_task(is_killed, blamed):
    """A task may have closed the feed; the cancel of another has the process killed meanwhile."""
    setup = setup_of()

    async def lose_the_feed():
        heard = Heard()
        process = WorkerProcess(math.inf, setup, heard)
        await process.start()
        arguments = ('{"args":[60,"a"],"kwargs":{}}', '{"args":[60,"b"],"kwargs":{}}')
        claims = [
            Claim(number, 1, "default", "AsyncSleep", text, 10, 0, 0, 0, False, 0, 0, 0.0)
            for number, text in enumerate(arguments, start=1)
        ]
        now = asyncio.get_running_loop().time()
        process.dispatch(claims, now, is_async=True, alone=False, short=False)
        await until(lambda: all(run.started_at for run in process.load.runs.values()))
        os.kill(process.pid, signal.SIGSTOP)  # it would see that, and end by itself
        process._feed.hang_up()
        await until(lambda: process.life.is_gone)
        ending = asyncio.ensure_future(process.conclude())
        await asyncio.sleep(0)
        if is_killed:
            process.kill()
        else:
            os.kill(process.pid, signal.SIGKILL)
        await ending
        return heard

    heard = asyncio.run(lose_the_feed())

    assert heard.ended == blamed
    assert heard.interrupted == [number for number in (1, 2) if number not in blamed]


def test_it_may_take_a_while(shop):
    """To send what was kept takes time, on a busy machine above all."""
    with start(shop, LATE="3") as supervisor:
        run_three(supervisor)

    assert set(lines(shop / "atexit")) == set(lines(shop / "started"))


def test_it_may_not_take_for_ever(shop):
    """A worker that does not end would keep its supervisor."""
    with start(shop, LATE="600") as supervisor:
        run_three(supervisor)
        assert "took too long" in supervisor.output

    assert not (shop / "atexit").exists()
