"""Who had what done, by which way: in the log, and in the admin's own."""

import io
import logging
import os
import pwd
import subprocess
import sys
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from partisan_async import steering
from partisan_async.models import Schedule, Supervisor, Task
from partisan_async.postgres import parameters
from partisan_async.steering import audit
from partisan_async.testing import run_pending
from tests.process import ROOT, environment
from tests.test_admin import LIST, SUPERVISORS, failed
from tests.test_dashboard import supervise
from tests.testapp.partisan_tasks import Tell, Write

pytestmark = pytest.mark.django_db(transaction=True)

ME = pwd.getpwuid(os.getuid()).pw_name
DASHBOARD = "/admin/partisan_async/dashboard/"
SCHEDULES = "/admin/partisan_async/schedule/"


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)


@pytest.fixture
def told(caplog):
    """What was put down since it was last asked."""
    caplog.set_level(logging.INFO, "partisan_async")

    def told():
        found = [each for each in caplog.records if getattr(each, "event", "") == "steered"]
        caplog.clear()
        return [(each.action, each.way, each.by, each.getMessage()) for each in found]

    return told


def schedule():
    return Schedule.objects.create(
        processor_class="Tick", queue_name="ticks", schedule="every 9 s", set_by=uuid.uuid4()
    )


def ended():
    task = Write().delay()
    Task.objects.filter(pk=task.pk).update(
        status="error", finished_at=timezone.now() - timedelta(days=1)
    )
    return task


class TestCode:
    def test_all_that_is_steered_is_put_down(self, told):
        task, later = (
            Write().delay(),
            Write(1).delay(execute_after=timezone.now() + timedelta(hours=1)),
        )
        old, supervisor = ended(), supervise()
        schedule()

        steering.run_now([later.pk])
        steering.cancel([task.pk, later.pk])
        steering.retry([task.pk])
        steering.delete([later.pk])
        steering.pause("default")
        steering.resume("default")
        steering.switch_off(["Tick"])
        steering.switch_on(["Tick"])
        steering.drain(supervisor.pk)
        steering.prune(timedelta(hours=1))

        by = f"by {ME} (code)"
        assert [line for *_, line in told()] == [
            f"steered: run-now {later.pk}, {by}",
            f"steered: cancel {task.pk}, {later.pk}, {by}",
            f"steered: retry {task.pk}, {by}",
            f"steered: delete {later.pk}, {by}",
            f"steered: pause queue 'default', {by}",
            f"steered: resume queue 'default', {by}",
            f"steered: switch-off Tick, {by}",
            f"steered: switch-on Tick, {by}",
            f"steered: drain {supervisor.pk}, {by}",
            f"steered: prune 1 error of queue 'default', {by}",
        ]
        assert not Task.objects.filter(pk=old.pk).exists()

    def test_what_changed_nothing_is_not(self, told):
        steering.cancel([4711])
        steering.resume("default")
        steering.switch_off(["Nobody"])
        steering.drain(uuid.uuid4())
        steering.prune(timedelta(0))

        assert told() == []

    def test_what_is_rolled_back_was_done_by_nobody(self, told):
        task = Write().delay()
        with pytest.raises(RuntimeError), transaction.atomic():
            steering.cancel([task.pk])
            raise RuntimeError

        assert told() == []

    def test_within_a_transaction_it_comes_with_the_commit(self, told):
        task = Write().delay()
        with transaction.atomic():
            steering.cancel([task.pk])
            assert told() == []

        assert len(told()) == 1

    def test_without_autocommit_it_comes_at_once(self, told):
        """Nobody here knows when such a transaction ends."""
        task = Write().delay()
        transaction.set_autocommit(False)
        try:
            steering.cancel([task.pk])
            transaction.commit()
        finally:
            transaction.set_autocommit(True)

        assert len(told()) == 1

    def test_what_was_done_before_the_server_was_lost_is_put_down(self, told, monkeypatch):
        """Of two tasks one is locked by another, so that a second attempt is made."""
        settings = connection.settings_dict
        free, locked = Write(1).delay(), Write(2).delay()
        attempts = []

        def on_statement(execute, sql, *arguments):
            if "SET status = 'error'" in sql:
                attempts.append(sql)
                if len(attempts) == 2:
                    pid = connection.connection.info.backend_pid
                    other.execute("SELECT pg_terminate_backend(%s, 30000)", [pid])
                    gone.setitem(settings, "PORT", "1")
            return execute(sql, *arguments)

        with psycopg.connect(**parameters.parameters("default")) as other:
            other.execute("SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE", [locked.pk])
            with (
                monkeypatch.context() as gone,
                connection.execute_wrapper(on_statement),
                pytest.raises(OperationalError),
            ):
                steering.cancel([free.pk, locked.pk])

        ((action, *_, line),) = told()
        assert (action, line) == ("cancel", f"steered: cancel {free.pk}, by {ME} (code)")
        assert Task.objects.get(pk=free.pk).status == "error"

    def test_of_a_tasks_code_it_is_the_task(self, told):
        """Nobody sits before a worker."""
        other = Write().delay(execute_after=timezone.now() + timedelta(hours=1))
        code = f"from partisan_async import steering; answer = steering.cancel([{other.pk}])"
        task = Tell(code).delay()

        run_pending()

        ((action, way, by, _),) = told()
        assert (action, way, by) == ("cancel", "code", f"task {task.pk} Tell")

    def test_many_are_counted_and_all_on_the_record(self, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        tasks = Write.bulk_delay([Write(n) for n in range(audit.NAMED + 5)])

        steering.cancel([task.pk for task in tasks])

        (line,) = [each for each in caplog.records if getattr(each, "event", "") == "steered"]
        assert " and 5 more, by " in line.getMessage()
        assert sorted(line.task_ids) == [task.pk for task in tasks]


class TestCommand:
    def test_each_subcommand_says_who(self, told):
        task = Write().delay()
        later = Write(1).delay(execute_after=timezone.now() + timedelta(hours=1))
        ended()
        supervisor = supervise()
        done = []
        for words in (
            ("run-now", later.pk), ("cancel", task.pk), ("retry", task.pk), ("pause", "default"),
            ("resume", "default"), ("drain", str(supervisor.pk)),
            ("prune", "--older-than", "1h", "--yes"),
        ):  # fmt: skip
            call_command("partisan", *words, stdout=io.StringIO(), stderr=io.StringIO())
            ((action, way, by, _),) = told()
            done.append(action)
            assert (way, by) == ("command", ME)

        assert done == ["run-now", "cancel", "retry", "pause", "resume", "drain", "prune"]

    def test_who_came_by_sudo_is_named(self, told, monkeypatch):
        monkeypatch.setenv("SUDO_USER", "ada")
        task = Write().delay()

        call_command("partisan", "cancel", task.pk, stdout=io.StringIO())

        assert told()[0][2] == f"{ME}, by sudo of ada"

    def test_the_environment_is_not_believed_about_who_it_is(self, told, monkeypatch):
        """As ``getpass.getuser()`` would: ``LOGNAME=bob manage.py partisan cancel``."""
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.setenv(name, "bob")
        task = Write().delay()

        call_command("partisan", "cancel", task.pk, stdout=io.StringIO())

        assert told()[0][2] == ME

    def test_a_name_forges_no_line(self, told, monkeypatch):
        monkeypatch.setenv("SUDO_USER", "ada\nsteered: cancel 1, by bob (command)")
        task = Write().delay()

        call_command("partisan", "cancel", task.pk, stdout=io.StringIO())

        assert "\n" not in told()[0][3]

    def test_neither_does_what_it_was_done_to(self, told):
        """A hand may have written any name into the row of a schedule."""
        odd = "Tick\nsteered: cancel 1, by bob (command)"
        row = schedule()
        Schedule.objects.filter(pk=row.pk).update(processor_class=odd)

        assert steering.switch_off([odd]) == [odd]

        assert "\n" not in told()[0][3]

    def test_a_user_without_a_name_has_a_number(self, monkeypatch):
        """As in a container."""

        def unknown(uid):
            raise KeyError(uid)

        monkeypatch.setattr(pwd, "getpwuid", unknown)

        assert audit.user_of_the_system() == f"uid {os.getuid()}"

    def test_it_is_in_the_log_that_the_settings_keep(self, tmp_path):
        """As the page says how: a handler for the package's lines, at INFO."""
        task = Write().delay()
        (tmp_path / "kept.py").write_text(
            "from tests.settings import *\n"
            "LOGGING = {'version': 1, 'disable_existing_loggers': False, 'handlers': {'file':"
            f" {{'class': 'logging.FileHandler', 'filename': {str(tmp_path / 'log')!r}}}}},"
            " 'loggers': {'partisan_async': {'handlers': ['file'], 'level': 'INFO'}}}\n"
        )
        env = environment(DJANGO_SETTINGS_MODULE="kept", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
        words = [sys.executable, "-m", "django", "partisan", "cancel", str(task.pk)]
        subprocess.run(words, env=env, check=True, capture_output=True)

        assert f"steered: cancel {task.pk}, by {ME} (command)" in (tmp_path / "log").read_text()


class TestAdmin:
    def history(self):
        """What Django's log has of the user's, the oldest first."""
        return [
            (entry.content_type.model, entry.object_id, entry.get_change_message())
            for entry in LogEntry.objects.order_by("pk")
        ]

    def test_tasks(self, admin_client, told):
        task = failed()
        done = []
        for action in ("retry", "cancel", "delete"):
            chosen = {"action": action, "confirmed": 1, "_selected_action": task.pk}
            admin_client.post(LIST, chosen | {"ids": task.pk})
            done += told()

        assert [(action, way, by) for action, way, by, _ in done] == [
            (action, "admin", "admin") for action in ("retry", "cancel", "delete")
        ]
        assert [what for *_, what in self.history()] == ["Retry", "Cancel", "Delete"]

    def test_queues_and_supervisors(self, admin_client, told):
        supervisor = supervise()
        for _ in range(2):  # the second time it is no news
            admin_client.post(DASHBOARD, {"pause": "default"})
        admin_client.post(DASHBOARD, {"resume": "default"})
        chosen = {"action": "drain", "confirmed": 1, "_selected_action": supervisor.pk}
        admin_client.post(SUPERVISORS, chosen)

        assert [each[:3] for each in told()] == [
            (action, "admin", "admin") for action in ("pause", "resume", "drain")
        ]
        assert self.history() == [
            ("pausedqueue", "default", "Pause"),
            ("pausedqueue", "default", "Resume"),
            ("supervisor", str(supervisor.pk), "Drain"),
        ]
        assert Supervisor.objects.get().draining

    def test_schedules(self, admin_client, told):
        schedule()
        for action in ("switch_off", "switch_off", "switch_on", "run_once", "run_once"):
            admin_client.post(SCHEDULES, {"action": action, "_selected_action": "Tick"})

        assert [each[:3] for each in told()] == [
            (action, "admin", "admin") for action in ("switch-off", "switch-on", "run-once")
        ]
        task = Task.objects.get()
        assert self.history() == [
            ("schedule", "Tick", "Switch off"),
            ("schedule", "Tick", "Switch on"),
            ("schedule", "Tick", f"Run once: task {task.pk}"),
        ]
