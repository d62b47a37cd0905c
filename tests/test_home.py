"""A copy of a database, as of production for staging, does not run what the original is to run."""

import io
import logging
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from partisan_async import embedded, schedules, signals, steering
from partisan_async.checks import check_settings
from partisan_async.management.partisan import adopt
from partisan_async.models import Home, PausedQueue, Schedule, Supervisor, Task
from partisan_async.operate.doctor import place
from partisan_async.schedule import Every
from partisan_async.steering import audit, home
from partisan_async.testing import live_supervisor
from tests import test_ticker, test_timetable
from tests.conftest import ended, marks, wait_until
from tests.process import ROOT, Partisan, environment
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Sleep, Write, WriteElsewhere

only = test_ticker.only


def partisan(*arguments):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def tool(name):
    """Return the server's own program: pg_dump of an older one refuses."""
    for folder in embedded.programs.likely_folders():
        if (path := Path(folder, name)).exists():
            return str(path)
    pytest.skip(f"there is no {name}")


@contextmanager
def restored():
    """Dump the test's database, and restore it by another name; its connection string."""
    url = environment()["DATABASE_URL"]
    parts = conninfo_to_dict(url)
    parts["dbname"] = f"{parts['dbname']}_staging"
    copy = make_conninfo(**parts)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{parts["dbname"]}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{parts["dbname"]}"')
        try:
            refresh(copy)
            yield copy
        finally:
            admin.execute(f'DROP DATABASE "{parts["dbname"]}" WITH (FORCE)')


def refresh(copy):
    dump = subprocess.run(
        [tool("pg_dump"), "-Fc", environment()["DATABASE_URL"]], check=True, capture_output=True
    )
    restore = [tool("pg_restore"), "--clean", "--if-exists", "-d", copy]
    subprocess.run(restore, input=dump.stdout, check=True, capture_output=True)


def env_of(name, copy=None):
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings_home"}
    env |= {} if name is None else {"PARTISAN_HOME": name}
    return env | ({} if copy is None else {"DATABASE_URL": copy})


@contextmanager
def started(name, copy=None, *options):
    running = Partisan("--async", "--workers_count", "1", *options, **env_of(name, copy))
    try:
        yield running
    finally:
        running.end()


def refused(name, copy=None):
    with started(name, copy) as running:
        assert running.wait() == 3, running.output
        return " ".join(running.output.split())


def manage(name, copy, *words):
    return subprocess.run(
        [sys.executable, "-m", "django", "partisan", *words],
        env=environment(**env_of(name, copy)),
        cwd=ROOT,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def statuses(copy):
    with psycopg.connect(copy) as there:
        rows = there.execute("SELECT id, status FROM partisan_async_task ORDER BY id").fetchall()
    return [status for _, status in rows]


def marks_of(copy):
    with psycopg.connect(copy) as there:
        return [text for (text,) in there.execute(f"SELECT text FROM {Mark._meta.db_table}")]


@pytest.mark.django_db(transaction=True)
class TestCopies:
    """With pg_dump and pg_restore, and supervisors that are processes."""

    @pytest.fixture
    def production(self):
        """A home, a task that runs, and one that waits."""
        with started("production") as running:
            running.wait_for("started: queue")
            Sleep(600, "long").delay()
            wait_until(lambda: "start long" in marks())
            Write("mail").delay()
            yield running

    @pytest.mark.parametrize("name", ["staging", None])
    def test_elsewhere_nothing_starts_until_it_is_adopted(self, production, name):
        with restored() as copy:
            said = refused(name, copy)
            assert "This database belongs to 'production', and PARTISAN_HOME is" in said
            assert "`manage.py partisan adopt --cancel` ends all that waits" in said
            assert statuses(copy) == ["in_process", "new"]

            doctor = manage(name, copy, "doctor")
            assert "WRONG home: This database belongs to 'production'" in doctor.stdout
            asked = manage(name, copy, "adopt", "--cancel")
            assert "Pass --yes" in asked.stderr
            assert statuses(copy) == ["in_process", "new"]

            adopted = manage(name, copy, "adopt", "--cancel", "--yes")
            assert "cancel: 2 tasks." in adopted.stdout
            assert statuses(copy) == ["error", "error"]
            with started(name, copy) as running:
                running.wait_for("started: queue")
            assert statuses(copy) == ["error", "error"]
            assert "mail" not in marks_of(copy)

    def test_kept_it_runs_there(self):
        Write("mail").delay()
        with started("production", None, "--paused") as running:
            running.wait_for("started: queue")
        with restored() as copy:
            adopted = manage("staging", copy, "adopt", "--keep", "--yes")
            assert "1 task" not in adopted.stderr
            manage("staging", copy, "resume", "default")
            with started("staging", copy) as running:
                running.wait_for("done ")
            assert "belongs to 'staging'" in refused("production", copy)

    def test_without_a_home_another_database_is_warned_of(self):
        """Nobody said what is whose, and a site that is moved has to go on."""
        with started(None) as running:
            running.wait_for("started: queue")
        with restored() as copy:
            with started(None, copy) as running:
                running.wait_for("started: queue")
                assert "not at home: This database was another one when" in running.output
            assert "WRONG home" in manage(None, copy, "doctor").stdout
            assert "another place" in refused("staging", copy)

            assert manage(None, copy, "adopt", "--keep", "--yes").returncode == 0
            with started(None, copy) as running:
                running.wait_for("started: queue")
                assert "not at home" not in running.output

    def test_a_copy_laid_over_it_while_supervisors_run_ends_them(self, production):
        """As each night: they connect again, and would run what came with the copy."""
        with restored() as copy:
            manage("staging", copy, "adopt", "--cancel", "--yes")
            with started("staging", copy) as running:
                running.wait_for("started: queue")
                refresh(copy)

                assert running.wait() == 3
                (said,) = [line for line in running.output.splitlines() if "stopping: The" in line]
                assert "CRITICAL" in said
                assert "stopping: The database belongs to another home by now" in said
                assert "unexpected" not in running.output
                assert "Traceback" not in running.output
            assert statuses(copy)[1] == "new"

    def test_a_home_that_is_renamed_ends_what_its_supervisors_run(self, production):
        """They beat no more, so that those of the new name would run the same beside them."""
        pid = production.workers()[0].pid

        assert manage("staging", None, "adopt", "--keep", "--yes").returncode == 0

        assert production.wait() == 3  # long before the grace time is over
        assert not psutil.pid_exists(pid)
        assert {task.status for task in Task.objects.all()} == {"new"}


@pytest.mark.django_db(transaction=True)
class TestStart:
    def test_paused_it_starts_nothing(self):
        task = Write().delay()

        with started("production", None, "--paused") as running:
            running.wait_for("started: queue")
            assert PausedQueue.objects.get().queue_name == "default"
            steering.resume("default")
            wait_until(lambda: ended(task))

    def test_both_spellings_of_the_queue(self):
        with started(None, None, "--queue-name", "elsewhere") as running:
            running.wait_for("started: queue 'elsewhere'")

    def test_what_the_testing_kit_starts_keeps_no_home(self):
        Home.objects.create(name="production", database="x")
        task = Write().delay()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(task))

        assert Home.objects.get().name == "production"


@pytest.mark.django_db
class TestHome:
    @pytest.fixture(autouse=True)
    def at(self, settings):
        def at(name):
            settings.PARTISAN_HOME = name
            return home.here()

        return at

    def kept(self, **values):
        Home.objects.all().delete()
        here = home.here()
        return Home.objects.create(
            **{"name": "", "server": here.server, "database": here.database} | values
        )

    def test_the_first_one_is_kept_with_what_tells_the_server(self, at):
        home.keep(at("production"))

        row = Home.objects.get()
        with connection.cursor() as cursor:
            cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
            (server,) = cursor.fetchone()
        assert (row.name, row.server) == ("production", server)
        assert row.database == connection.settings_dict["NAME"]

    def test_a_server_that_tells_nothing_is_no_other_server(self, at):
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE nosy")
            cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO nosy")
            cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            cursor.execute("SET ROLE nosy")
        here = at(None)
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")

        assert here.server == ""
        assert home.warning(here, self.kept(server="7")) is None

    def test_a_name_that_comes_later_is_added(self, at):
        self.kept()

        assert home.keep(at("production")).name == "production"
        assert home.keep(at("staging")).name == "production"

    def test_where_it_is_at_home_another_server_is_none_to_speak_of(self, at):
        """An upgrade by dump and restore, or one database by another name."""
        self.kept(name="production", server="7", database="old")

        assert home.refusal(at("production"), home.keep(home.here())) is None
        assert Home.objects.get().database == connection.settings_dict["NAME"]
        assert list(place.home()) == [(True, "'production'")]

    @pytest.mark.parametrize(("server", "database"), [("7", None), (None, "old")])
    def test_another_server_or_name_is_new(self, at, server, database):
        here = at(None)
        row = self.kept(server=server or here.server, database=database or here.database)

        assert "was another one when a supervisor first ran" in home.warning(here, row)
        assert "from another place" in home.refusal(at("staging"), row)

    def test_of_two_that_name_it_at_once_one_does(self, at, monkeypatch):
        """Of two places that share a database one is refused, whoever was first."""
        self.kept()
        judge = home.refusal

        def judge_while_another_is_faster(*judged):
            said = judge(*judged)
            Home.objects.update(name="production")
            return said

        with monkeypatch.context() as patched:
            patched.setattr(home, "refusal", judge_while_another_is_faster)
            found = home.keep(at("staging"))

        assert found.name == "production"
        assert home.refusal(home.here(), found) is not None

    def test_here_already_nothing_is_cancelled(self, at):
        """Who takes production for the copy."""
        home.keep(at("production"))
        task = Write().delay()

        with pytest.raises(CommandError, match="belongs here already"):
            partisan("adopt", "--cancel", "--yes")

        task.refresh_from_db()
        assert task.status == "new"

    def test_one_that_is_left_keeps_it_from_being_adopted(self, at, monkeypatch):
        self.kept(name="production")
        at("staging")
        task = Write().delay()
        monkeypatch.setattr(adopt, "cancel_untold", lambda ids, **told: [])

        with pytest.raises(CommandError, match="1 task could not be ended"):
            partisan("adopt", "--cancel", "--yes")

        assert Home.objects.get().name == "production"
        task.refresh_from_db()
        assert task.status == "new"

    def test_all_queues_are_cancelled(self, at):
        self.kept(name="production")
        at("staging")
        Write().delay()
        WriteElsewhere().delay()

        assert "cancel: 2 tasks." in partisan("adopt", "--cancel", "--yes")
        assert set(Task.objects.values_list("status", flat=True)) == {"error"}

    @pytest.mark.django_db(transaction=True)
    def test_its_schedules_do_not_tick_for_the_original(self, at, only):
        """Those made at run time are rows of it; those in the code are in the code here, too."""
        (report,) = only(Report=Every(seconds=3600, catch_up=True)).values()
        host, made = test_ticker.Host(), test_timetable.Host()
        host.turn()
        for name in ("acme", "off"):
            schedules.create(name, report(name), Every(seconds=3600))
            test_timetable.late(name)
        steering.switch_off([":off"])
        test_ticker.late(seconds=7 * 3600)
        self.kept(name="production")
        at("staging")

        told = partisan("adopt", "--cancel", "--yes")

        assert "switch-off: 1 schedule made at run time." in told
        assert not Schedule.objects.filter(pk__startswith=":", enabled=True).exists()
        host.turn(), made.turn()
        assert not Task.objects.exists()
        row = Schedule.objects.get(pk="Report")
        assert row.enabled
        assert timedelta(0) < row.next_tick - timezone.now() <= timedelta(hours=1)
        steering.switch_on([":acme"])
        made.turn()
        assert Schedule.objects.get(pk=":acme").next_tick > timezone.now()

    @pytest.mark.django_db(transaction=True)
    def test_kept_its_schedules_go_on(self, at, only):
        """As after an outage: it is the same site, at another place."""
        (report,) = only(Report=Every(seconds=3600)).values()
        host, made = test_ticker.Host(), test_timetable.Host()
        host.turn()
        schedules.create("acme", report("acme"), Every(seconds=3600))
        test_timetable.late(), test_ticker.late()
        self.kept(name="production")
        at("staging")

        partisan("adopt", "--keep", "--yes")

        host.turn(), made.turn()
        assert sorted(task.args for task in Task.objects.all()) == [[], ["acme"]]

    @pytest.mark.parametrize(
        "kept",
        [
            {"name": "production", "server": "7"},
            {"name": "production", "database": "old"},
            {"name": ""},
        ],
    )
    def test_where_supervisors_start_nothing_is_adopted(self, at, kept):
        """After an upgrade of the server, and where PARTISAN_HOME was just set."""
        at("production")
        self.kept(**kept)
        task = Write().delay()

        for what in ("--cancel", "--keep"):
            with pytest.raises(CommandError, match="belongs here already"):
                partisan("adopt", what, "--yes")

        task.refresh_from_db()
        assert task.status == "new"

    def test_adopting_tells_rows_and_log_and_no_receiver(
        self, at, caplog, django_capture_on_commit_callbacks
    ):
        """Receivers mail customers, and these are another place's."""
        caplog.set_level(logging.INFO, "partisan_async")
        self.kept(name="production")
        at("staging")
        task, heard = Write().delay(), []

        def hear(**signal):
            heard.append(signal)

        signals.task_cancelled.connect(hear)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                partisan("adopt", "--cancel", "--yes")
        finally:
            signals.task_cancelled.disconnect(hear)

        task.refresh_from_db()
        (error,) = task.errors
        assert (error["by"], error["reason"]) == (
            audit.user_of_the_system(), "adopted by 'staging'",
        )  # fmt: skip
        assert heard == []
        told = [each for each in caplog.records if each.event == "steered"]
        assert [(each.action, each.way) for each in told] == [
            ("cancel", "command"), ("adopt", "command"),
        ]  # fmt: skip
        assert "of 'staging'" in told[1].getMessage()

    def test_kept_it_is_put_down(self, at, caplog, django_capture_on_commit_callbacks):
        caplog.set_level(logging.INFO, "partisan_async")
        self.kept(name="production")
        at("staging")

        with django_capture_on_commit_callbacks(execute=True):
            partisan("adopt", "--keep", "--yes")

        (told,) = [each for each in caplog.records if each.event == "steered"]
        assert (told.action, told.by) == ("adopt", audit.user_of_the_system())

    @pytest.mark.parametrize("value", ["", 7, "x" * 256])
    def test_what_is_no_name_is_an_error(self, settings, value):
        settings.PARTISAN_HOME = value

        (error,) = check_settings()
        assert error.id == "partisan_async.E001"
        assert f"PARTISAN_HOME={value!r} must be a name" in error.msg

    def test_migrate_keeps_none(self):
        assert not Home.objects.exists()
        assert not Supervisor.objects.exists()
