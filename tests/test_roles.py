"""The rights that ``docs/howto/database-roles.md`` grants: they are enough, and they are all.

The statements are the page's own, with the roles' names changed: roles belong to the whole server,
and tests may run beside each other.
"""

import io
import re
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.utils import timezone

from partisan_async import schedules, steering
from partisan_async.management.start_partisan.conditions import require_database
from partisan_async.models import PausedQueue, Schedule, Supervisor, Tally, Task
from partisan_async.operate import doctor, reasons, rights
from partisan_async.operate.doctor import roles
from partisan_async.testing import live_supervisor
from partisan_async.unique import Unique
from tests.conftest import ended, wait_until
from tests.limited import limit, row
from tests.process import Partisan, environment
from tests.site_rules import execute
from tests.test_docs import blocks
from tests.testapp.partisan_tasks import Sleep, Sync, Tell, Tick, Write, WriteUnique

PAGE = "docs/howto/database-roles.md"
CREATED, GRANTED, STEERING, DEFAULTS, ROWS = (block.text for block in blocks(PAGE, "sql"))
WHO = ("owner", "web", "supervisor", "admin")
PASSWORD = "for the tests alone"

SITE = """
GRANT SELECT, INSERT, UPDATE, DELETE ON testapp_mark TO site_supervisor;
GRANT USAGE ON SEQUENCE testapp_mark_id_seq TO site_supervisor;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth_user, django_session TO site_admin;
GRANT SELECT ON auth_group, auth_permission, auth_user_groups, auth_user_user_permissions,
    auth_group_permissions, django_content_type TO site_admin;
GRANT SELECT, INSERT ON django_admin_log TO site_admin;
"""
"""What is the site's own to grant, as the page says."""


def own(sql):
    """The page's statements, for roles that no other database of this server has."""
    return sql.replace("site_", f"{connection.settings_dict['NAME']}_")


@pytest.fixture
def site(transactional_db):
    """The roles, with what the page grants them and nothing else."""
    execute(own(CREATED), "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    try:
        execute(*(f"ALTER ROLE {own(f'site_{who}')} PASSWORD '{PASSWORD}'" for who in WHO))
        execute(own(GRANTED), own(SITE))
        yield
    finally:
        connection.close()
        execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        for who in WHO:
            execute(own(f"DROP OWNED BY site_{who}; DROP ROLE site_{who}"))


@contextmanager
def connected_as(who):
    """Connect as this role, here and in processes that start meanwhile."""
    settings = connection.settings_dict
    kept = settings["USER"], settings["PASSWORD"]
    connection.close()
    settings["USER"], settings["PASSWORD"] = own(f"site_{who}"), PASSWORD
    try:
        yield
    finally:
        connection.close()
        settings["USER"], settings["PASSWORD"] = kept


@contextmanager
def supervising(*options):
    with connected_as("supervisor"):
        running = Partisan("--async", *options)
    try:
        running.wait_for("started: queue")
        yield running
        assert "permission denied" not in running.output
        assert "rights are missing" not in running.output
    finally:
        running.end()


def granted():
    """Who is granted what on which table, read off the page."""
    found = {}
    statement = r"GRANT ([\w ,()]+?) ON (SEQUENCE )?(\w+) TO site_(\w+);"
    for whats, of_sequence, name, who in re.findall(statement, GRANTED):
        table = name.removesuffix("_id_seq")
        more = ("USAGE ON SEQUENCE",) if of_sequence else tuple(whats.split(", "))
        tables = found.setdefault(who, {})
        tables[table] = (*tables.get(table, ()), *more)
    return found


class TestPage:
    def test_it_grants_what_the_code_asks_for(self):
        """Else ``start_partisan`` would name other rights than the page, or the page too many."""
        assert granted()["supervisor"] == rights.SUPERVISOR
        assert granted()["admin"] == rights.OPERATOR

    def test_every_table_of_ours_is_on_it(self):
        """A new one that nobody granted would end all supervisors at an upgrade."""
        models = apps.get_app_config("partisan_async").get_models()
        ours = {model._meta.db_table for model in models if not model._meta.proxy}

        assert ours <= granted()["supervisor"].keys()
        assert ours <= granted()["admin"].keys()

    def test_what_a_supervisor_cannot_do_without_is_part_of_what_it_has(self):
        for table, whats in rights.ESSENTIAL.items():
            assert set(whats) <= set(rights.SUPERVISOR[table])


class TestWeb:
    @pytest.fixture
    def web(self, site):
        with connected_as("web"):
            yield

    def test_it_enqueues_one_and_many(self, web):
        one = Write("one").delay()
        many = Write.bulk_delay([Write(n) for n in range(3)])
        later = Write("later").delay(execute_after=timezone.now() + timedelta(hours=1))
        async_to_sync(Write("async").adelay)()
        with transaction.atomic():
            Write("within").delay()

        assert [one.status, later.status, len(many)] == ["new", "scheduled", 3]
        assert Task.objects.count() == 7

    def test_it_enqueues_more_than_one_statement_takes(self, web):
        """Then the numbers are drawn first."""
        assert len(Write.bulk_delay([Write(n) for n in range(1001)])) == 1001

    def test_a_call_whose_identical_one_waits_is_ignored(self, web):
        """It locks that one, for which a role must be able to update a column of it."""
        first = WriteUnique("x").delay()

        assert WriteUnique("x").delay() == first
        twins = WriteUnique.bulk_delay([WriteUnique("x"), WriteUnique("y")])
        assert [twins[0] == first, twins[1].is_twin] == [True, False]

    @pytest.mark.parametrize("more", [{}, {"while_running": True}, {"within_seconds": 60}])
    def test_so_is_one_that_says_by_what_for_how_long(self, web, monkeypatch, more):
        monkeypatch.setattr(Sync, "UNIQUE", Unique(by=("account",), **more))
        first = Sync("ada").delay()

        assert Sync("ada", "again").delay() == first
        assert Sync.bulk_delay([Sync("ada", "more"), Sync("bob")])[0] == first

    def test_one_that_changes_its_twin_needs_more(self, site, monkeypatch):
        """As the page says: it writes to that row."""
        for on_twin in ("replace", "sooner"):
            monkeypatch.setattr(Sync, "UNIQUE", Unique(by=("account",), on_twin=on_twin))
            with connected_as("web"):
                Sync(on_twin).delay()
                with pytest.raises(ProgrammingError, match="permission denied"):
                    Sync(on_twin, "again").delay(priority=1)
            execute(own("GRANT UPDATE ON partisan_async_task TO site_web"))
            with connected_as("web"):
                assert Sync(on_twin, "again").delay(priority=1).is_twin
            execute(own("REVOKE UPDATE ON partisan_async_task FROM site_web"))
            execute(own("GRANT UPDATE (traceparent) ON partisan_async_task TO site_web"))

    def test_without_a_column_to_update_it_is_denied(self, site):
        """What the page warns of: the right that is easily left out."""
        execute(own("REVOKE UPDATE (traceparent) ON partisan_async_task FROM site_web"))
        with connected_as("web"):
            WriteUnique("x").delay()
            with pytest.raises(ProgrammingError, match="permission denied"):
                WriteUnique("x").delay()

    def test_it_waits_for_results(self, site):
        with supervising(), connected_as("web"):
            task = Tell("answer = 42").delay()
            assert task.wait(40).result == 42

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE partisan_async_task SET arguments = '{}'",
            "UPDATE partisan_async_task SET status = 'new'",
            "DELETE FROM partisan_async_task",
            "SELECT * FROM partisan_async_supervisor",
            "INSERT INTO partisan_async_pausedqueue VALUES ('default', now())",
            "UPDATE partisan_async_schedule SET enabled = false",
        ],
    )
    def test_it_can_do_nothing_else(self, web, statement):
        with pytest.raises(ProgrammingError, match="permission denied"):
            execute(statement)

    def test_to_steer_it_needs_more(self, site):
        with connected_as("web"):
            task = Write().delay()
            with pytest.raises(ProgrammingError, match="permission denied"):
                steering.cancel([task.pk])

    def test_it_steers_from_code_with_what_the_page_grants_for_it(self, site):
        execute(own(STEERING))
        Schedule.objects.create(
            processor_class="Tick", queue_name="ticks", schedule="?", set_by=uuid.uuid4()
        )
        with connected_as("web"):
            task = Write().delay()
            later = Write().delay(execute_after=timezone.now() + timedelta(hours=1))

            assert steering.run_now([later.pk]) == [later.pk]
            assert steering.cancel([task.pk]) == [task.pk]
            assert steering.retry([task.pk]) == [task.pk]
            steering.cancel([task.pk])
            assert steering.pause("default")
            assert steering.pause(processor="Tick")
            assert steering.resume(processor="Tick")
            assert steering.resume("default")
            assert steering.switch_off(["Tick"]) == ["Tick"]
            assert steering.set_limit("x", 2)
            assert steering.set_limit("x", 3)
            assert steering.clear_limit("x")
            assert not steering.drain(uuid.uuid4())
            assert steering.delete([task.pk]) == [task.pk]
            assert steering.prune(timedelta(0)).deleted == 0

    def test_what_waits_for_limits_needs_one_more_to_be_run_again(self, site):
        """A role that was set up by the page of the release before has the others."""
        execute(own(STEERING), own("REVOKE ALL ON partisan_async_limit FROM site_web"))
        limit(running=1)
        plain, limited = Write().delay(), row()
        with connected_as("web"):
            steering.cancel([plain.pk, limited.pk])
            assert steering.retry([plain.pk]) == [plain.pk]
            with pytest.raises(ProgrammingError, match="denied for table partisan_async_limit"):
                steering.retry([limited.pk])
            assert Task.objects.get(pk=limited.pk).status == "error"
        execute(own(STEERING))
        with connected_as("web"):
            assert steering.retry([limited.pk]) == [limited.pk]


class TestSupervisor:
    def test_its_whole_life(self, site):
        """Claims, promotes, rescues, settles, ticks, tallies, beats, is steered, and ends."""
        orphan = Write("orphan").delay()
        Task.objects.update(status="in_process", claimed_by=uuid.uuid4())
        Write("soon").delay(execute_after=timezone.now() + timedelta(seconds=1))
        with supervising() as running:
            wait_until(lambda: ended())
            supervisor = Supervisor.objects.get()
            seen = supervisor.last_seen_at
            long = Sleep(60, "never").delay()
            wait_until(lambda: Task.objects.get(pk=long.pk).status == "in_process")
            steering.cancel([long.pk])
            wait_until(lambda: f"taken over by another supervisor: {long.pk}" in running.output)
            wait_until(lambda: Supervisor.objects.get().last_seen_at > seen)
            wait_until(Tally.objects.exists)
            steering.pause("default")
            running.wait_for("paused: queue")
            steering.resume("default")
            steering.drain(supervisor.pk)
            assert running.wait() == 0

        orphan.refresh_from_db()
        assert (orphan.status, Supervisor.objects.count()) == ("finished", 0)

    def test_it_ticks(self, site):
        with supervising("--queue_name", Tick.QUEUE_NAME):
            wait_until(lambda: Task.objects.filter(status="finished").count() > 1)
            assert Schedule.objects.get(processor_class="Tick").last_tick is not None

    def test_it_prunes_and_deletes(self, site):
        with (
            connected_as("supervisor"),
            live_supervisor(
                WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=0.0, DELETE_TASKS_ON_COMPLETE=True
            ),
        ):
            Write().delay()
            wait_until(lambda: not Task.objects.exists())
        Write("old").delay()
        Task.objects.update(status="finished", finished_at=timezone.now() - timedelta(hours=1))
        with (
            connected_as("supervisor"),
            live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=1.0),
        ):
            wait_until(lambda: not Task.objects.exists())


def start():
    """Run ``start_partisan`` as far as it looks at the database."""
    require_database()


class TestStart:
    """It names the GRANT, where there was a traceback or a claim that never came."""

    @pytest.mark.parametrize(
        ("what", "table"),
        [(what, table) for table, whats in rights.ESSENTIAL.items() for what in whats],
    )
    def test_what_it_cannot_do_without_is_named(self, site, what, table):
        role = own("site_supervisor")
        execute(f"REVOKE {what} ON {table} FROM {role}")
        with connected_as("supervisor"), pytest.raises(CommandError) as raised:
            start()

        grant = f"GRANT {what} ON public.{table} TO {role};"
        assert str(raised.value).endswith(f"As the tables' owner, run: {grant}")
        execute(grant)
        with connected_as("supervisor"):
            start()

    def test_a_schema_that_it_may_not_use_is_named(self, site):
        """Then no table is there, and "migrations are not applied" would lead nowhere."""
        execute(own("REVOKE USAGE ON SCHEMA public FROM site_supervisor"))
        with connected_as("supervisor"), pytest.raises(CommandError) as raised:
            start()

        assert str(raised.value).endswith(
            own("run: GRANT USAGE ON SCHEMA public TO site_supervisor;")
        )

    def test_what_it_can_do_without_is_warned_of(self, site, caplog):
        execute(own("REVOKE DELETE ON partisan_async_task FROM site_supervisor"))
        execute(own("REVOKE USAGE ON SEQUENCE partisan_async_task_id_seq FROM site_supervisor"))
        with connected_as("supervisor"):
            start()

        assert own("GRANT DELETE ON public.partisan_async_task TO site_supervisor;") in caplog.text
        sequence = "public.partisan_async_task_id_seq"
        assert own(f"GRANT USAGE ON SEQUENCE {sequence} TO site_supervisor;") in caplog.text

    def test_what_it_cannot_be_paused_without_is_named(self, site):
        """The page does not grant it, and whoever restores a backup reads this, no traceback."""
        with connected_as("supervisor"):
            running = Partisan("--async", "--paused")
        try:
            assert running.wait() == 1
            assert "Traceback" not in running.output
            (grant,) = re.findall(r"As the tables' owner, run: (GRANT .*;)", running.output)
        finally:
            running.end()
        role = own("site_supervisor")
        assert grant == f"GRANT INSERT ON public.partisan_async_pausedqueue TO {role};"

        execute(grant)
        with supervising("--paused"):
            assert PausedQueue.objects.get().queue_name == "default"

    def test_an_odd_name_is_quoted(self, site):
        """The statement is there to be copied."""
        execute('CREATE ROLE "it\'s; odd"')
        try:
            grants = rights.missing("default", rights.ESSENTIAL, "it's; odd")
            execute(*grants)
            assert rights.missing("default", rights.ESSENTIAL, "it's; odd") == []
        finally:
            execute('DROP OWNED BY "it\'s; odd"; DROP ROLE "it\'s; odd"')


class TestAdmin:
    @pytest.fixture
    def client(self, site):
        user = User.objects.create_superuser("ada")
        client = Client()
        client.force_login(user)
        return client

    def test_its_pages_and_what_they_do(self, client):
        waits, failed = Write("waits").delay(), Write("failed").delay()
        Task.objects.filter(pk=failed.pk).update(status="error", finished_at=timezone.now())
        Schedule.objects.create(
            processor_class="Tick", queue_name="ticks", schedule="?", set_by=uuid.uuid4()
        )
        supervisor = Supervisor.objects.create(
            id=uuid.uuid4(), hostname="h", process={"pid": 1}, queue_name="default"
        )
        tasks, at = "/admin/partisan_async/task/", "/admin/partisan_async"
        with connected_as("admin"):
            for page in (
                *(f"{at}/{name}/" for name in ("dashboard", "task", "supervisor", "schedule")),
                f"{at}/dashboard/live/",
                f"{tasks}?q=Write",
                f"{tasks}?status=error",
                *(f"{tasks}{task.pk}/change/" for task in (waits, failed)),
                f"{at}/supervisor/{supervisor.pk}/change/",
            ):
                assert client.get(page).status_code == 200, page
            for action, task in (("retry", failed), ("cancel", waits), ("delete", waits)):
                chosen = {"action": action, "_selected_action": [task.pk], "confirmed": 1}
                told = client.post(tasks, chosen | {"ids": task.pk}, follow=True)
                assert "1 of 1 tasks" in told.content.decode(), action
            for verb in ("pause", "resume"):
                client.post(f"{at}/dashboard/", {verb: "default"})
            for action in ("switch_off", "switch_on", "run_once"):
                chosen = {"action": action, "_selected_action": ["Tick"]}
                assert client.post(f"{at}/schedule/", chosen).status_code == 302
            chosen = {"action": "drain", "_selected_action": [supervisor.pk], "confirmed": 1}
            assert client.post(f"{at}/supervisor/", chosen).status_code == 302
            filled = {"name": "acme", "processor": "Write", "seconds": "60"}
            assert client.post(f"{at}/schedule/add/", filled).status_code == 302
            chosen = {"action": "delete_made", "_selected_action": [":acme"], "confirmed": 1}
            assert "Deleted: :acme" in client.post(f"{at}/schedule/", chosen, follow=True).text

        assert Supervisor.objects.get().draining
        assert not PausedQueue.objects.exists()
        assert Task.objects.filter(processor_class="Tick").exists()

    def test_its_command(self, site, monkeypatch):
        monkeypatch.setattr(Sync, "UNIQUE", Unique(within_seconds=3600))
        task = Write().delay()
        with connected_as("admin"):
            for words in (
                ("status",),
                ("why", task.pk),
                ("pause", "default"),
                ("resume", "default"),
                ("cancel", task.pk),
                ("retry", task.pk),
                ("cancel", task.pk),
            ):
                call_command("partisan", *words, stdout=io.StringIO(), stderr=io.StringIO())
            Task.objects.update(finished_at=timezone.now() - timedelta(hours=1))
            call_command("partisan", "prune", "--older-than", "1m", "--yes", stdout=io.StringIO())
            Sync("ada").delay(subject="customer:ada")
            schedules.create("ada", Write(), "0 7 * * *", subject="customer:ada")
            words = ("--subject", "customer:ada", "--yes")
            call_command("partisan", "erase", *words, stdout=(told := io.StringIO()))
            assert told.getvalue() == "erase: 1 task, 1 schedule, 1 window.\n"
            found = {each.look: each for each in doctor.examine()}

        assert not Task.objects.exists()
        assert [each for each in found.values() if each.well is None] == []
        assert found["rights"].well

    def test_the_command_names_what_is_missing(self, site):
        task = Write().delay()
        execute(own("REVOKE UPDATE ON partisan_async_task FROM site_admin"))
        with connected_as("admin"), pytest.raises(CommandError) as raised:
            call_command("partisan", "cancel", task.pk)

        assert own("GRANT UPDATE ON public.partisan_async_task TO site_admin;") in str(raised.value)

    def test_it_names_the_schema_where_its_tables_seem_not_to_be_there(self, site):
        """ "Run migrate" would lead nowhere: they are there, for others."""
        execute(own("REVOKE USAGE ON SCHEMA public FROM site_admin"))
        with connected_as("admin"), pytest.raises(CommandError) as raised:
            call_command("partisan", "status")

        assert "does not exist" in str(raised.value)
        assert str(raised.value).endswith(own("run: GRANT USAGE ON SCHEMA public TO site_admin;"))


class TestDoctor:
    def test_it_names_what_the_one_who_asks_lacks(self, site):
        execute(own("REVOKE SELECT ON partisan_async_tally FROM site_admin"))
        with connected_as("admin"):
            ((well, said),) = roles.rights()

        assert not well
        assert own("GRANT SELECT ON public.partisan_async_tally TO site_admin;") in said

    def test_a_look_that_is_denied_names_it_too(self, site):
        execute(own("REVOKE SELECT ON partisan_async_pausedqueue FROM site_admin"))
        with connected_as("admin"):
            found = {each.look: each for each in doctor.examine()}

        assert found["paused queues"].well is None
        assert "ON partisan_async_pausedqueue TO" in found["paused queues"].said

    def test_a_sequence_that_it_may_not_read_is_not_taken_for_one_that_is_behind(self, site):
        """From 18 on the server says nothing, rather than that it is denied."""
        Write().delay()
        for name in ("task", "tally"):
            sequence = f"SEQUENCE partisan_async_{name}_id_seq"
            execute(own(f"REVOKE USAGE ON {sequence} FROM site_admin"))
        with connected_as("admin"):
            found = {each.look: each for each in doctor.examine()}
            missing = reasons.why_missing(10**9)

        for look in ("sequences", "numbers"):
            assert not found[look].well
            assert "cannot be read: see the rights" in found[look].said
        assert missing[0].startswith(f"No task has had the number {10**9} yet: the last one is ")

    def test_it_names_what_a_running_supervisor_lacks(self, site):
        """Its log says so only when it comes to it."""
        with supervising():
            execute(own("REVOKE DELETE ON partisan_async_task FROM site_supervisor"))
            ((well, said),) = roles.rights()
            execute(own("GRANT DELETE ON partisan_async_task TO site_supervisor"))

        assert not well
        assert own("GRANT DELETE ON public.partisan_async_task TO site_supervisor;") in said


class TestUpgrades:
    def test_a_table_that_the_owner_makes_later_is_granted(self, site):
        execute(own(DEFAULTS), own("GRANT USAGE, CREATE ON SCHEMA public TO site_owner"))
        execute(own("SET ROLE site_owner"), "CREATE TABLE later (id serial)", "RESET ROLE")
        try:
            with connected_as("supervisor"):
                execute("INSERT INTO later DEFAULT VALUES", "DELETE FROM later")
            with connected_as("web"), pytest.raises(ProgrammingError, match="permission denied"):
                execute("SELECT * FROM later")
        finally:
            connection.close()
            execute("DROP TABLE later")

    def test_the_owner_needs_nothing_but_a_database(self, site):
        """It runs all migrations, and nobody is a superuser."""
        name = f"{connection.settings_dict['NAME']}_fresh"
        env = environment()
        with psycopg.connect(env["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name} OWNER {own('site_owner')}")
            try:
                with connected_as("owner"):
                    env = environment()
                env["DATABASE_URL"] = re.sub(r"dbname=\S+", f"dbname={name}", env["DATABASE_URL"])
                words = [sys.executable, "-m", "django", "migrate", "-v0"]
                done = subprocess.run(words, env=env, capture_output=True, text=True)
                assert (done.returncode, done.stderr) == (0, "")
            finally:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class TestRowLevelSecurity:
    @pytest.fixture
    def secured(self, site):
        execute(own(ROWS))
        yield
        connection.close()
        execute(
            own("DROP POLICY site_all ON partisan_async_task"),
            own("DROP POLICY site_web_queues ON partisan_async_task"),
            "ALTER TABLE partisan_async_task DISABLE ROW LEVEL SECURITY",
        )

    def test_the_web_has_its_queue_alone(self, secured):
        elsewhere = Tick().delay()
        with connected_as("web"):
            here = WriteUnique("x").delay()
            assert WriteUnique("x").delay() == here
            assert list(Task.objects.all()) == [here]
            with pytest.raises(ProgrammingError, match="violates row-level security"):
                Tick(1).delay()
        assert set(Task.objects.all()) == {here, elsewhere}

    def test_supervisors_and_the_admin_have_all(self, secured):
        task = Write().delay()
        with supervising():
            wait_until(lambda: ended(task))
        with connected_as("admin"):
            assert Task.objects.get().status == "finished"
