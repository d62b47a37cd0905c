"""``start_partisan`` as a process: its options, its signals, its ends."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import psutil
import pytest
from django.core.management import call_command
from django.utils import timezone

from partisan_async.models import Supervisor, Task
from tests.conftest import ended, marks, wait_until
from tests.process import DEADLINE_SECONDS, ROOT, Partisan, ends_with_tests, environment, partisan
from tests.testapp.partisan_tasks import (
    AsyncSleep,
    AsyncWait,
    Fail,
    Nothing,
    Postpone,
    Retry,
    Sleep,
    Tell,
    Wait,
    Write,
    WriteElsewhere,
)

pytestmark = pytest.mark.django_db(transaction=True)


def run(*options, **env):
    return subprocess.run(
        [sys.executable, "-m", "django", "start_partisan", *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env=environment(**env),
        preexec_fn=ends_with_tests(),
    )


class TestOptions:
    @pytest.mark.parametrize(
        "option",
        [
            ("--min_queue_size", "-1"),
            ("--max_queue_size", "0"),
            ("--checks_before_cleanup", "0"),
            ("--workers_count", "0"),
            ("--workers_count", "two"),
            ("--sleep_delay_seconds", "0"),
            ("--sleep_delay_seconds", "nan"),
            ("--queue_name", "q" * 256),
            ("--no_such_option", "1"),
        ],
    )
    def test_a_bad_value_exits_with_2_before_any_database_work(self, option):
        ended = run(*option, DATABASE_URL="postgresql://nobody@/none?host=/nowhere")

        assert ended.returncode == 2
        assert option[0] in ended.stderr
        assert "nowhere" not in ended.stderr

    def test_values_that_contradict_each_other_exit_with_2(self):
        ended = run("--min_queue_size", "11", DATABASE_URL="host=/nowhere")

        assert ended.returncode == 2
        assert "MIN_QUEUE_SIZE=11 must not be above" in ended.stderr

    def test_every_option_reaches_the_supervisor(self):
        from partisan_async.management.commands.start_partisan import Command
        from partisan_async.management.start_partisan.options import settings_of

        parser = Command().create_parser("manage.py", "start_partisan")
        given = parser.parse_args(
            [
                "--min_queue_size",
                "3",
                "--max_queue_size",
                "30",
                "--checks_before_cleanup",
                "300",
                "--workers_count",
                "4",
                "--sleep_delay_seconds",
                "0.5",
            ]
        )

        settings = settings_of("default", vars(given))

        assert settings.MIN_QUEUE_SIZE == 3
        assert settings.MAX_QUEUE_SIZE == 30
        assert settings.CHECKS_BEFORE_CLEANUP == 300
        assert settings.WORKERS_COUNT == 4
        assert settings.SLEEP_DELAY_SECONDS == 0.5

    def test_a_database_that_is_away_is_said_in_a_sentence(self):
        ended = run("--async", DATABASE_URL="host=/nowhere dbname=x")

        assert ended.returncode == 1
        assert "Database 'default' cannot be reached" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_missing_migrations_are_said_in_a_sentence(self):
        call_command("migrate", "partisan_async", "0001", verbosity=0)
        try:
            ended = run("--async")
        finally:
            call_command("migrate", "partisan_async", verbosity=0)

        assert ended.returncode == 1
        assert "run `manage.py migrate` first" in ended.stderr

    def test_a_task_module_that_cannot_be_imported_stops_the_start(self, tmp_path):
        """The ancestor swallowed it, and knew none of its tasks."""
        (tmp_path / "brokenapp").mkdir()
        (tmp_path / "brokenapp" / "__init__.py").touch()
        (tmp_path / "brokenapp" / "partisan_tasks.py").write_text("import no_such_module\n")
        (tmp_path / "broken_settings.py").write_text(
            "from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'brokenapp']\n"
        )
        path = f"{environment()['PYTHONPATH']}:{tmp_path}"

        ended = run("--async", PYTHONPATH=path, DJANGO_SETTINGS_MODULE="broken_settings")

        assert ended.returncode != 0
        assert "no_such_module" in ended.stderr

    def test_a_queue_that_no_processor_names_is_warned_of(self):
        with partisan("--async", "--queue_name", "defualt") as supervisor:
            assert "no processor names queue 'defualt'" in supervisor.output
            assert "queues in use: default, elsewhere" in supervisor.output

    def test_more_connections_than_the_server_has_are_warned_of(self):
        """WORKERS_COUNT × (1 + ASYNC_CONCURRENCY) + 4; its default queue has async processors."""
        settings = "tests.settings_many_connections"
        with partisan("--async", DJANGO_SETTINGS_MODULE=settings) as supervisor:
            assert "up to 20006 connections may be opened" in supervisor.output


class TestLines:
    def test_a_person_can_follow_what_happens(self):
        with partisan("--async", "--workers_count", "1") as supervisor:
            done = Write("x").delay()
            failed = Fail("ValueError", "bad").delay()
            postponed = Postpone("p", 1, 0.1).delay()
            retried = Retry("r", 1).delay()
            wait_until(ended)
            supervisor.signal(signal.SIGTERM)
            supervisor.wait()
            lines = supervisor.output

        assert "started: queue 'default', 1 worker, database 'default' (test_" in lines
        assert "woken by NOTIFY" in lines
        assert f"claimed 1: {done.pk} Write" in lines
        assert f"done {done.pk} Write in " in lines
        assert f"failed {failed.pk} Fail: builtins.ValueError: bad" in lines
        assert f"postponed {postponed.pk} Postpone by 0.1 s" in lines
        assert f"retried {retried.pk} Retry in 0.05 s, after try 1: builtins.TimeoutError" in lines
        assert "stopped: queue 'default'" in lines
        assert lines.count("Traceback") == 1  # of the task that failed

    def test_without_async_it_says_that_it_polls(self):
        with partisan("--sleep_delay_seconds", "0.1") as supervisor:
            Write("x").delay()
            wait_until(ended)

            assert "woken by polling every 0.1 s" in supervisor.output


class TestWorkersStart:
    def test_from_another_folder_with_the_path_by_environment_alone(self, tmp_path):
        """The forkserver ignores the sys.path that it is told."""
        with partisan("--async", cwd=tmp_path) as supervisor:
            Write("x").delay()
            wait_until(ended)

            assert "cold" not in supervisor.output

    def test_with_a_path_that_only_the_command_line_gives(self, tmp_path):
        """As manage.py does, whose folder is on sys.path and in no variable."""
        root = environment()["PYTHONPATH"]
        options = ("--async", "--pythonpath", root)
        code = f"import sys; sys.path.insert(0, {root!r}); import partisan_async"
        (tmp_path / "sitecustomize.py").write_text(code)
        with partisan(*options, cwd=tmp_path, PYTHONPATH=str(tmp_path)) as supervisor:
            Write("x").delay()
            wait_until(ended)

            assert "cold" not in supervisor.output

    def test_workers_share_the_memory_of_what_was_preloaded(self):
        with partisan("--async", "--workers_count", "2") as supervisor:
            Nothing(1).delay()
            Nothing(2).delay()
            wait_until(ended)
            private = [worker.memory_full_info().uss for worker in supervisor.workers()]

        assert len(private) == 2
        assert max(private) < 25_000_000

    def test_no_connection_crosses_the_fork(self):
        """Workers that are forked with a connection open corrupt each other's protocol."""
        with partisan("--async", "--workers_count", "2") as supervisor:
            assert supervisor.forkserver().net_connections("all") is not None
            inodes = [_sockets(process.pid) for process in supervisor.workers()]
            Write("x").delay()
            Write("y").delay()
            wait_until(ended)
            after = [_sockets(process.pid) for process in supervisor.workers()]

        assert not (inodes[0] & inodes[1])
        assert not (after[0] & after[1])

    def test_with_djangos_own_connection_pool(self):
        with partisan("--async", DJANGO_SETTINGS_MODULE="tests.settings_pool") as supervisor:
            for number in range(10):
                Write(number).delay()
                AsyncSleep(0.05, number).delay()
            wait_until(ended)

            assert "cold" not in supervisor.output
        assert not Task.objects.exclude(status="finished").exists()


def _sockets(pid):
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {link for link in links if link.startswith("socket:")}


# So that whoever waits for the grace time's end waits in vain.
LONG_GRACE = "tests.settings_long_grace"


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_it_ends_at_once_and_leaves_nothing_when_idle(self, number):
        with partisan(DJANGO_SETTINGS_MODULE=LONG_GRACE) as supervisor:
            supervisor.signal(number)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        assert not Supervisor.objects.exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_running_tasks_end_though_the_whole_group_is_signalled(self, number, tmp_path):
        """Ctrl-C and systemd reach every process; only the supervisor may heed it."""
        path = tmp_path / "go on"
        options = ("--async", "--workers_count", "2")
        with partisan(*options, DJANGO_SETTINGS_MODULE=LONG_GRACE) as supervisor:
            AsyncWait(str(path)).delay()
            wait_until(lambda: len(marks()) == 1)
            Wait(str(path)).delay()
            Wait(str(path)).delay()
            wait_until(lambda: len(marks()) == 3)
            waiting = [Write("never").delay() for _ in range(3)]

            os.killpg(supervisor.pid, number)
            supervisor.wait_for("stopping: waiting for 3")
            path.touch()

            assert supervisor.wait() == 0
            assert "Traceback" not in supervisor.output
            supervisor.wait_until_nothing_is_left()

        assert marks() == ["waits"] * 3 + ["goes on"] * 3
        statuses = [Task.objects.get(pk=task.pk).status for task in waiting]
        assert statuses == ["new"] * 3

    def test_a_second_signal_ends_it_at_once_and_costs_no_try(self):
        options = ("--async", "--workers_count", "1")
        with partisan(*options, DJANGO_SETTINGS_MODULE=LONG_GRACE) as supervisor:
            task = Sleep(600, "long").delay()
            wait_until(lambda: marks() == ["start long"])
            supervisor.signal(signal.SIGTERM)
            supervisor.wait_for("stopping: waiting for 1")

            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        task.refresh_from_db()
        assert (task.status, task.tries, task.lost, task.suspect) == ("new", 0, 0, False)

    def test_after_the_grace_time_it_gives_back_what_still_runs(self):
        with partisan("--async", DJANGO_SETTINGS_MODULE="tests.settings_short_grace") as supervisor:
            task = Sleep(600, "long").delay()
            wait_until(lambda: marks() == ["start long"])

            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            assert f"not done in time, given back: {task.pk} Sleep" in supervisor.output
        task.refresh_from_db()
        assert (task.status, task.tries) == ("new", 0)

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of a parent's death")
    def test_where_tests_are_killed_their_supervisors_end_with_them(self):
        """It would go on for ever, in a database that is gone."""
        code = """
            import django; django.setup()
            from tests.process import Partisan
            started = Partisan("--async")
            print(started.pid, flush=True)
            started.wait(600)
        """
        tests = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            preexec_fn=ends_with_tests(),
        )
        with tests:
            pid = int(tests.stdout.readline())
            family = Partisan.family
            started = SimpleNamespace(pid=pid)
            wait_until(lambda: len(family(started)) > 1)
            tests.kill()
        try:
            wait_until(lambda: not family(started))
        finally:
            for process in family(started):
                process.kill()

    def test_a_signal_while_it_starts_ends_it_too(self):
        supervisor = Partisan("--async", DJANGO_SETTINGS_MODULE=LONG_GRACE)
        try:
            supervisor.wait_for("listening")
            supervisor.signal(signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        finally:
            supervisor.end()

    def test_what_a_task_forked_ends_by_it_as_in_a_shell(self):
        """The worker outlives it, and its task hears how the child ended."""
        code = """
            import multiprocessing, time
            from tests.testapp.models import Mark
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
            child.start()
            Mark.objects.create(text="forked")
            child.join(60)
            answer = child.exitcode
            child.kill()
        """
        options = ("--async", "--workers_count", "1")
        with partisan(*options, DJANGO_SETTINGS_MODULE=LONG_GRACE) as supervisor:
            task = Tell(textwrap.dedent(code)).delay()
            wait_until(lambda: marks() == ["forked"])

            os.killpg(supervisor.pid, signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        task.refresh_from_db()
        assert (task.status, task.result) == ("finished", -signal.SIGTERM)


def ended_though_leased(dead, *tasks):
    """Tell whether they have ended, and renew a dead supervisor's lease: its death is to count."""
    Supervisor.objects.filter(process__pid=dead.pid).update(last_seen_at=timezone.now())
    return ended(*tasks)


class TestCrash:
    def test_after_a_kill_the_workers_end_and_the_next_one_takes_over_at_once(self, tmp_path):
        """On one host the death is proven: nobody waits for the lease."""
        path = tmp_path / "go on"
        with partisan("--async", "--workers_count", "2") as dead:
            tasks = [Wait(str(path)).delay() for _ in range(4)]
            wait_until(lambda: len(marks()) == 2)
            held = Task.objects.filter(status="in_process").count()

            dead.signal(signal.SIGKILL)
            dead.wait()
            dead.wait_until_nothing_is_left()

        assert held >= 2
        path.touch()
        with partisan("--async", "--workers_count", "2") as supervisor:
            wait_until(lambda: ended_though_leased(dead, *tasks))
            assert f"rescued {held}: {tasks[0].pk} Wait" in supervisor.output
            supervisor.signal(signal.SIGTERM)
            supervisor.wait()

        assert all(Task.objects.get(pk=task.pk).status == "finished" for task in tasks)
        assert not Task.objects.exclude(lost=0, suspect=False).exists()
        assert not Supervisor.objects.exists()

    def test_a_running_neighbour_takes_over_within_its_next_beat(self, tmp_path):
        path = tmp_path / "go on"
        with partisan("--async") as doomed, partisan("--async") as heir:
            tasks = [Wait(str(path)).delay() for _ in range(4)]
            wait_until(lambda: len(marks()) == 4)

            doomed.signal(signal.SIGKILL)
            doomed.wait()
            path.touch()
            wait_until(lambda: ended_though_leased(doomed, *tasks))

            assert "rescued" in heir.output
        assert Task.objects.filter(status="finished").count() == 4

    def test_its_starting_resets_nothing_that_runs_elsewhere(self, tmp_path):
        path = tmp_path / "go on"
        with partisan("--async", "--workers_count", "1"):
            task = Wait(str(path)).delay()
            wait_until(lambda: marks() == ["waits"])
            with partisan("--async", "--workers_count", "1"):
                path.touch()
                wait_until(lambda: ended(task))

        task.refresh_from_db()
        assert (task.claim_seq, marks()) == (1, ["waits", "goes on"])

    def test_a_table_that_is_gone_is_waited_for(self):
        """A restart would not bring it back, and would end what runs."""
        from django.db import connection

        with partisan() as supervisor:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE partisan_async_task RENAME TO hidden")
            try:
                supervisor.wait_for("beat failed, and will until somebody mends it")
            finally:
                with connection.cursor() as cursor:
                    cursor.execute("ALTER TABLE hidden RENAME TO partisan_async_task")
            task = Write("after").delay()
            wait_until(lambda: ended(task))
            assert supervisor.process.poll() is None

    def test_outcomes_that_could_not_be_written_are_an_exit_with_1(self, tmp_path):
        """The tasks run again elsewhere; whoever stopped it should know."""
        from partisan_async.embedded import EmbeddedPostgres

        runs, end = tmp_path / "runs", tmp_path / "end"
        run = f"""
            import pathlib, time
            pathlib.Path({str(runs)!r}).touch()
            while not pathlib.Path({str(end)!r}).exists():
                time.sleep(0.05)
            answer = 1
        """
        with EmbeddedPostgres() as server:
            env = environment(DATABASE_URL=server.url)
            django = [sys.executable, "-m", "django"]
            subprocess.run([*django, "migrate", "--verbosity", "0"], env=env, check=True)
            with partisan("--async", DATABASE_URL=server.url) as supervisor:
                code = "import django; django.setup()\nfrom tests.testapp.partisan_tasks import *\n"
                code += f"Tell({textwrap.dedent(run)!r}).delay()"
                subprocess.run([sys.executable, "-c", code], env=env, check=True)
                wait_until(runs.exists)
                server.stop()
                supervisor.signal(signal.SIGTERM)
                supervisor.wait_for("stopping: waiting for 1")
                end.touch()

                assert supervisor.wait() == 1
                supervisor.wait_until_nothing_is_left()
                assert "could not be written: the database is away" in supervisor.output


class TestQueues:
    def test_each_has_its_own_process_and_settings(self):
        settings = "tests.settings_two_queues"
        with (
            partisan("--async", DJANGO_SETTINGS_MODULE=settings) as default,
            partisan(
                "--async", "--queue_name", "elsewhere", DJANGO_SETTINGS_MODULE=settings
            ) as elsewhere,
        ):
            Write("here").delay()
            WriteElsewhere("there").delay()
            wait_until(ended)

            assert "queue 'default', 2 workers" in default.output
            assert "queue 'elsewhere', 1 worker," in elsewhere.output
            assert len(elsewhere.workers()) == 1
            pids = {psutil.Process(p.pid).pid for p in default.workers()}
            assert Task.objects.get(queue_name="elsewhere").worker_ids[0].split("/")[1] not in pids
