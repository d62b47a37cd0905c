"""One process that serves several queues: what it has once, and what each queue has by itself."""

import asyncio
import io
import re
import signal
import uuid
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import override_settings

from partisan_async import registry, steering
from partisan_async.models import Supervisor, Task
from partisan_async.operate import known
from partisan_async.settings import queue_settings
from partisan_async.supervisor import unserved
from partisan_async.supervisor.host import Host
from partisan_async.supervisor.workers.launch import WorkerStartError
from partisan_async.supervisor.workers.pool import Pool
from partisan_async.testing.live import _HostThread
from tests.conftest import ended, marks, wait_until
from tests.process import Partisan, environment, partisan
from tests.test_health import get, port_of
from tests.test_notify import Manager
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Enqueue, Nothing, Sleep, Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = ("--async", "--queue_name", "a", "--queue-name", "b", "--workers_count", "1")


def sessions():
    """What the process's connections are for."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'partisan\\_async %'"
        )
        return sorted(name.removeprefix("partisan_async ") for (name,) in cursor.fetchall())


def woken():
    return [name for name in sessions() if name.endswith("listen")]


@contextmanager
def live_host(queues=("a", "b"), **about):
    """Run a host beside the test."""
    registry.autodiscover()
    settings = {name: queue_settings(name) for name in queues}
    host = Host(settings, **{"beat_seconds": 0.5, "ttl_seconds": 10} | about)
    thread = _HostThread(host)
    thread.start()
    try:
        thread.wait_until_started()
        yield host
    finally:
        thread.stop()


class TestQueues:
    def test_it_runs_the_tasks_of_each_in_workers_of_its_own(self):
        with partisan(*BOTH, words="started: queue 'b'") as running:
            running.wait_for("started: queue 'a'")
            first = [Write(f"{name} {n}").delay(queue_name=name) for n in range(5) for name in "ab"]
            wait_until(lambda: ended(*first))
            (a,), (b,) = (
                Supervisor.objects.filter(queue_name=name).values_list("process") for name in "ab"
            )
            assert a == b
            assert len(running.workers()) == 2
            pids = {n: {m.pid for m in Mark.objects.all() if m.text.startswith(n)} for n in "ab"}
            assert not pids["a"] & pids["b"]

            running.signal(signal.SIGTERM)
            assert running.wait() == 0, running.output
            assert running.output.count("stopped: queue") == 2
            assert running.output.count("listening: queues 'a', 'b' are woken by NOTIFY") == 1
            running.wait_until_nothing_is_left()
        assert not Supervisor.objects.exists()

    def test_one_that_is_full_keeps_no_other_from_its_tasks(self, tmp_path):
        """It stays full until the other's task has ended."""
        path = tmp_path / "go on"
        with live_host():
            long = [Wait(str(path), number).delay(queue_name="a") for number in range(20)]
            wait_until(lambda: marks() == ["waits"] * 2)  # its workers
            other = Nothing().delay(queue_name="b")
            wait_until(lambda: ended(other))
            assert marks() == ["waits"] * 2
            path.touch()
            wait_until(lambda: ended(*long))

    def test_of_connections_each_has_one_for_claims_and_all_have_the_others(self):
        with live_host("abcde"):
            tasks = [Nothing(name).delay(queue_name=name) for name in "abcde"]
            wait_until(lambda: ended(*tasks))
            found = [name for name in sessions() if "worker" not in name]

        own = [f"{name} claim" for name in "abcde"]
        assert sorted(own + [f"a b c d e {what}" for what in ("beat", "listen", "settle")]) == found

    def test_one_statement_beats_for_all(self, monkeypatch):
        with live_host("abcde") as host:
            beats, execute = [], host.shared.beat.execute

            async def listening(statement):
                if "me_0" in statement.params:
                    beats.append(sum(key.startswith("me_") for key in statement.params))
                return await execute(statement)

            monkeypatch.setattr(host.shared.beat, "execute", listening)
            # Supervisors join one by one: the first beats may be of some of them.
            wait_until(lambda: beats[-4:] == [5] * 4)

    def test_one_that_is_drained_ends_and_the_others_go_on(self):
        with live_host() as host:
            steering.drain(host.supervisors[0].id)
            wait_until(lambda: not Supervisor.objects.filter(queue_name="a").exists())
            task, left = Nothing().delay(queue_name="b"), Nothing().delay(queue_name="a")
            wait_until(lambda: ended(task))
            left.refresh_from_db()
            assert left.status == Task.STATUS_NEW

    def test_its_queue_is_warned_of_then(self, monkeypatch, caplog):
        monkeypatch.setattr(unserved, "LOOK_EVERY_SECONDS", 0.2)
        with live_host(settings_of=queue_settings) as host:
            steering.drain(host.supervisors[0].id)
            wait_until(lambda: not Supervisor.objects.filter(queue_name="a").exists())
            Nothing().delay(queue_name="a")
            wait_until(lambda: "no supervisor serves queue 'a'" in caplog.text)
            assert not Supervisor.objects.filter(queue_name="a").exists()

    def test_one_that_is_drained_while_it_starts_keeps_no_other_from_being_up(self, monkeypatch):
        """A service manager waits to be told that all are."""
        start = Pool.start

        async def start_or_hang(pool):
            # That of the first supervisor never comes up.
            await (asyncio.sleep(3600) if pool is hanging else start(pool))

        monkeypatch.setattr(Pool, "start", start_or_hang)
        registry.autodiscover()
        host = Host({name: queue_settings(name) for name in "ab"}, beat_seconds=0.5)
        hanging = host.supervisors[0].parts.dispatcher.pool
        thread = _HostThread(host)
        thread.start()
        try:
            wait_until(lambda: Supervisor.objects.count() == 2)
            assert not host.started.is_set()
            steering.drain(host.supervisors[0].id)
            thread.wait_until_started()
            task = Nothing().delay(queue_name="b")
            wait_until(lambda: ended(task))
        finally:
            thread.stop()

    def test_where_all_are_drained_it_has_ended(self):
        with partisan(*BOTH) as running:
            running.wait_for("started: queue 'a'")
            running.wait_for("started: queue 'b'")
            for pk in Supervisor.objects.values_list("pk", flat=True):
                steering.drain(pk)
            assert running.wait() == 0, running.output

    def test_a_queue_that_is_paused_keeps_no_other(self):
        steering.pause("a")
        with live_host():
            held, task = Nothing().delay(queue_name="a"), Nothing().delay(queue_name="b")
            wait_until(lambda: ended(task))
            held.refresh_from_db()
            assert held.status == Task.STATUS_NEW
            steering.resume("a")
            wait_until(lambda: ended(held))


class TestListening:
    def test_each_listen_dsn_has_one_connection(self):
        """Without polls: each queue is woken by the one that is its own."""
        dsn = environment()["DATABASE_URL"]
        config = {name: {"LISTEN_DSN": dsn} for name in "cd"}
        with override_settings(PARTISAN_CONFIG=config, SLEEP_DELAY_SECONDS=3600), live_host("abcd"):
            wait_until(lambda: len(woken()) == 2)
            tasks = [Nothing(name).delay(queue_name=name) for name in "abcd"]
            wait_until(lambda: ended(*tasks))

            assert woken() == ["a b listen", "c d listen"]

    def test_one_that_cannot_be_reached_is_of_its_queues_alone(self):
        """They are polled, and the others are woken."""
        config = {"b": {"LISTEN_DSN": "host=127.0.0.1 port=1", "SLEEP_DELAY_SECONDS": 0.1}}
        config["a"] = {"SLEEP_DELAY_SECONDS": 3600}
        with override_settings(PARTISAN_CONFIG=config), live_host("ab"):
            wait_until(lambda: woken() == ["a listen"])
            tasks = [Nothing(name).delay(queue_name=name) for name in "ab"]
            wait_until(lambda: ended(*tasks))


class TestAllQueues:
    @pytest.mark.parametrize(
        "backends",
        [
            ["a"],
            {"default": "a"},
            {"default": {"QUEUES": None}},
            {"default": {"QUEUES": "a"}},
            {"default": {"QUEUES": [["a"], 1]}},
        ],
    )
    def test_tasks_of_a_wrong_shape_name_none(self, backends):
        """Django tells of them, or a check of ours; a supervisor runs what else there is."""
        with override_settings(TASKS=backends):
            assert not {"a", 1} & set(known.named())

    def test_it_serves_those_that_are_known_and_those_that_come_up(self, monkeypatch):
        monkeypatch.setattr(unserved, "LOOK_EVERY_SECONDS", 0.3)
        with live_host(["a"], settings_of=queue_settings) as host:
            name = f"q{uuid.uuid4().hex}"
            task = Write("late").delay(queue_name=name)
            wait_until(lambda: ended(task))
            again = Write("again").delay(queue_name=name)
            wait_until(lambda: ended(again))
            first = Write("first").delay(queue_name="a")
            wait_until(lambda: ended(first))

            assert {"a", name, "ticks"} <= {each.queue_name for each in host.supervisors}
            wait_until(lambda: host.shared.wakeups[None].proven.is_set())

    def test_one_that_came_up_may_be_drained(self, monkeypatch):
        monkeypatch.setattr(unserved, "LOOK_EVERY_SECONDS", 0.3)
        with live_host(["a"], settings_of=queue_settings) as host:
            task = Write("late").delay(queue_name="late")
            wait_until(lambda: ended(task))
            wait_until(lambda: not host.hindrance())
            steering.drain(Supervisor.objects.get(queue_name="late").pk)
            wait_until(lambda: not Supervisor.objects.filter(queue_name="late").exists())
            wait_until(lambda: not host.hindrance())

    def test_one_that_came_up_and_cannot_start_ends_all(self, monkeypatch, caplog):
        """Else its tasks would wait, and nobody would know why."""
        monkeypatch.setattr(unserved, "LOOK_EVERY_SECONDS", 0.3)

        async def fail(pool):
            raise WorkerStartError("it cannot start")

        with pytest.raises(WorkerStartError), live_host(["a"], settings_of=queue_settings):
            monkeypatch.setattr(Pool, "start", fail)
            Write("late").delay(queue_name="late")
            wait_until(lambda: not Supervisor.objects.exists())
        assert "stopping: an unexpected error" in caplog.text

    def test_by_the_command(self):
        task = Write("there").delay(queue_name="of_a_row")
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_two_queues"}
        options = ("--all_queues", "--async", "--workers_count", "1", "--once")
        running = Partisan(*options, **env)
        try:
            code, said = running.wait(), running.output
        finally:
            running.end()
        assert code == 0, said
        task.refresh_from_db()
        assert task.status == Task.STATUS_FINISHED
        for name in ("default", "elsewhere", "of_a_row", "ticks"):
            assert f"started: queue '{name}'" in said


class TestOnce:
    def test_tasks_that_go_from_queue_to_queue_are_run_to_their_end(self):
        Enqueue("x").delay(queue_name="a")  # it enqueues into 'default'
        Enqueue("y").delay(queue_name="b")
        queues = [word for name in ("a", "b", "default") for word in ("--queue_name", name)]
        running = Partisan("--once", "--workers_count", "1", *queues)
        try:
            code, said = running.wait(), running.output
        finally:
            running.end()
        assert code == 0, said
        assert sorted(marks()) == ["x", "y"]
        assert "once: queues 'a', 'b', 'default', 4 runs: 4 finished" in said

    def test_one_that_is_drained_is_not_waited_for(self, tmp_path):
        path = tmp_path / "go on"
        queues = ("--queue_name", "a", "--queue_name", "b")
        task = Wait(str(path)).delay(queue_name="b")
        running = Partisan("--once", "--workers_count", "1", *queues)
        try:
            wait_until(lambda: marks() == ["waits"])
            steering.drain(Supervisor.objects.get(queue_name="a").pk)
            wait_until(lambda: not Supervisor.objects.filter(queue_name="a").exists())
            path.touch()
            code, said = running.wait(), running.output
        finally:
            running.end()
        assert ended(task)
        assert (code, "It was stopped before all had run." in said) == (1, True), said


class TestEnd:
    def test_sigterm_lets_the_tasks_of_each_end(self):
        with partisan(*BOTH) as running:
            tasks = [Sleep(1, name).delay(queue_name=name) for name in "ab"]
            wait_until(lambda: {"start a", "start b"} <= set(marks()))
            running.signal(signal.SIGTERM)
            assert running.wait() == 0, running.output
        assert all(ended(task) for task in tasks)
        assert sorted(marks()) == ["end a", "end b", "start a", "start b"]

    def test_a_second_one_gives_the_tasks_of_each_back(self):
        with partisan(*BOTH) as running:
            tasks = [Sleep(600, name).delay(queue_name=name) for name in "ab"]
            wait_until(lambda: {"start a", "start b"} <= set(marks()))
            running.signal(signal.SIGINT)
            running.signal(signal.SIGINT)
            assert running.wait() == 0, running.output
        for task in tasks:
            task.refresh_from_db()
            assert (task.status, task.tries) == (Task.STATUS_NEW, 0)

    def test_after_sigkill_another_takes_over_the_tasks_of_each(self):
        with partisan(*BOTH) as running:
            tasks = [Sleep(2, name).delay(queue_name=name) for name in "ab"]
            wait_until(lambda: {"start a", "start b"} <= set(marks()))
            running.signal(signal.SIGKILL)
            running.wait()
            with partisan(*BOTH):
                wait_until(lambda: ended(*tasks))
        assert sorted(marks()) == ["end a", "end b", "start a", "start a", "start b", "start b"]

    def test_one_part_that_fails_ends_all_in_order(self, caplog):
        class Broken(BaseException):
            """Nothing handles it."""

        with pytest.raises(Broken), live_host() as host:
            tasks = [Sleep(0.5, name).delay(queue_name=name) for name in "ab"]
            wait_until(lambda: {"start a", "start b"} <= set(marks()))

            def fail(*_):
                raise Broken

            for each in host.supervisors:  # as by one error that all of them meet
                each.parts.claimer._take = fail
                each.parts.agenda.wake.set()
            wait_until(lambda: not Supervisor.objects.exists())
        for task in tasks:
            task.refresh_from_db()
            assert task.status == Task.STATUS_FINISHED
        assert sorted(marks()) == ["end a", "end b", "start a", "start b"]
        assert "stopping: an unexpected error" in caplog.text


class TestReports:
    def test_health_and_metrics_are_of_all_queues(self):
        with partisan(*BOTH, "--health-port", "0") as running:
            running.wait_for("started: queue 'a'")
            running.wait_for("started: queue 'b'")
            port = port_of(running)
            assert get(port, "/live")[0] == 200
            assert get(port, "/ready")[0] == 200
            text = get(port, "/metrics")[1]
            assert text.count("# TYPE partisan_workers gauge") == 1
            assert {'partisan_workers{queue="a"} 1.0', 'partisan_workers{queue="b"} 1.0'} <= set(
                text.splitlines()
            )
            task = Sleep(5, "long").delay(queue_name="a")
            wait_until(lambda: "start long" in marks())
            steering.drain(Supervisor.objects.get(queue_name="a").pk)
            wait_until(lambda: get(port, "/ready")[0] == 503)
            assert re.match(r"queue 'a': draining since ", get(port, "/ready")[1])
            wait_until(lambda: ended(task))
            wait_until(lambda: get(port, "/ready")[0] == 200)
            assert 'partisan_workers{queue="a"}' not in get(port, "/metrics")[1]

    def test_a_service_manager_is_told_once(self):
        address = f"@partisan-{uuid.uuid4().hex}"
        manager = Manager(address)
        try:
            with partisan(*BOTH, NOTIFY_SOCKET=address) as running:
                heard = manager.listen("READY=1")
                assert heard[-1][1] == (
                    "STATUS=queue 'a': ready; 0 of 1 workers busy;"
                    " queue 'b': ready; 0 of 1 workers busy"
                )
                running.signal(signal.SIGTERM)
                assert manager.listen("STOPPING=1")[-1] == ["STOPPING=1"]
                assert running.wait() == 0
        finally:
            manager.close()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"queue_name": ["a", "a"]}, "--queue_name a is there twice; leave one out."),
            ({"queue_name": ["a"], "all_queues": True}, "--all_queues is all of them: leave out"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, options, said):
        with pytest.raises(CommandError, match=said):
            call_command("start_partisan", **options, stdout=io.StringIO())

    def test_a_queue_has_a_name(self):
        running = Partisan("--queue_name", "", "--queue_name", "b")
        try:
            assert running.wait() == 2
            assert "argument --queue_name/--queue-name: '' must" in running.output
        finally:
            running.end()
