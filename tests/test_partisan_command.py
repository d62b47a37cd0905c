"""``manage.py partisan``: what it shows, what it asks, and what it says of wrong words."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError, OutputWrapper
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import steering
from partisan_async.embedded import EmbeddedPostgres
from partisan_async.management.partisan import screen
from partisan_async.models import PausedQueue, Supervisor, Tally, Task
from partisan_async.operate import overview
from partisan_async.steering.tasks import ACTIONS
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import DEADLINE_SECONDS, ended, marks, state, wait_until
from tests.process import ROOT, ends_with_tests, environment
from tests.testapp.partisan_tasks import AsyncSleep, Fail, Sleep, Write, WriteElsewhere


def partisan(*arguments, err=None):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=err or io.StringIO())
    return out.getvalue()


def soon(**delta):
    return timezone.now() + timedelta(**delta)


@pytest.fixture
def alive():
    """A supervisor's row, as if it had just beaten; nobody claims."""
    return Supervisor.objects.create(
        id="00000000-0000-0000-0000-00000000000a",
        hostname="here",
        process={"pid": 7},
        queue_name="default",
    )


def cells(text):
    return [re.split(r"  +", line) for line in text.splitlines()]


@pytest.mark.django_db
class TestStatus:
    def test_queues_and_supervisors(self, alive):
        Write(1).delay()
        Write(2).delay(execute_after=soon(hours=1))
        WriteElsewhere().delay()

        queues, supervisors = map(cells, partisan("status").split("\n\n"))

        assert [[re.sub(r"^\d s$", "now", cell) for cell in row] for row in queues] == [
            ["queue", "supervisors", "ready", "oldest", "scheduled", "running", "done/min",
             "failed/h"],
            ["default", "1", "1", "now", "1", "0", "0", "0"],
            ["elsewhere", "none!", "1", "now", "0", "0", "0", "0"],
        ]  # fmt: skip
        assert supervisors[0] == [
            *("host", "last seen", "id", "queue", "running", "up", "workers", "host itself")
        ]
        host, seen, *others, up, workers, memory = supervisors[1]
        assert [host, *others] == ["here/7", "00000000", "default", "0"]
        assert (workers, memory) == ("0", "-")
        assert re.fullmatch(r"\d s ago", seen)
        assert re.fullmatch(r"\d s", up)

    def test_alone_it_is_status(self, alive):
        assert partisan() == partisan("status")

    def test_what_was_done_is_read_from_the_tallies(self):
        """Rows may be deleted when they finish, and in an hour there may be millions."""
        minute = timezone.now().replace(second=0, microsecond=0)
        about = {"queue_name": "default", "processor_class": "Write"}
        Tally.objects.create(minute=minute, finished=20, failed=3, **about)
        Tally.objects.create(minute=minute - timedelta(minutes=30), failed=4, **about)
        Tally.objects.create(minute=minute - timedelta(hours=2), failed=5, **about)

        (queue,) = json.loads(partisan("status", "--json"))["queues"]

        assert (queue["finished"], queue["failed"]) == (20, 7)
        assert 23 / 2 <= queue["per_minute"] <= 23

    def test_a_paused_queue(self, alive):
        steering.pause("default")
        steering.pause("elsewhere")
        WriteElsewhere().delay()

        (_, default, elsewhere), _ = map(cells, partisan("status").split("\n\n"))

        assert default[:2] == ["default", "1, paused"]
        assert elsewhere[:2] == ["elsewhere", "none!, paused"]

    def test_a_draining_supervisor(self, alive):
        steering.drain(alive.pk)

        queues, supervisors, (told,) = map(cells, partisan("status").split("\n\n"))

        assert told == ["here/7 is draining, runs 0 tasks, starts none."]

        assert queues[1][1] == "1, 1 draining"
        assert re.fullmatch(r"\d s ago, draining", supervisors[1][1])

    def test_a_silent_one_is_called_so(self, alive):
        Supervisor.objects.update(last_seen_at=soon(minutes=-5))

        assert "5 m ago: silent!" in partisan("status")

    def test_json(self, alive):
        Write().delay()

        told = json.loads(partisan("status", "--json"))

        assert told["queues"][0]["ready"] == 1
        assert told["supervisors"][0]["alive"] is True

    def test_nothing_there(self):
        assert partisan("status").splitlines() == [
            "There are no queues yet: nothing was enqueued, and no supervisor runs.",
            "",
            "No supervisor runs: manage.py start_partisan --async",
        ]

    def test_a_handful_of_queries(self, alive, django_assert_num_queries):
        Write.bulk_delay([Write(number) for number in range(50)])
        run = {"id": Task.objects.first().pk, "processor": "Write", "seconds": 1.0}
        Supervisor.objects.update(workers=[{"pid": 1, "running": 1, "tasks": [run]}])

        with django_assert_num_queries(5):
            partisan("status")

    def test_what_failed_lately(self, alive):
        """A count alone says of no task that it failed, and `why` wants a number."""
        tasks = [Fail("ValueError", f"no {number}").delay() for number in range(6)]
        elsewhere = WriteElsewhere().delay()
        run_pending(errors="keep")
        Task.objects.filter(pk=elsewhere.pk).update(
            status="error", finished_at=soon(minutes=-5), errors=[]
        )
        Task.objects.filter(pk=tasks[0].pk).update(finished_at=soon(hours=-3))
        Task.objects.filter(pk=tasks[1].pk).update(finished_at=soon(hours=-2))
        Task.objects.filter(pk=tasks[2].pk).update(finished_at=soon(days=1))

        *_, failed = map(cells, partisan("status").split("\n\n"))

        assert failed[0] == ["failed lately", "of", "when"]
        assert [row[0] for row in failed[1:]] == [
            f"{tasks[5].pk} Fail", f"{tasks[4].pk} Fail", f"{tasks[3].pk} Fail",
            f"{elsewhere.pk} WriteElsewhere", f"{tasks[1].pk} Fail",
        ]  # fmt: skip
        assert failed[1][1] == "ValueError"
        assert [row[-1] for row in failed[4:]] == ["5 m ago", "2 h ago"]
        told = json.loads(partisan("status", "--json"))["failed"]
        assert [each["id"] for each in told] == [int(row[0].split()[0]) for row in failed[1:]]
        assert told[0]["error"] == "builtins.ValueError"
        assert told[3]["error"] == ""

    def test_what_failed_is_found_by_the_index(self):
        """Of a million rows that ended it reads a few."""
        now = timezone.now()
        row = {"arguments": {}, "priority": 0, "execute_after": now, "status": "finished"}
        Task.objects.bulk_create(
            Task(**row, queue_name=f"q{n % 3}", processor_class="P", finished_at=now)
            for n in range(3000)
        )
        Task.objects.filter(pk__in=Task.objects.values("pk")[:1500]).update(status="error")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE partisan_async_task")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {overview.FAILED}", {"at_most": 5})
            plan = json.dumps(cursor.fetchone()[0])

        assert "Seq Scan" not in plan
        assert "partisan_async_ended" in plan
        assert max(map(float, re.findall(r'"Actual Rows": ([\d.]+)', plan))) <= 15

    def test_it_is_there_without_what_failed(self, alive, monkeypatch):
        """An operator wants to see what can be seen."""
        monkeypatch.setattr(overview, "FAILED", "SELECT 1 / 0")

        with transaction.atomic():
            said = partisan("status")
            transaction.set_rollback(True)

        assert "here/7" in said
        assert "failed lately" not in said

    def test_names_command_no_terminal(self, alive):
        Write().delay()
        Task.objects.update(queue_name="evil\x1b[2J\nqueue")

        said = partisan("status")

        assert "\x1b" not in said
        assert "evil\\x1b[2J\\nqueue" in said


@pytest.mark.django_db(transaction=True)
def test_status_shows_what_the_workers_run():
    with live_supervisor(WORKERS_COUNT=2, SHUTDOWN_GRACE_SECONDS=0, beat_seconds=0.2):
        task = Sleep(60, "long").delay()
        aside = [AsyncSleep(60, number).delay() for number in range(5)]
        wait_until(lambda: len(marks()) == 6)

        def runs():
            *_, told = partisan("status").split("\n\n")
            return {row[2] for row in cells(told)[1:]}

        first = ", ".join(f"{each.pk} AsyncSleep" for each in aside[:3])
        wait_until(lambda: runs() == {f"{task.pk} Sleep", f"{first} and 2 more"})


@pytest.mark.django_db
class TestHold:
    def test_pause_and_resume(self):
        assert partisan("pause", "default") == "Queue 'default' is paused.\n"
        assert PausedQueue.objects.get().queue_name == "default"
        assert partisan("pause", "default") == "Queue 'default' was already paused.\n"
        assert partisan("resume", "default") == "Queue 'default' is resumed.\n"
        assert partisan("resume", "default") == "Queue 'default' was not paused.\n"

    @pytest.mark.parametrize(
        "name", ["here/7", "00000000-0000", "00000000-0000-0000-0000-00000000000A"]
    )
    def test_drain(self, alive, name):
        said = partisan("drain", name)

        assert said.startswith("here/7 (00000000, queue 'default') is draining")
        alive.refresh_from_db()
        assert alive.draining

    @pytest.mark.parametrize("name", ["there/7", "", "0000000a", "%"])
    def test_one_that_is_not_there(self, alive, name):
        with pytest.raises(CommandError, match=r"there are: here/7 \(00000000, queue 'default'\)"):
            partisan("drain", name)

        alive.refresh_from_db()
        assert not alive.draining

    def test_one_of_several_and_all_of_a_host(self, alive):
        Supervisor.objects.create(
            id="00000000-0000-0000-0000-00000000000b",
            hostname="here",
            process={"pid": 7},
            queue_name="elsewhere",
        )

        with pytest.raises(CommandError, match="Several supervisors are '0000'"):
            partisan("drain", "0000")
        partisan("drain", "00000000-0000-0000-0000-00000000000b")
        assert Supervisor.objects.get(draining=True).queue_name == "elsewhere"

        assert partisan("drain", "here/7").count(" is draining: ") == 2
        assert Supervisor.objects.filter(draining=True).count() == 2

    def test_one_that_does_not_hear_it(self, alive):
        Supervisor.objects.update(last_seen_at=soon(minutes=-5))
        err = io.StringIO()

        partisan("drain", "here/7", err=err)

        assert "It may never hear of it: it has been silent for 5 minutes." in err.getvalue()


@pytest.mark.django_db(transaction=True)
def test_drain_ends_a_real_supervisor_when_its_tasks_have():
    with live_supervisor(WORKERS_COUNT=1, SHUTDOWN_GRACE_SECONDS=0):
        running = Sleep(1, "running").delay()
        wait_until(lambda: "start running" in marks())

        partisan("drain", str(Supervisor.objects.get().pk)[:12])
        wait_until(lambda: not Supervisor.objects.exists())

    running.refresh_from_db()
    assert running.status == "finished"


@pytest.mark.django_db
class TestNothingMatches:
    @pytest.mark.parametrize("name", ["retry", "run-now", "cancel"])
    def test_a_misspelt_processor_is_no_success(self, name):
        """Who cancels in haste would believe that nothing of it is left."""
        WriteElsewhere().delay()

        with pytest.raises(CommandError) as raised:
            partisan(name, "--processor", "WriteElsewere", "--yes")

        said = str(raised.value)
        assert said.startswith(
            f"{name}: 0 tasks. Nobody knows a processor 'WriteElsewere'; similar are"
        )
        assert "'WriteElsewhere'" in said

    def test_a_misspelt_queue_is_no_success(self):
        WriteElsewhere().delay()

        with pytest.raises(CommandError, match=r"0 tasks\. Nobody knows a queue 'elsewere'"):
            partisan("cancel", "--queue", "elsewere", "--yes")

    def test_nor_is_it_where_rows_are_to_be_deleted(self):
        """Who prunes by a timer would find out when the disk is full."""
        with pytest.raises(CommandError, match=r"^prune: 0 tasks\. Nobody knows a queue 'elsewe"):
            partisan("prune", "--older-than", "1h", "--queue", "elsewere", "--yes")

    @pytest.mark.parametrize("option", ["--queue", "--processor"])
    def test_nor_is_it_beside_numbers(self, option):
        task = Write().delay()

        with pytest.raises(CommandError, match=r"^cancel: 0 tasks\. Nobody knows a .* 'Elsewere'"):
            partisan("cancel", task.pk, option, "Elsewere")

    @pytest.mark.parametrize(
        "words", [["prune", "--older-than", "1d"], ["retry", "--older-than", "1d"]]
    )
    def test_a_queue_whose_tasks_have_all_ended_is_known(self, words):
        """Not one of them is old enough: that is no misspelt name."""
        Write().delay()
        Task.objects.update(queue_name="gone", status="error", finished_at=timezone.now())

        assert "0 tasks" in partisan(*words, "--queue", "gone", "--yes")

    def test_what_a_number_is_instead_is_told_in_words(self):
        task = Write().delay()
        Task.objects.update(status="error", finished_at=timezone.now())

        with pytest.raises(CommandError) as raised:
            partisan("retry", 999_999)
        assert str(raised.value) == "Only tasks that are in error: 999999 is not there."
        with pytest.raises(CommandError) as raised:
            partisan("cancel", task.pk)
        assert str(raised.value) == (
            f"Only tasks that are new or scheduled or limited or in process: {task.pk} is in error."
        )

    def test_one_that_is_known_has_nothing_to_do(self):
        assert partisan("cancel", "--processor", "Write", "--yes") == "cancel: 0 tasks.\n"


@pytest.mark.django_db
class TestMany:
    @pytest.fixture
    def asked(self, monkeypatch):
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or "y")
        return asked

    def fail(self, count, **columns):
        Write.bulk_delay([Write(number) for number in range(count)])
        Task.objects.filter(status="new").update(
            status="error", **{"finished_at": timezone.now()} | columns
        )

    def test_each_thousand_is_a_transaction_of_its_own(self, asked, django_assert_max_num_queries):
        """All in one would hold back the vacuum, and lose all where one cannot be done."""
        self.fail(2500)

        # The count, the last, what is behind it, and the pauses; of each thousand the ids, and the
        # change in a savepoint.
        with django_assert_max_num_queries(4 + 3 * 4):
            assert partisan("retry", "--queue", "default") == "retry: 2,500 tasks.\n"

        assert asked == ["retry: 2,500 tasks of queue 'default'? [y/N] "]
        assert Task.objects.filter(status="new").count() == 2500

    def test_what_fails_again_meanwhile_is_not_retried_again(self, monkeypatch):
        """A task that fails at once would be run for ever."""
        self.fail(1500)
        do, statuses = ACTIONS["retry"]

        def retry_and_fail(ids):
            done = do(ids)
            Task.objects.filter(status="new").update(tries=1, **state("error"))
            return done

        monkeypatch.setitem(ACTIONS, "retry", (retry_and_fail, statuses))

        assert partisan("retry", "--queue", "default", "--yes") == "retry: 1,500 tasks.\n"

    def test_what_comes_meanwhile_is_left_alone(self, monkeypatch):
        """Where tasks come faster than they are cancelled it would not end."""
        Write.bulk_delay([Write(number) for number in range(1500)])
        cancel = steering.cancel

        def cancel_and_enqueue(ids, **how):
            Write.bulk_delay([Write(number) for number in range(1000)])
            return cancel(ids, **how)

        monkeypatch.setattr(steering, "cancel", cancel_and_enqueue)

        assert partisan("cancel", "--queue", "default", "--yes") == "cancel: 1,500 tasks.\n"
        assert Task.objects.filter(status="new").count() == 2000

    def test_ctrl_c_ends_it_after_whole_batches_and_says_how_many(self, monkeypatch):
        self.fail(1500)
        do, statuses = ACTIONS["retry"]
        calls = []

        def retry_and_interrupt(ids):
            calls.append(ids)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return do(ids)

        monkeypatch.setitem(ACTIONS, "retry", (retry_and_interrupt, statuses))

        with pytest.raises(CommandError, match="Interrupted after 1,000 tasks"):
            partisan("retry", "--queue", "default", "--yes")

        assert Task.objects.filter(status="new").count() == 1000

    def test_by_age(self):
        """Of those that failed by when they did, of those that wait by when they were enqueued."""
        self.fail(2, finished_at=soon(hours=-2))
        self.fail(1, finished_at=soon(minutes=-5))
        Write().delay()
        old = Write().delay()
        Task.objects.filter(pk=old.pk).update(created_at=soon(days=-3))

        assert partisan("cancel", "--older-than", "1d", "--yes") == "cancel: 1 task.\n"
        assert partisan("retry", "--older-than", "1h", "--yes") == "retry: 2 tasks.\n"

    def test_by_status(self):
        Write().delay()
        Write().delay(execute_after=soon(hours=1))

        assert partisan("cancel", "--status", "scheduled", "--yes") == "cancel: 1 task.\n"
        assert Task.objects.filter(status="new").count() == 1
        with pytest.raises(CommandError, match="invalid choice: 'finished'"):
            partisan("cancel", "--status", "finished", "--yes")

    def test_by_several_statuses(self):
        Write().delay()
        Write().delay(execute_after=soon(hours=1))

        statuses = ("--status", "new", "--status", "scheduled")
        assert partisan("cancel", *statuses, "--yes") == "cancel: 2 tasks.\n"

    def test_zero_is_an_age(self):
        self.fail(1)
        Write().delay()
        Task.objects.update(created_at=soon(minutes=-1))

        assert partisan("cancel", "--older-than", "0s", "--yes") == "cancel: 1 task.\n"
        Task.objects.filter(status="error").update(finished_at=soon(minutes=-1))
        statuses = ("--status", "error", "--status", "finished")
        assert partisan("prune", "--older-than", "0s", *statuses, "--yes") == "2 tasks deleted.\n"

    def test_by_all_of_them(self):
        Write().delay()
        WriteElsewhere().delay()
        WriteElsewhere().delay(execute_after=soon(hours=1))

        options = ("--queue", "elsewhere", "--processor", "WriteElsewhere", "--status", "new")
        assert partisan("cancel", *options, "--yes") == "cancel: 1 task.\n"

    def test_where_there_are_none_nobody_is_asked(self, asked):
        assert partisan("retry", "--queue", "default") == "retry: 0 tasks.\n"
        assert partisan("prune", "--older-than", "1d") == "0 tasks deleted.\n"
        assert asked == []

    def test_a_number_that_does_not_match_is_said(self):
        task = Write().delay()

        with pytest.raises(CommandError, match=f"and match what else was asked for: {task.pk} is"):
            partisan("cancel", task.pk, "--queue", "elsewhere")

    @pytest.mark.parametrize("words", ["--queue", "--processor", "--older-than", "--status"])
    def test_without_any_filter_it_says_which_there_are(self, words):
        with pytest.raises(CommandError, match=words):
            partisan("cancel", "--yes")

    @pytest.mark.parametrize("name", ["", "x" * 300, "half \udcff", "nul\0"])
    def test_a_name_that_cannot_be(self, name):
        with pytest.raises(CommandError, match="--queue"):
            partisan("cancel", "--queue", name, "--yes")

    def test_prune_says_how_many_and_asks(self, asked):
        run_pending()
        self.fail(3, finished_at=soon(days=-8))
        self.fail(1)

        assert partisan("prune", "--older-than", "7d") == "3 tasks deleted.\n"
        assert asked == ["Delete 3 tasks that ended over 7 days ago? [y/N] "]
        assert Task.objects.count() == 1

    @pytest.mark.parametrize(
        ("words", "question"),
        [
            ("cancel --all", "cancel: 2 tasks that wait or run, in all queues"),
            (
                "cancel --processor Write --status new --status in_process",
                "cancel: 1 task of processor 'Write' that is new or in process",
            ),
            (
                "cancel --queue elsewhere --status new --older-than 1h",
                "cancel: 1 task of queue 'elsewhere' that is new and was enqueued over 1 hour ago",
            ),
            ("cancel --older-than 90m", "cancel: 2 tasks that were enqueued over 90 minutes ago"),
            ("cancel --older-than 0s", "cancel: 2 tasks that were enqueued over 0 seconds ago"),
            (
                "retry --queue default --processor Write --older-than 24h",
                "retry: 2 tasks of queue 'default' and processor 'Write' that ended over 1 day ago",
            ),
            (
                "prune --queue default --status error --older-than 36h",
                "Delete 2 tasks of queue 'default' that are in error and ended over 36 hours ago",
            ),
        ],
    )
    def test_what_it_asks_says_which_tasks(self, asked, words, question):
        """Who typed another queue than they meant sees it here, and nowhere else in time."""
        self.fail(2, finished_at=soon(days=-8))
        Write().delay()
        WriteElsewhere().delay()
        Task.objects.filter(status="new").update(created_at=soon(days=-3))

        partisan(*words.split())

        assert asked == [f"{question}? [y/N] "]

    def test_prune_of_one_queue(self):
        for processor in (Write, WriteElsewhere):
            processor().delay()
        run_pending()
        Task.objects.update(status="finished", finished_at=soon(days=-8))

        said = partisan("prune", "--older-than", "7d", "--queue", "elsewhere", "--yes")

        assert said == "1 task deleted.\n"
        assert Task.objects.get().queue_name == "default"

    def test_a_terminal_sees_how_far_it_is(self):
        terminal = Terminal()
        progress = screen.Progress(OutputWrapper(terminal), 2000, "deleted")

        progress.advance(500)
        progress.advance(1500)
        progress.end()

        first, last = terminal.getvalue().strip("\r\n").split("\r")
        assert first == f"{'█' * 7}{'░' * 23} 500 of 2,000 deleted\x1b[K"
        assert last == f"{'█' * 30} 2,000 of 2,000 deleted\x1b[K"

    def test_elsewhere_there_is_no_bar(self):
        file = io.StringIO()
        progress = screen.Progress(OutputWrapper(file), 2000, "deleted")

        progress.advance(2000)
        progress.end()

        assert file.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestTable:
    def test_names_are_cut_first_and_then_what_is_last(self):
        rows = [["queue", "ready"], ["a name that is rather long", "1,234"]]

        assert list(screen.table(rows, None)) == [
            "queue                       ready",
            "a name that is rather long  1,234",
        ]
        assert list(screen.table(rows, 20)) == ["queue          ready", "a name that …  1,234"]
        assert list(screen.table(rows, 13)) == ["queue     re…", "a name …  1,…"]

    def test_wide_characters_take_two_places(self):
        assert list(screen.table([["日本", "1"], ["abc", "2"]], 80)) == ["日本  1", "abc   2"]
        assert screen.cut("日本語", 5) == "日本…"

    def test_colours_take_no_place(self):
        rows = [[screen.Cell("a", lambda text: f"<{text}>"), "1"], ["bcd", "2"]]

        assert list(screen.table(rows, 80)) == ["<a>    1", "bcd  2"]


class Pty:
    """``manage.py partisan`` on a terminal of so many columns and lines."""

    def __init__(self, *arguments, columns=80, lines=24, **env):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", "partisan", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**environment(), "TERM": "xterm"} | env,
            start_new_session=True,
            preexec_fn=ends_with_tests(),
        )
        os.close(slave)
        self.output = ""

    def read(self, seconds=0.1):
        while select.select([self._master], [], [], seconds)[0]:
            try:
                self.output += os.read(self._master, 65536).decode()
            except OSError:  # it has ended
                break
        return self.output

    def wait_for(self, words, *, seconds=DEADLINE_SECONDS):
        deadline = time.monotonic() + seconds
        while words not in self.read():
            assert time.monotonic() < deadline, self.output

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(request):
    opened = []

    def open_terminal(*arguments, **options):
        opened.append(Pty(*arguments, **options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.end()


@pytest.fixture(scope="module")
def server():
    """One that may be restarted."""
    with EmbeddedPostgres() as server:
        env = environment(DATABASE_URL=server.url)
        migrate = [sys.executable, "-m", "django", "migrate", "-v0"]
        subprocess.run(migrate, cwd=ROOT, env=env, check=True)
        yield server


class TestOnATerminal:
    def test_watch_lives_through_a_restart_of_the_database_and_ends_with_ctrl_c(
        self, server, terminal
    ):
        """An operator at night restarts things, and looks at what comes back."""
        watch = terminal("status", "--watch", DATABASE_URL=server.url)
        watch.wait_for("No supervisor runs")

        server.restart()
        watch.wait_for("trying again")
        watch.output = ""
        watch.wait_for("\x1b[HThere are no queues yet")
        watch.process.send_signal(signal.SIGINT)

        assert watch.process.wait(DEADLINE_SECONDS) == 0
        watch.read()
        assert "Traceback" not in watch.output
        # The cursor is back, and so is the screen before.
        assert watch.output.endswith("\x1b[?25h\x1b[?1049l")

    def test_the_screen_is_never_emptied(self, server, terminal):
        """That is what flickers."""
        watch = terminal("status", "--watch", DATABASE_URL=server.url)
        deadline = time.monotonic() + 30
        while watch.read().count("No supervisor runs") < 2:
            assert time.monotonic() < deadline

        assert "\x1b[2J" not in watch.output
        assert watch.output.count("\x1b[J") == watch.output.count("\x1b[H")
        assert not re.search(r"\x1b\[H\x1b\[J", watch.output)

    def test_colours_are_there_and_can_be_refused(self, server, terminal):
        env = {"DATABASE_URL": server.url}
        for options, coloured in (((), True), (("--no-color",), False)):
            doctor = terminal(*options, "doctor", **env)
            doctor.wait_for("listen")
            doctor.process.wait(DEADLINE_SECONDS)

            assert ("\x1b[" in doctor.read()) == coloured

    def test_a_database_that_is_away_is_one_line(self, terminal):
        status = terminal("status", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")

        assert status.process.wait(DEADLINE_SECONDS) == 1
        assert "CommandError: Database 'default' does not answer: " in status.read()
        assert "Traceback" not in status.output

    def test_without_migrations_it_says_so(self, server, terminal):
        env = environment(DATABASE_URL=server.url)
        migrate = [sys.executable, "-m", "django", "migrate", "-v0", "partisan_async"]
        subprocess.run([*migrate, "zero"], cwd=ROOT, env=env, check=True)
        try:
            status = terminal("status", DATABASE_URL=server.url)

            assert status.process.wait(DEADLINE_SECONDS) == 1
            assert "Are all migrations applied? manage.py migrate" in status.read()
        finally:
            subprocess.run(migrate, cwd=ROOT, env=env, check=True)


@pytest.mark.django_db(transaction=True)
def test_a_retry_of_many_is_seen_by_a_real_supervisor():
    tasks = Fail.bulk_delay([Fail("ValueError", number) for number in range(1200)])
    Task.objects.update(status="error", processor_class="Nothing", finished_at=timezone.now())

    with live_supervisor(WORKERS_COUNT=1, beat_seconds=20, ttl_seconds=100):
        assert partisan("retry", "--processor", "Nothing", "--yes") == "retry: 1,200 tasks.\n"
        wait_until(lambda: ended(*tasks))

    assert Task.objects.filter(status="finished").count() == 1200
