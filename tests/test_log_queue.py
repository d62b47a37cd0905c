"""Handlers that block: who logs goes on, and the process can end."""

import gc
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest
from django.db import transaction

from partisan_async.context import CurrentTask, TaskFilter, current_task
from partisan_async.models import Supervisor, Task
from partisan_async.supervisor import log_queue, stuck
from partisan_async.supervisor.log_queue import handlers_behind_a_queue
from tests.conftest import DEADLINE_SECONDS, ended, marks, wait_until
from tests.process import ROOT, Partisan, ends_with_tests, partisan
from tests.test_health import get, port_of
from tests.testapp.partisan_tasks import Die, Print, Sleep, Write


class Beating(Partisan):
    """It beats twice a second, and is given up after three."""

    program = ("-m", "tests.faults.supervise", "0.5", "3")


def beats():
    return Supervisor.objects.get().last_seen_at


@pytest.mark.django_db(transaction=True)
class TestSupervisor:
    def test_when_nobody_reads_its_lines_all_goes_on_but_the_lines(self):
        """It beats, answers, runs each task once, and ends in order when it is told to."""
        supervisor = Beating("--async", "--health-port", "0", piped=True)
        try:
            supervisor.wait_for("started: queue")
            port = port_of(supervisor)
            supervisor.pipe.stall()
            tasks = [Write(number).delay() for number in range(5)]
            wait_until(lambda: ended(*tasks))
            long = Sleep(4, "long").delay()
            for _ in range(8):
                before = beats()
                wait_until(lambda before=before: beats() > before)
            assert get(port, "/live") == (200, "ok\n")
            wait_until(lambda: ended(long))

            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        finally:
            supervisor.end()
        assert set(Task.objects.values_list("status", "claim_seq")) == {("finished", 1)}
        assert not Supervisor.objects.exists()

    def test_what_waited_is_written_when_somebody_reads_again(self):
        supervisor = Beating("--async", piped=True)
        try:
            supervisor.wait_for("started: queue")
            supervisor.pipe.stall()
            tasks = [Write(number).delay() for number in range(5)]
            wait_until(lambda: ended(*tasks))

            supervisor.pipe.flow()

            for task in tasks:
                supervisor.wait_for(f"done {task.pk} Write")
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait() == 0
            assert "stopped: queue 'default'" in supervisor.output
            assert "dropped" not in supervisor.output
        finally:
            supervisor.end()

    def test_an_error_that_ends_it_is_an_exit_with_1_though_nobody_reads_it(self):
        """The command's own words go to the same pipe."""
        supervisor = Beating("--async", piped=True)
        try:
            supervisor.wait_for("started: queue")
            task = Sleep(3, "locked").delay()
            supervisor.wait_for("claimed 1")
            supervisor.pipe.stall()
            # An outcome that cannot be written.
            with transaction.atomic():
                Task.objects.select_for_update().get(pk=task.pk)
                supervisor.process.terminate()
                assert supervisor.wait(60) == 1
            supervisor.wait_until_nothing_is_left()
        finally:
            supervisor.end()

    def test_a_log_server_that_does_not_answer_holds_up_neither_it_nor_its_end(self):
        """Nothing wakes a thread that waits for it, and Python would wait for its handler."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            env = {
                "DJANGO_SETTINGS_MODULE": "tests.settings_slow_log",
                "LOG_SERVER": f"127.0.0.1:{server.getsockname()[1]}",
            }
            supervisor = Beating("--async", **env)
            try:
                wait_until(Supervisor.objects.exists)
                task = Write("x").delay()
                wait_until(lambda: ended(task))
                before = beats()
                wait_until(lambda: beats() > before)

                supervisor.signal(signal.SIGTERM)

                assert supervisor.wait() == 0
                supervisor.wait_until_nothing_is_left()
            finally:
                supervisor.end()

    def test_a_worker_that_blocks_on_its_output_blocks_itself_alone(self):
        """And is ended by its time limit, as if it slept."""
        supervisor = Beating("--async", "--workers_count", "2", piped=True)
        try:
            supervisor.wait_for("started: queue")
            Write("warm").delay()
            wait_until(ended)
            supervisor.pipe.stall()
            stuck = Print().delay()
            wait_until(lambda: "printing" in marks())
            others = [Write(number).delay() for number in range(5)]
            wait_until(lambda: ended(*others))
            wait_until(lambda: ended(stuck))

            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        finally:
            supervisor.end()
        stuck.refresh_from_db()
        assert stuck.errors[-1]["exception_class"].endswith("TaskTimeout")

    def test_receivers_that_block_keep_it_neither_from_new_workers_nor_from_its_end(self):
        """More of them than asyncio has threads, by which workers are started, too."""
        count = 2 * (os.cpu_count() or 1) + 4
        with partisan("--async", "--workers_count", "2", DEAF_RECEIVER="1") as supervisor:
            tasks = [Die("SIGKILL").delay() for _ in range(count)]
            wait_until(lambda: ended(*tasks), seconds=100)
            after = Write("after").delay()
            wait_until(lambda: ended(after))

            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()


class Stuck(logging.Handler):
    """Blocks until it is let go, then keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.reached = threading.Event()
        self.lines = []
        self.records = []

    def emit(self, record):
        self.reached.set()
        assert self.go.wait(60)
        self.lines.append(self.format(record))
        self.records.append(record)


@pytest.fixture
def handler():
    handler = Stuck()
    yield handler
    handler.go.set()


@pytest.fixture
def log(handler):
    log = logging.getLogger("tests.log_queue")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)


def wait_for(true, seconds=DEADLINE_SECONDS):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestLines:
    def test_a_line_says_what_was_so_when_it_was_logged(self, log, handler):
        """Its arguments are formatted later, and may be another's by then."""
        things, named = [1], {"thing": [1]}
        with handlers_behind_a_queue():
            log.info("%s %r %5.1f %d", things, things, 2.25, 7)
            log.info("%(thing)s", named)
            log.info(things)
            things.append(2)
            named["thing"].append(2)
            handler.go.set()

        assert handler.lines == ["[1] [1]   2.2 7", "[1]", "[1]"]
        assert handler.records[0].msg == "%s %r %5.1f %d"

    def test_filters_and_formatters_see_the_context_that_the_line_came_from(self, log, handler):
        handler.addFilter(TaskFilter())
        handler.setFormatter(logging.Formatter("%(task_id)s %(threadName)s %(message)s"))
        handler.go.set()
        with handlers_behind_a_queue():
            token = current_task.set(CurrentTask(7, 1, "Write", "default", "host/1"))
            log.info("within")
            current_task.reset(token)
            log.info("without")

        assert handler.lines == ["7 MainThread within", "None MainThread without"]

    def test_an_error_comes_with_its_traceback(self, log, handler):
        handler.go.set()
        with handlers_behind_a_queue():
            try:
                raise ValueError("bad")
            except ValueError:
                log.exception("failed")

        assert "ValueError: bad" in handler.lines[0]
        assert handler.records[0].exc_info[0] is ValueError

    def test_levels_filters_and_handlers_count_as_they_are(self, log, handler):
        """Also of a handler that is added later."""
        handler.go.set()
        later = logging.StreamHandler(io.StringIO())
        later.setLevel(logging.ERROR)
        with handlers_behind_a_queue():
            log.addHandler(later)
            log.debug("not even made")
            log.info("one")
            log.error("two")
        log.removeHandler(later)

        assert handler.lines == ["one", "two"]
        assert later.stream.getvalue() == "two\n"

    def test_what_a_handler_logs_itself_does_not_wait_behind_it(self, log, handler):
        class Chatty(logging.Handler):
            def emit(self, record):
                if record.msg != "aside":
                    log.info("aside")

        handler.go.set()
        chatty = Chatty()
        log.addHandler(chatty)
        with handlers_behind_a_queue():
            log.info("first")
            log.info("second")
        log.removeHandler(chatty)

        assert handler.lines == ["first", "aside", "second", "aside"]

    def test_what_a_handler_raises_ends_neither_the_next_line_nor_who_logged(self, log, handler):
        class Broken(logging.Filter):
            def filter(self, record):
                if record.msg == "bad":
                    raise RuntimeError("broken")
                return True

        handler.addFilter(Broken())
        handler.go.set()
        with handlers_behind_a_queue():
            log.info("bad")
            log.info("good")

        assert handler.lines == ["good"]

    def test_warnings_go_the_same_way(self, handler, monkeypatch):
        """Python prints them itself, to a stderr that may be stuck."""
        shown = []
        monkeypatch.setattr(
            warnings, "showwarning", lambda *told: shown.append(threading.current_thread().name)
        )
        with handlers_behind_a_queue(), warnings.catch_warnings(record=False):
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)

        assert shown == ["partisan logs"]


class TestFull:
    def test_what_does_not_fit_is_dropped_counted_and_told(self, log, handler, monkeypatch):
        monkeypatch.setattr(log_queue, "MOST_LINES", 100)
        with handlers_behind_a_queue() as queue:
            log.info("first")
            assert handler.reached.wait(60)
            root = logging.getLogger("partisan_async")
            root.addHandler(handler)
            for number in range(150):
                log.info("%d", number)
            assert queue.dropped == 50
            handler.go.set()
            wait_for(lambda: not queue.dropped)
            log.info("last")
        root.removeHandler(handler)

        kept = [line for line in handler.lines if line.isdigit()]
        assert kept == [str(number) for number in range(100)]
        told = [record for record in handler.records if "dropped" in record.msg]
        assert [record.dropped for record in told] == [50]
        assert handler.lines[-1] == "last"

    def test_a_handler_that_keeps_up_loses_none_however_many_there_are(
        self, log, handler, monkeypatch
    ):
        """Who logs and the handler take turns for the interpreter's lock: who logs has to wait."""
        # No handler keeps up where the machine gives it no turn.
        monkeypatch.setattr(log_queue, "PATIENCE_SECONDS", 60)
        handler.go.set()
        count = 3 * log_queue.MOST_LINES
        with handlers_behind_a_queue() as queue:
            for number in range(count):
                log.info("%d", number)
            assert queue.dropped == 0
            wait_for(lambda: len(handler.lines) == count)

    def test_a_slow_handler_does_not_hold_up_who_logs_for_long(self, log, handler, monkeypatch):
        """At 50 ms a line, 1,000 lines too many would be 50 seconds without a beat."""
        monkeypatch.setattr(log_queue, "MOST_LINES", 10)
        slept, real = [], time.sleep

        def sleep(seconds):
            if threading.current_thread() is threading.main_thread():
                slept.append(seconds)
            real(seconds)

        monkeypatch.setattr(time, "sleep", sleep)
        handler.emit = lambda record: real(0.05)
        with handlers_behind_a_queue() as queue:
            for number in range(1000):
                log.info("%d", number)

            assert queue.dropped > 900
        assert sum(slept) < 2 * log_queue.PATIENCE_SECONDS


SCRIPT = """
import logging, sys
from partisan_async.supervisor.log_queue import handlers_behind_a_queue
log = logging.getLogger("script")
{handlers}
log.setLevel(logging.INFO)
with handlers_behind_a_queue():
    for number in range(2000):
        log.info("line %099d", number)  # more than a pipe holds, all in all
{end}
"""


def script(handlers, end="", **options):
    code = SCRIPT.format(handlers=handlers, end=end)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, preexec_fn=ends_with_tests(), **options
    )


class TestEnd:
    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_a_stream_that_nobody_reads_keeps_no_process_from_its_end(self, stream):
        code = f"log.addHandler(logging.StreamHandler(sys.{stream}))"
        end = f"print('more', file=sys.{stream})"
        running = script(code, end, **{stream: subprocess.PIPE})
        try:
            assert running.wait() == 0
        finally:
            running.kill()
            getattr(running, stream).close()

    def test_the_other_handlers_are_closed_as_ever(self, tmp_path):
        """One that keeps lines to write them out in the end, for one."""
        read, write = os.pipe()
        kept = tmp_path / "kept"
        code = f"""
import logging.handlers
stuck = logging.StreamHandler(open({write}, "w", closefd=False))
kept = logging.FileHandler({str(kept)!r})
memory = logging.handlers.MemoryHandler(100_000, flushLevel=100, target=kept)
log.addHandler(memory)
log.addHandler(stuck)
"""
        running = script(code, pass_fds=[write])
        os.close(write)
        try:
            assert running.wait() == 0
        finally:
            running.kill()
            os.close(read)
        assert kept.read_text().startswith(f"line {0:099}\nline {1:099}\n")

    def test_all_is_written_where_nobody_is_stuck(self):
        running = script(
            "log.addHandler(logging.StreamHandler(sys.stdout))",
            stdout=subprocess.PIPE,
            text=True,
        )
        output, _ = running.communicate(timeout=60)

        assert running.returncode == 0
        assert output == "".join(f"line {number:099}\n" for number in range(2000))


def test_nothing_is_left_of_it(log, handler):
    """A test's own supervisor, or a command called by another, leaves logging as it was."""
    before = logging.Logger.handle, warnings.showwarning
    handler.go.set()
    with handlers_behind_a_queue():
        pass
    gc.collect()

    assert (logging.Logger.handle, warnings.showwarning) == before
    assert "partisan logs" not in {thread.name for thread in threading.enumerate()}


def test_without_loggings_own_list_of_handlers_its_own_shutdown_stays(monkeypatch):
    """It does not document that list: an end may then take longer, and nothing fails."""
    unregistered = []
    monkeypatch.setattr(stuck.atexit, "unregister", unregistered.append)
    monkeypatch.delattr(logging, "_handlerList")

    stuck.shut_logging_down()

    assert unregistered == []
