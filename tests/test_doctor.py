"""``manage.py partisan doctor``: each of its findings, by making it happen."""

import io
import json
import re
import time
import uuid
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections
from django.test.utils import override_settings
from django.utils import timezone

from partisan_async import steering
from partisan_async.embedded import EmbeddedPostgres, django_database
from partisan_async.models import Supervisor, Tally, Task
from partisan_async.operate import doctor
from partisan_async.operate.doctor import indexes, reach, sequences, server, table, tasks
from partisan_async.postgres import parameters
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import Die, Write, WriteElsewhere


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def wrongs(look):
    """Return what is wrong; it also says what is well if and only if nothing is."""
    found = list(look())
    assert found
    assert any(well for well, _ in found) == all(well for well, _ in found)
    return [text for well, text in found if not well]


@contextmanager
def session(**params):
    with psycopg.connect(**parameters.parameters("default") | params) as opened:
        yield opened


def fill(count, **columns):
    """Insert so many rows, quickly."""
    values = {"queue_name": "default", "status": "new", "arguments": "{}"} | columns
    execute(
        """
        INSERT INTO partisan_async_task
            (queue_name, processor_class, arguments, status, priority, execute_after)
        SELECT %(queue_name)s, 'Write', %(arguments)s, %(status)s, 10, now()
        FROM generate_series(1, %(count)s)
        """,
        values | {"count": count},
    )


@pytest.fixture
def alive(db):
    """A supervisor's row, as if it had just beaten; nobody claims."""
    return Supervisor.objects.create(
        id="00000000-0000-0000-0000-00000000000a",
        hostname="here",
        process={"pid": 7},
        queue_name="default",
    )


class TestTasks:
    def test_migrations(self, db):
        assert not wrongs(tasks.migrations)

        execute("DELETE FROM django_migrations WHERE app = 'partisan_async' AND name >= '0003'")

        (said,) = wrongs(tasks.migrations)
        assert "such as 0003_steering: manage.py migrate" in said

    def test_silent_supervisors(self, alive):
        assert not wrongs(tasks.silent_supervisors)
        Write().delay()
        Task.objects.update(status="in_process", claimed_by=alive.pk)

        Supervisor.objects.update(last_seen_at=timezone.now() - timedelta(minutes=5))

        (said,) = wrongs(tasks.silent_supervisors)
        assert said.startswith(
            "The supervisor here/7 of queue 'default' has been silent for 5 minutes, and 1 task(s)"
            " wait to be taken over: "
        )

    def test_unserved_queues(self, alive):
        Write().delay()
        assert not wrongs(tasks.unserved_queues)

        WriteElsewhere().delay()

        (said,) = wrongs(tasks.unserved_queues)
        assert said.startswith("Nobody serves queue 'elsewhere', and tasks wait in it: manage.py")

    def test_queues_that_only_draining_ones_serve(self, alive):
        Write().delay()
        steering.drain(alive.pk)

        (said,) = wrongs(tasks.unserved_queues)
        assert said.startswith(
            "Only supervisors that end serve queue 'default' (here/7 is draining, runs 0"
        )

    def test_paused_queues(self, alive):
        steering.pause("default")
        assert not wrongs(tasks.paused_queues)

        Write().delay()

        (said,) = wrongs(tasks.paused_queues)
        assert said.endswith("tasks wait in it: manage.py partisan resume default")

    def test_lost_tasks(self, db):
        assert not wrongs(tasks.lost_tasks)
        task = Write().delay()

        Task.objects.update(suspect=True)

        (said,) = wrongs(tasks.lost_tasks)
        assert f"run alone until they succeed: {task.pk} Write; look at" in said

    def test_unrecognised_tasks(self, db):
        assert not wrongs(tasks.unrecognised_tasks)
        task = Write().delay()
        Task.objects.update(processor_class="Gone")

        run_pending()

        (said,) = wrongs(tasks.unrecognised_tasks)
        assert said.startswith(
            f"Supervisors do not know the processor or the arguments of {task.pk} Gone"
        )

    def test_abandoned_tasks(self, db):
        task = Write().delay()
        Task.objects.update(status="in_process", claimed_by=uuid.uuid4(), interrupted=19)
        assert not wrongs(tasks.abandoned_tasks)

        Task.objects.update(interrupted=20)

        (said,) = wrongs(tasks.abandoned_tasks)
        assert said.startswith(f"Cut short 20 times: {task.pk} Write. Its supervisor ended")
        assert f"manage.py partisan cancel {task.pk}, and to run it again, manage.py" in said

    def test_a_supervisor_whose_clock_was_ahead(self, alive):
        Supervisor.objects.update(last_seen_at=timezone.now() + timedelta(days=365, hours=1))

        (said,) = wrongs(tasks.silent_supervisors)
        assert "here/7 of queue 'default' is 365 days ahead of the database's clock" in said


@pytest.mark.django_db(transaction=True)
def test_worker_processes_that_died():
    with live_supervisor(WORKERS_COUNT=1):
        task = Die("SIGKILL").delay()
        wait_until(lambda: ended(task))

    (said,) = wrongs(tasks.lost_tasks)

    assert said.startswith("Worker processes died in the last 24 hours, of runs of: Die 2")


class TestTable:
    @pytest.mark.parametrize("name", ["partisan_async_task", "partisan_async_tally"])
    def test_sequences(self, db, name):
        """As they are after a logical replication; what it says is what mends it."""
        Write().delay(), Write().delay()
        minute = timezone.now().replace(second=0, microsecond=0)
        Tally.objects.create(minute=minute, queue_name="default", processor_class="Write")
        assert not wrongs(sequences.sequences)

        execute(f"SELECT setval('{name}_id_seq', 1, false)")

        (said,) = wrongs(sequences.sequences)
        assert f"The sequence of {name} is at 0, and its rows come to" in said
        execute(said.partition(": ")[2])
        assert not wrongs(sequences.sequences)
        Write().delay()

    @override_settings(KEEP_FINISHED_SECONDS=60)
    def test_kept_rows(self, db):
        task = Write().delay()
        Task.objects.update(status="finished", finished_at=timezone.now() - timedelta(minutes=60))
        assert not wrongs(table.kept_rows)

        execute("CREATE TABLE receipt (task bigint REFERENCES partisan_async_task)")
        Task.objects.update(finished_at=timezone.now() - timedelta(hours=2))

        (said,) = wrongs(table.kept_rows)
        assert f"should have been deleted, such as {task.pk}: " in said
        assert "the database keeps them, since receipt refer(s) to them" in said
        Task.objects.update(status="error")
        assert not wrongs(table.kept_rows)
        with override_settings(KEEP_FAILED_SECONDS=60):
            (said,) = wrongs(table.kept_rows)
            assert f"should have been deleted, such as {task.pk}: " in said

    def test_indexes(self, db):
        assert not wrongs(indexes.indexes)

        execute("DROP INDEX partisan_async_ready, partisan_async_one_unclaimed")

        ready, unique = wrongs(indexes.indexes)
        assert ready.startswith(
            "The index partisan_async_ready is missing: CREATE INDEX CONCURRENTLY"
            ' "partisan_async_ready" ON "partisan_async_task" ("queue_name", "priority", "id")'
        )
        assert "The index partisan_async_one_unclaimed is missing: CREATE UNIQUE INDEX C" in unique
        for said in (ready, unique):
            statement = said.partition(": ")[2].removesuffix(".")
            execute(statement.replace(" CONCURRENTLY", ""))  # it cannot be in a transaction
        assert not wrongs(indexes.indexes)

    def test_an_index_that_is_not_valid(self, db):
        execute(
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'partisan_async_ready'::regclass"
        )

        (said,) = wrongs(indexes.indexes)
        assert said.endswith("is not valid: REINDEX INDEX CONCURRENTLY partisan_async_ready.")

    def test_claim_plan(self, db):
        fill(20_000)
        execute("ANALYZE partisan_async_task")
        assert list(indexes.claim_plan()) == [(True, "by the index partisan_async_ready")]

        execute("DROP INDEX partisan_async_ready")

        (said,) = wrongs(indexes.claim_plan)
        assert said.startswith("A claim in queue 'default' reads the whole table, and does not go")

    def test_bloat(self, db):
        execute("TRUNCATE partisan_async_task CASCADE")  # others have left their bloat
        assert not wrongs(table.bloat)
        # 1,900 bytes each, which are neither compressed nor moved elsewhere.
        noise = "md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text)"
        execute(f"""
            INSERT INTO partisan_async_task
                (queue_name, processor_class, arguments, status, priority, execute_after,
                finished_at)
            SELECT 'default', 'Write', jsonb_build_array({", ".join([noise] * 12)}),
                'finished', 10, now(), now()
            FROM generate_series(1, 50000) AS n
        """)
        execute("ANALYZE partisan_async_task")
        assert not wrongs(table.bloat)

        Task.objects.filter(pk__gt=Task.objects.first().pk + 1000).delete()
        execute("ANALYZE partisan_async_task")

        (said,) = wrongs(table.bloat)
        assert "MB for about 1,001 rows, which need" in said

    def test_numbers(self, db):
        assert not wrongs(sequences.numbers)

        # Within the transaction, unlike nextval() and setval().
        execute("ALTER SEQUENCE partisan_async_task_id_seq RESTART 9000000000000000000")
        Write().delay()

        (said,) = wrongs(sequences.numbers)
        assert said.startswith("The tasks' numbers come to their end, 9,000,000,000,000,000,000 of")


@pytest.mark.django_db(transaction=True)
class TestDeadRows:
    @pytest.fixture(autouse=True)
    def _autovacuum_is_off(self):
        execute("TRUNCATE partisan_async_task CASCADE")  # others have left their dead rows
        execute("SELECT pg_stat_force_next_flush()")
        assert not wrongs(table.dead_rows)
        execute("ALTER TABLE partisan_async_task SET (autovacuum_enabled = off)")
        yield
        execute("ALTER TABLE partisan_async_task RESET (autovacuum_enabled)")
        execute("VACUUM partisan_async_task")

    def test_autovacuum_is_off(self):
        (said,) = wrongs(table.dead_rows)

        assert said.startswith("Autovacuum is off for the table, so that dead rows stay")

    def test_it_is_behind(self, monkeypatch):
        monkeypatch.setattr(table, "VACUUMED_SECONDS", 0)
        fill(25_000)
        execute("UPDATE partisan_async_task SET priority = 11")
        execute("SELECT pg_stat_force_next_flush()")

        _, behind = wrongs(table.dead_rows)

        # With what earlier tests left.
        assert re.match(r"2\d,\d{3} dead rows are .*, (never )?vacuumed.*: VACUUM p", behind)


class TestServer:
    def test_an_old_snapshot_and_who_holds_it(self, db, monkeypatch):
        monkeypatch.setattr(server, "OLD_SECONDS", 0.3)
        with session(application_name="report") as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1 FROM partisan_async_task")
            time.sleep(0.5)
            pid = reader.info.backend_pid

            (said,) = [said for said in wrongs(server.snapshots) if str(pid) in said]

        assert re.fullmatch(
            rf"Server process {pid} \('report', idle in transaction\) has a transaction open for"
            r" \d seconds?, and no row that died since can be vacuumed: end it there, or"
            rf" SELECT pg_terminate_backend\({pid}\)\.",
            said,
        )

    def test_one_that_is_idle_in_its_transaction_and_holds_locks(self, db, monkeypatch):
        monkeypatch.setattr(server, "OLD_SECONDS", 0.3)
        with session(application_name="forgotten") as idle:
            idle.execute("LOCK TABLE partisan_async_task IN ACCESS SHARE MODE")
            time.sleep(0.5)

            found = [said for said in wrongs(server.snapshots) if "forgotten" in said]

        assert "and what it locked stays locked" in found[0]

    def test_a_query_that_takes_long(self, db, monkeypatch):
        monkeypatch.setattr(server, "OLD_SECONDS", 0.3)
        with session(application_name="slow") as slow:
            slow.pgconn.send_query(b"SELECT pg_sleep(20)")
            time.sleep(0.5)
            (said,) = [said for said in wrongs(server.snapshots) if "slow" in said]
            slow.cancel_safe()
            while slow.pgconn.get_result():
                pass

        assert "('slow', active)" in said

    def test_transaction_ids(self, db, monkeypatch):
        """Nobody waits for 500 million transactions: here it is few."""
        assert not wrongs(server.transaction_ids)

        monkeypatch.setattr(server, "OLD_IDS", 5)

        (said,) = wrongs(server.transaction_ids)
        assert "and at 2,000,000,000 the server stops writing" in said

    @pytest.mark.parametrize(("shift", "way"), [(60, "ahead of"), (-60, "behind")])
    def test_clock(self, db, monkeypatch, shift, way):
        assert not wrongs(server.clock)
        real = time.time

        monkeypatch.setattr(server.time, "time", lambda: real() + shift)

        (said,) = wrongs(server.clock)
        assert f"This host's clock is 60 seconds {way} the database's" in said

    def test_a_look_that_fails_takes_no_other_with_it(self, db, monkeypatch):
        monkeypatch.setattr(doctor, "LOOKS", (self.broken, server.clock))

        failed, other = doctor.examine()

        assert (failed.well, other.well) == (None, True)
        assert failed.said.startswith('It could not be looked up: relation "nothing" does not')

    def broken(self):
        execute("SELECT 1 FROM nothing")
        yield


@contextmanager
def in_use(url):
    """Have Django's connection of this process use another database."""
    settings = connections.settings["default"]
    before = dict(settings)
    connections["default"].close()
    settings.update(django_database(url))
    try:
        yield
    finally:
        connections["default"].close()
        settings.update(before)


NOTIFY_QUEUE_IS_SET_SINCE = 170000


@pytest.fixture(scope="module")
def _small_server(django_db_blocker):
    limits = {"max_connections": "25", "max_prepared_transactions": "5"}
    limits |= {"wal_level": "replica"}
    with django_db_blocker.unblock():
        if connection.pg_version >= NOTIFY_QUEUE_IS_SET_SINCE:
            limits |= {"max_notify_queue_pages": "64"}
    with EmbeddedPostgres(settings=limits) as own, django_db_blocker.unblock(), in_use(own.url):
        call_command("migrate", verbosity=0)
        connections["default"].close()
        yield own


@pytest.fixture
def small_server(_small_server, django_db_blocker):
    """One for what concerns all databases of a server: others' tests must not see it."""
    with django_db_blocker.unblock(), in_use(_small_server.url):
        yield _small_server


class TestWholeServer:
    def test_all_is_well(self, small_server):
        out = io.StringIO()

        call_command("partisan", "doctor", stdout=out)

        lines = out.getvalue().splitlines()
        assert len(lines) == len(doctor.LOOKS)
        assert all(line.startswith("ok ") for line in lines), lines

    def test_prepared_transactions(self, small_server, monkeypatch):
        monkeypatch.setattr(server, "OLD_SECONDS", 0)
        with session(autocommit=True) as other:
            for statement in ("BEGIN", "SELECT txid_current()", "PREPARE TRANSACTION 'half'"):
                other.execute(statement)
            try:
                (said,) = wrongs(server.prepared_transactions)
            finally:
                other.execute("ROLLBACK PREPARED 'half'")

        assert said.startswith("The transaction 'half' has been prepared for 0 seconds")
        assert not wrongs(server.prepared_transactions)

    def test_replication_slots(self, small_server):
        execute("SELECT pg_create_physical_replication_slot('left', true)")
        try:
            (said,) = wrongs(server.replication_slots)
        finally:
            execute("SELECT pg_drop_replication_slot('left')")

        assert said.startswith("Nobody reads the replication slot 'left', and the server keeps")
        assert not wrongs(server.replication_slots)

    def test_notification_queue(self, small_server):
        if connection.pg_version < NOTIFY_QUEUE_IS_SET_SINCE:
            pytest.skip("before PostgreSQL 17 it has 8 GB")
        with session() as deaf, session(autocommit=True) as talker:
            deaf.execute("LISTEN something")
            deaf.commit()
            deaf.execute("SELECT 1")  # in a transaction it reads none
            for _ in range(40):
                talker.execute(
                    "SELECT pg_notify('something', repeat('x', 7000) || n)"
                    " FROM generate_series(1, 1) AS n"
                )
            (said,) = wrongs(server.notification_queue)

        assert "when it is full no NOTIFY is possible" in said

    def test_connections_of_real_supervisors(self, small_server):
        assert not wrongs(server.connections)

        # Among its processors are async ones: 2 × (1 + 10) + 4.
        with live_supervisor(WORKERS_COUNT=2):
            wait_until(lambda: len(Supervisor.objects.get().workers) == 2)
            (said,) = wrongs(server.connections)

        with live_supervisor(WORKERS_COUNT=2), override_settings(KEEP_FINISHED_SECONDS=60):
            wait_until(lambda: len(Supervisor.objects.get().workers) == 2)
            (more,) = wrongs(server.connections)

        with live_supervisor(WORKERS_COUNT=2), override_settings(KEEP_FAILED_SECONDS=60):
            wait_until(lambda: len(Supervisor.objects.get().workers) == 2)
            (too,) = wrongs(server.connections)

        assert "may open up to 27 connections" in more
        assert "may open up to 27 connections" in too
        assert said.startswith(
            "1 supervisor(s) that are alive may open up to 26 connections, and the server allows"
            " 22 for all"
        )

    def test_connections_that_are_taken(self, small_server):
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(session())
            (said,) = wrongs(server.connections)

        assert "of 22 are in use of the server's connections: raise max_connections" in said

    def test_autovacuum_of_the_server(self, small_server):
        execute("ALTER SYSTEM SET autovacuum = off")
        execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: wrongs(table.dead_rows))
            (said,) = wrongs(table.dead_rows)
        finally:
            execute("ALTER SYSTEM RESET autovacuum")
            execute("SELECT pg_reload_conf()")

        assert said.startswith("The server's autovacuum or track_counts is off")

    def test_listen_in_another_database(self, small_server):
        execute("CREATE DATABASE another")
        with override_settings(LISTEN_DSN="dbname=another"):
            (said,) = wrongs(reach.listen)

        assert said.startswith("By LISTEN_DSN no NOTIFY gets through, so that queues 'default'")

    def test_listen_nowhere_and_no_password_is_shown(self, small_server):
        with override_settings(LISTEN_DSN="host=127.0.0.1 port=1 password=hunter2"):
            (said,) = wrongs(reach.listen)

        assert "cannot connect by LISTEN_DSN, so that they are polled: correct LISTEN_DSN (" in said
        assert "hunter2" not in said


class TestCommand:
    def test_it_exits_with_1_if_anything_is_wrong(self, alive):
        WriteElsewhere().delay()
        out = io.StringIO()

        with pytest.raises(CommandError, match=r"wrong\.$") as raised:
            call_command("partisan", "doctor", stdout=out)

        assert raised.value.returncode == 1
        assert "\nWRONG unserved queues: Nobody serves queue 'elsewhere'" in out.getvalue()
        assert "\nok    indexes: " in out.getvalue()

    def test_json(self, alive):
        WriteElsewhere().delay()
        out = io.StringIO()

        with pytest.raises(CommandError):
            call_command("partisan", "doctor", "--json", stdout=out)

        found = {each["look"]: each for each in json.loads(out.getvalue())}
        assert found["unserved queues"]["well"] is False
        assert found["indexes"]["well"] is True

    def test_names_command_no_terminal(self, alive):
        WriteElsewhere().delay()
        Task.objects.update(queue_name="evil\x1b[2J\nqueue")
        out = io.StringIO()

        with pytest.raises(CommandError):
            call_command("partisan", "doctor", stdout=out)

        assert "\x1b" not in out.getvalue()

    def test_it_changes_nothing(self, alive):
        Write().delay()
        before = list(Task.objects.values()), list(Supervisor.objects.values())

        list(doctor.examine())

        assert (list(Task.objects.values()), list(Supervisor.objects.values())) == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("column", "others"),
    [
        ("created_at", {}),
        ("created_at", {"status": "scheduled"}),
        ("claimed_at", {"status": "in_process", "claimed_by": uuid.UUID(int=7)}),
        ("finished_at", {"status": "finished"}),
        ("finished_at", {"status": "error"}),
    ],
)
def test_rows_that_a_clock_wrote_that_was_ahead(column, others):
    task, _ = Write(1).delay(), Write(2).delay()
    Task.objects.update(**others | {column: timezone.now()})
    assert not wrongs(server.rows_ahead)

    Task.objects.filter(pk=task.pk).update(**{column: timezone.now() + timedelta(days=365)})

    (said,) = wrongs(server.rows_ahead)
    assert said.startswith(
        f"The database's clock was ahead when {column} was written of {task.pk}: see to its NTP."
    )
