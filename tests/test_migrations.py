import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError, connection, connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from partisan_async import schedules
from partisan_async.claim import Claim
from partisan_async.models import Schedule, Task, UniqueWindow
from partisan_async.operate.doctor import indexes
from partisan_async.postgres.migration import PostgresMigration
from partisan_async.schedule import Every
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.old_tables import migrated_back
from tests.process import ROOT, environment
from tests.testapp.partisan_tasks import Fail, Write

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, execute_after)
VALUES ('default', 'Nothing', '{"args": [], "kwargs": {}}', 1, now())
"""


# Behind a router Django looks at the history in each database.
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_the_models_need_no_further_migration():
    """On every Django that is supported: they write the same state down differently."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_they_can_be_taken_back():
    call_command("migrate", "partisan_async", "zero", verbosity=0)
    try:
        assert not [
            name for name in connection.introspection.table_names() if "partisan_async" in name
        ]
    finally:
        call_command("migrate", "partisan_async", verbosity=0)


def test_the_table_is_vacuumed_by_its_number_of_dead_rows():
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'partisan_async_task'")
        (options,) = cursor.fetchone()

    assert "autovacuum_vacuum_scale_factor=0" in options
    assert "autovacuum_vacuum_threshold=1000" in options


def test_in_a_database_that_is_not_postgresql_nothing_is_made(tmp_path):
    """Without a router `migrate` takes every app to every database; and back again."""
    legacy = tmp_path / "legacy.sqlite3"
    env = environment(DJANGO_SETTINGS_MODULE="tests.settings_legacy", LEGACY=str(legacy))

    def migrate(*words):
        command = [sys.executable, "-m", "django", "migrate", *words, "--database=legacy"]
        return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True)

    there = migrate()
    with closing(sqlite3.connect(legacy)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    back = migrate("partisan_async", "zero")

    assert there.returncode == 0, there.stderr
    said = "partisan_async makes no tables in database 'legacy': it is sqlite, not PostgreSQL"
    assert there.stderr.count(said) == 1
    assert "auth_user" in names
    assert not [name for name in names if name.startswith("partisan_async")]
    assert back.returncode == 0, back.stderr


def test_in_a_second_postgresql_that_the_router_denies_nothing_is_made():
    url = environment()["DATABASE_URL"]
    parts = conninfo_to_dict(url)
    parts["dbname"] = f"{parts['dbname']}_elsewhere"
    env = environment(
        DJANGO_SETTINGS_MODULE="tests.settings_elsewhere", ELSEWHERE=make_conninfo(**parts)
    )

    def migrate(*words):
        command = [sys.executable, "-m", "django", "migrate", *words, "--database=elsewhere"]
        return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True)

    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{parts["dbname"]}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{parts["dbname"]}"')
        try:
            there = migrate()
            with psycopg.connect(env["ELSEWHERE"]) as elsewhere:
                names = elsewhere.execute("SELECT relname FROM pg_class WHERE relkind = 'r'")
                tables = {name for (name,) in names}
            back = migrate("partisan_async", "zero")
        finally:
            admin.execute(f'DROP DATABASE "{parts["dbname"]}" WITH (FORCE)')

    assert there.returncode == 0, there.stderr
    assert "auth_user" in tables
    assert not [name for name in tables if name.startswith("partisan_async")]
    assert back.returncode == 0, back.stderr


def test_each_of_them_leaves_other_databases_alone():
    loaded = MigrationLoader(connection).disk_migrations
    ours = [each for (app, _), each in loaded.items() if app == "partisan_async"]

    assert ours
    assert [each.name for each in ours if not isinstance(each, PostgresMigration)] == []


@pytest.mark.parametrize(
    ("before", "columns", "expected"),
    [
        ("0007", "interrupted", [(0,), (0,)]),
        ("0016", "stops, stopped_at", [(None, None), (None, None)]),
        ("0018", "limit_name, limit_key, limit_rank", [(None,) * 3, (None,) * 3]),
    ],
)
def test_a_counter_writes_no_row_and_lets_the_last_release_insert(before, columns, expected):
    """The table may be large, and the last release's processes go on beside the new ones."""
    call_command("migrate", "partisan_async", before, verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute(INSERT)
            cursor.execute("SELECT pg_relation_filenode('partisan_async_task')")
            node = cursor.fetchone()
            call_command("migrate", "partisan_async", verbosity=0)
            cursor.execute("SELECT pg_relation_filenode('partisan_async_task')")
            assert cursor.fetchone() == node
            cursor.execute(INSERT)
            cursor.execute(f"SELECT {columns} FROM partisan_async_task")
            assert cursor.fetchall() == expected
    finally:
        call_command("migrate", "partisan_async", verbosity=0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0007", "0008"),
        ("0008", "0009"),
        ("0009", "0008"),
        ("0010", "0011"),
        ("0011", "0010"),
        ("0012", "0013"),
        ("0013", "0012"),
        ("0013", "0014"),
        ("0015", "0016"),
        ("0016", "0017"),
        ("0017", "0016"),
        ("0018", "0019"),
    ],
)
def test_while_one_waits_for_an_open_transaction_beats_and_claims_go_on(before, after, caplog):
    """A lease would be lost, and with it what runs: the migration lets go, and asks again."""
    call_command("migrate", "partisan_async", before, verbosity=0)

    def migrate():
        call_command("migrate", "partisan_async", after, verbosity=0)
        connections.close_all()

    migration = threading.Thread(target=migrate)
    open_transaction = connection.copy()
    try:
        with open_transaction.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(INSERT)
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '5s'")
            migration.start()
            wait_until(lambda: "waiting for an open transaction" in caplog.text)
            for _ in range(30):
                cursor.execute("UPDATE partisan_async_supervisor SET last_seen_at = now()")
                cursor.execute("SELECT id FROM partisan_async_task FOR UPDATE SKIP LOCKED")
                time.sleep(0.1)
            cursor.execute("RESET statement_timeout")
        assert migration.is_alive()
    finally:
        open_transaction.close()
        migration.join(60)
        call_command("migrate", "partisan_async", verbosity=0)
    assert not migration.is_alive()


def test_a_supervisor_goes_on_while_the_states_are_constrained_and_while_they_are_not():
    """An upgrade migrates beneath those that run, and so does its way back."""
    tasks = []
    with migrated_back("0010"), live_supervisor(WORKERS_COUNT=1):
        for target in ("0011", "0010", "0011"):
            tasks += _enqueue_of_each_kind(target)
            call_command("migrate", "partisan_async", target, verbosity=0)
            tasks += _enqueue_of_each_kind(f"after {target}")
            wait_until(ended)

    ends = set(Task.objects.values_list("processor_class", "status"))
    assert ends == {("Write", "finished"), ("Fail", "error")}
    assert sorted(marks()) == sorted(task.args[0] for task in tasks if task.args != ["ValueError"])


def _enqueue_of_each_kind(name):
    """Of those that are ready, those that are scheduled, and those that fail."""
    ready = Write.bulk_delay([Write(f"{name} {n}") for n in range(20)])
    later = timezone.now() + timedelta(seconds=0.3)
    return [*ready, Write(f"{name} later").delay(execute_after=later), Fail("ValueError").delay()]


@pytest.mark.parametrize(
    ("before", "after", "column", "index"),
    [
        ("0013", "0014", "unique_key", "partisan_async_one_unended"),
        ("0015", "0016", "subject", "partisan_async_subject"),
    ],
)
class TestColumnsWithAnIndex:
    """A column and an index on the largest table, and small ones beside it."""

    @pytest.fixture(autouse=True)
    def _before(self, before):
        call_command("migrate", "partisan_async", before, verbosity=0)
        yield
        call_command("migrate", "partisan_async", verbosity=0)

    def execute(self, sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def test_it_writes_no_row_and_lets_the_last_release_insert(self, before, after, column, index):
        filenode = "SELECT pg_relation_filenode('partisan_async_task')"
        self.execute(INSERT)
        written = self.execute(filenode)

        call_command("migrate", "partisan_async", after, verbosity=0)

        assert self.execute(filenode) == written
        self.execute(INSERT)
        assert self.execute(f"SELECT {column} FROM partisan_async_task") == [(None,), (None,)]

    @pytest.mark.parametrize("back", [False, True])
    def test_while_the_index_is_built_or_dropped_others_write(
        self, before, after, column, index, back
    ):
        """It waits for transactions that are older than itself, and keeps nobody waiting."""
        if back:
            call_command("migrate", "partisan_async", after, verbosity=0)
        self.execute(INSERT)
        open_transaction = connection.copy()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '% INDEX CONCURRENTLY %'"
            " AND wait_event_type = 'Lock' AND datname = current_database()"
        )

        def migrate():
            call_command("migrate", "partisan_async", before if back else after, verbosity=0)
            connections.close_all()

        migration = threading.Thread(target=migrate)
        # To drop one it waits for those who use the table; 0016 drops that of a smaller one first.
        smaller = "partisan_async_uniquewindow" if column == "subject" else "partisan_async_task"
        try:
            with open_transaction.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cursor.execute(f"SELECT count(*) FROM {smaller if back else 'auth_user'}")
            migration.start()
            wait_until(lambda: self.execute(waiting) == [(1,)])
            self.execute("SET lock_timeout = '2s'")
            for _ in range(10):
                self.execute(INSERT)
                self.execute("UPDATE partisan_async_task SET priority = 2")
            assert migration.is_alive()
        finally:
            self.execute("RESET lock_timeout")
            open_transaction.close()
            migration.join(60)
        assert not migration.is_alive()

    def test_one_that_was_cut_off_while_it_built_the_index_begins_anew(
        self, before, after, column, index
    ):
        """An unfinished index stays behind then, and the column is there already."""
        self.execute(INSERT)
        open_transaction = connection.copy()
        try:
            with open_transaction.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT count(*) FROM auth_user")
            self.execute("SET statement_timeout = '1s'")
            with pytest.raises(OperationalError, match="statement timeout"):
                call_command("migrate", "partisan_async", after, verbosity=0)
        finally:
            self.execute("RESET statement_timeout")
            open_transaction.close()
        valid = "SELECT indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        valid += f" WHERE relname = '{index}'"
        assert self.execute(valid) == [(False,)]

        call_command("migrate", "partisan_async", after, verbosity=0)

        assert self.execute(valid) == [(True,)]
        assert self.execute("SELECT count(*) FROM partisan_async_uniquewindow") == [(0,)]
        call_command("migrate", "partisan_async", verbosity=0)
        assert doctor_says_nothing_of_indexes()

    def test_back_and_forth(self, before, after, column, index):
        for target in (after, before, after, before):
            call_command("migrate", "partisan_async", target, verbosity=0)


def test_one_that_was_cut_off_before_the_index_of_its_table_makes_that_too():
    """The table is there already; what is in the way of its index has the same name."""
    call_command("migrate", "partisan_async", "0013", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE partisan_async_window_until ()")
            with pytest.raises(ProgrammingError, match="partisan_async_window_until"):
                call_command("migrate", "partisan_async", "0014", verbosity=0)
            cursor.execute("DROP TABLE partisan_async_window_until")
            cursor.execute("SELECT count(*) FROM partisan_async_uniquewindow")
    finally:
        call_command("migrate", "partisan_async", verbosity=0)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'partisan_async_window_until'"
        )
        assert len(cursor.fetchall()) == 1
    assert doctor_says_nothing_of_indexes()


def test_the_way_back_forgets_subjects_and_keeps_what_has_them():
    """The release before runs what is there, and knows of no subject."""
    task = Write("kept").delay(subject="customer:ada")
    schedules.create("acme", Write(), "0 7 * * *", subject="customer:ada")
    UniqueWindow.objects.create(
        key=b"k" * 32, until=timezone.now(), task_id=task.pk, subject="customer:ada"
    )
    before = {}
    try:
        with connection.cursor() as cursor:
            for target in ("0016", "0015", "0016"):
                call_command("migrate", "partisan_async", target, verbosity=0)
                for name in ("task", "schedule", "uniquewindow"):
                    cursor.execute(f"SELECT count(*) FROM partisan_async_{name}")
                    before.setdefault(name, set()).add(cursor.fetchone())
    finally:
        call_command("migrate", "partisan_async", verbosity=0)

    assert before == {name: {(1,)} for name in ("task", "schedule", "uniquewindow")}
    assert Task.objects.get().subject is None
    assert (Schedule.objects.get().pk, Schedule.objects.get().subject) == (":acme", None)


def doctor_says_nothing_of_indexes():
    return [found.well for found in indexes.indexes()] == [True]


def before_schedules():
    """The migration that the one of these columns comes after."""
    key = ("partisan_async", "0015_schedules")
    ((_, name),) = MigrationLoader(connection).disk_migrations[key].dependencies
    return name


def test_the_way_back_forgets_the_schedules_that_are_in_no_code_and_keeps_the_others():
    """What they are is in columns that go; the release before could not tick them."""
    schedules.create("acme", Write(), "0 7 * * *")
    Schedule.objects.create(
        processor_class="Tick", queue_name="ticks", schedule="every 9 s", set_by=uuid.uuid4()
    )
    call_command("migrate", "partisan_async", before_schedules(), verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT processor_class FROM partisan_async_schedule")
            assert cursor.fetchall() == [("Tick",)]
            # As the release before sets one, and ticks it.
            cursor.execute(
                "INSERT INTO partisan_async_schedule (processor_class, queue_name, schedule,"
                " next_tick, set_by) VALUES ('Old', 'ticks', 'x', now(), gen_random_uuid())"
            )
    finally:
        call_command("migrate", "partisan_async", verbosity=0)

    old = Schedule.objects.get(pk="Old")
    assert (old.processor_name, old.is_made, old.prior_tick) == ("Old", False, None)


def test_a_supervisor_keeps_its_lease_while_the_columns_of_schedules_come_and_go():
    """An upgrade migrates beneath those that run, and so does its way back."""
    with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2) as supervisor:
        try:
            call_command("migrate", "partisan_async", before_schedules(), verbosity=0)
            _add_what_claims_return()
            Write("before").delay()
            wait_until(lambda: "before" in marks())
        finally:
            call_command("migrate", "partisan_async", verbosity=0)
        schedules.create("acme", Write("ticked"), Every(seconds=0.2))
        wait_until(lambda: marks().count("ticked") > 2)
        assert supervisor.parts.lease.held


def _add_what_claims_return():
    """Add columns that came later than those of schedules: today's claims ask for them."""
    with connection.cursor() as cursor, connection.schema_editor() as editor:
        table = Task._meta.db_table
        there = {
            each.name for each in connection.introspection.get_table_description(cursor, table)
        }
        for field in Task._meta.concrete_fields:
            if field.name in Claim._fields and field.column not in there:
                editor.add_field(Task, field)
