"""Old finished rows are deleted by the supervisors of their queue, and no others."""

import asyncio
import io
import uuid
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.models import Task
from partisan_async.supervisor import pruner
from partisan_async.testing import live_supervisor
from tests.conftest import wait_until
from tests.testapp.partisan_tasks import Write, WriteElsewhere

HOUR = timedelta(hours=1)


def finish(*tasks, ago=2 * HOUR, status="finished"):
    rows = Task.objects.filter(pk__in=[task.pk for task in tasks])
    rows.update(status=status, finished_at=timezone.now() - ago)


@pytest.mark.django_db(transaction=True)
class TestPruner:
    def test_rows_that_finished_long_ago_are_deleted_in_batches(self):
        old = Write.bulk_delay([Write(number) for number in range(2500)])
        finish(*old)
        young, failed, elsewhere = Write().delay(), Write().delay(), WriteElsewhere().delay()
        finish(young, ago=timedelta(minutes=5))
        finish(failed, status="error")
        finish(elsewhere)

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            wait_until(lambda: not Task.objects.filter(pk__in=[task.pk for task in old]).exists())

        assert set(Task.objects.all()) == {young, failed, elsewhere}

    def test_those_that_failed_go_by_a_setting_of_their_own(self, monkeypatch):
        monkeypatch.setattr(pruner, "LOOK_EVERY_SECONDS", 0.1)
        old = Write.bulk_delay([Write(number) for number in range(1500)])
        finish(*old, status="error")
        young, finished, elsewhere = Write().delay(), Write().delay(), WriteElsewhere().delay()
        finish(young, ago=timedelta(minutes=5), status="error")
        finish(finished)
        finish(elsewhere, status="error")
        left = {young, finished, elsewhere}

        with live_supervisor(WORKERS_COUNT=1, KEEP_FAILED_SECONDS=3600):
            wait_until(lambda: set(Task.objects.all()) == left)
        with live_supervisor(WORKERS_COUNT=1, KEEP_FAILED_SECONDS=60, KEEP_FINISHED_SECONDS=60):
            wait_until(lambda: set(Task.objects.all()) == {elsewhere})

    def test_one_that_was_run_again_is_not_old_any_more(self):
        """Whether somebody is about to, has, or it has failed once more since."""
        about_to, ran, again, old = (Write(number).delay() for number in range(4))
        finish(about_to, ran, again, old, status="error")
        steering.retry([ran.pk, again.pk])
        finish(again, ago=timedelta(0), status="error")
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params) as other:
            other.execute(*store.again([about_to.pk]))
            assert steering.prune(HOUR, statuses=["error"]).deleted == 1
            other.commit()
        assert steering.prune(HOUR, statuses=["error"]).deleted == 0

        assert set(Task.objects.all()) == {about_to, ran, again}

    def test_one_that_is_run_again_between_the_look_and_the_delete(self, referring, monkeypatch):
        """Beside a row that is kept, rows are found first and deleted then."""
        kept, again, old = (Write(number).delay() for number in range(3))
        finish(kept, again, old, status="error")
        referring(kept)
        looked = []

        def meanwhile(execute, sql, *rest):
            answer = execute(sql, *rest)
            if sql.lstrip().startswith("SELECT finished_at::text") and not looked:
                looked.append(sql)
                steering.retry([again.pk])
                finish(again, ago=timedelta(0), status="error")
            return answer

        with connection.execute_wrapper(meanwhile):
            pruned = steering.prune(HOUR, statuses=["error"])

        assert (len(looked), pruned.deleted, list(pruned.kept)) == (1, 1, [kept.pk])
        assert set(Task.objects.all()) == {kept, again}

    def test_it_looks_again(self, monkeypatch):
        monkeypatch.setattr(pruner, "LOOK_EVERY_SECONDS", 0.1)

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            task = Write().delay()
            wait_until(lambda: Task.objects.get().status == "finished")
            finish(task)
            wait_until(lambda: not Task.objects.exists())

    def test_without_the_setting_nothing_is(self, caplog):
        task = Write().delay()
        finish(task, ago=1000 * HOUR)
        statements = []

        class Statements:
            async def execute(self, statement):
                statements.append(statement)

        asyncio.run(pruner.Pruner("default", None, Statements()).prune())

        assert statements == []

    def test_it_has_no_connection_meanwhile(self):
        """A minute's sleep needs none, and max_connections is for those who work."""
        Write().delay()
        began = timezone.now()

        def connections():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name LIKE '%% prune' AND datname = current_database()"
                    " AND backend_start > %s",
                    [began],
                )
                return cursor.fetchone()[0]

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            wait_until(lambda: Task.objects.get().status == "finished")
            wait_until(lambda: connections() == 0)

    def test_rows_that_others_refer_to_end_no_supervisor(self, caplog):
        """A site's own table may refer to tasks, and its rows are not ours to delete."""
        referred = Write().delay()
        finish(referred)
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE of_the_site (task bigint REFERENCES partisan_async_task (id))"
            )
            cursor.execute("INSERT INTO of_the_site VALUES (%s)", [referred.pk])
        try:
            with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
                wait_until(lambda: "old row(s) of queue 'default' were not deleted" in caplog.text)
                task = Write().delay()
                wait_until(lambda: Task.objects.get(pk=task.pk).status == "finished")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE of_the_site")

        assert Task.objects.filter(pk=referred.pk).exists()

    @pytest.fixture
    def referring(self):
        """A table of the site's; what is in it refers to tasks."""
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE of_the_site (task bigint REFERENCES partisan_async_task (id))"
            )
        yield refer
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE of_the_site")

    def test_one_row_that_is_kept_holds_up_none_of_twenty_thousand(
        self, referring, monkeypatch, caplog
    ):
        """The oldest of all: each batch began with it, and came to nothing."""
        monkeypatch.setattr(pruner, "LOOK_EVERY_SECONDS", 0.1)
        with connection.cursor() as cursor:
            cursor.execute(OLD_ROWS, [20_000])
        oldest = Task.objects.earliest("id")
        referring(oldest)

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            wait_until(lambda: Task.objects.count() == 1)
            later = Write().delay()
            wait_until(lambda: Task.objects.get(pk=later.pk).status == "finished")
            finish(later)
            wait_until(lambda: Task.objects.count() == 1)

        assert Task.objects.get() == oldest
        told = f"1 old row(s) of queue 'default' were not deleted, such as {oldest.pk}: update or"
        assert caplog.text.count(told) == 1

    def test_a_thousand_that_are_kept_hold_up_none_behind_them(self, referring, monkeypatch):
        monkeypatch.setattr(pruner, "LOOK_EVERY_SECONDS", 0.1)
        with connection.cursor() as cursor:
            cursor.execute(OLD_ROWS, [2500])
        first = list(Task.objects.order_by("id")[:1100])
        referring(*first)

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            wait_until(lambda: Task.objects.count() == 1100, seconds=90)

        assert set(Task.objects.all()) == set(first)

    def test_beside_a_row_that_is_kept_one_that_is_locked_holds_up_none(
        self, referring, monkeypatch, caplog
    ):
        """Whoever has it locked may take long; it goes at a later look, and is not told of."""
        monkeypatch.setattr(pruner, "LOOK_EVERY_SECONDS", 0.1)
        monkeypatch.setattr(pruner, "FROM_THE_OLDEST_EVERY_SECONDS", 0.1)
        with connection.cursor() as cursor:
            cursor.execute(OLD_ROWS, [40])
        kept, locked = Task.objects.order_by("id")[:2]
        referring(kept)

        with ExitStack() as held:
            held.enter_context(locking(locked))
            with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
                wait_until(lambda: set(Task.objects.all()) == {kept, locked})
                held.close()
                wait_until(lambda: set(Task.objects.all()) == {kept})

        told = [record for record in caplog.records if "were not deleted" in record.message]
        assert [record.task_ids for record in told] == [[kept.pk]]

    def test_by_the_command_neither(self, referring):
        """It ends, and names what is kept."""
        with connection.cursor() as cursor:
            cursor.execute(OLD_ROWS, [40])
            cursor.execute("SET statement_timeout = '20s'")
        kept, locked = Task.objects.order_by("id")[:2]
        referring(kept)

        with locking(locked), pytest.raises(CommandError, match=f"such as {kept.pk}: "):
            call_command("partisan", "prune", "--older-than", "1h", "--yes", stdout=io.StringIO())
        connection.close()

        assert set(Task.objects.all()) == {kept, locked}

    def test_the_command_deletes_the_others_and_names_one(self, referring):
        with connection.cursor() as cursor:
            cursor.execute(OLD_ROWS, [2500])
        oldest = Task.objects.earliest("id")
        referring(oldest)
        said = io.StringIO()

        with pytest.raises(CommandError, match=f"The database keeps 1 task, such as {oldest.pk}: "):
            call_command("partisan", "prune", "--older-than", "1h", "--yes", stdout=said)

        assert said.getvalue() == "2,499 tasks deleted.\n"
        assert Task.objects.get() == oldest

    def test_a_row_without_a_time_that_python_knows_is_deleted_too(self):
        finish(Write().delay())
        with connection.cursor() as cursor:
            cursor.execute("UPDATE partisan_async_task SET finished_at = '0044-03-15 BC'")

        with live_supervisor(WORKERS_COUNT=1, KEEP_FINISHED_SECONDS=3600):
            wait_until(lambda: not Task.objects.exists())


OLD_ROWS = """
INSERT INTO partisan_async_task (queue_name, processor_class, arguments, status, priority,
    execute_after, finished_at)
SELECT 'default', 'Write', '{"args": [], "kwargs": {}}', 'finished', 10, now(),
    now() - interval '1 day' + n * interval '1 ms'
FROM generate_series(1, %s) AS n
"""


@contextmanager
def locking(task):
    """Have another session hold a row."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params) as other:
        other.execute("SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE", [task.pk])
        yield
        other.rollback()


def refer(*tasks):
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO of_the_site VALUES (%s)", [[task.pk] for task in tasks])


@pytest.mark.django_db
def test_it_reads_no_row_that_stays():
    """Another queue may keep a million for ever, and a look a minute must not read them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO partisan_async_task (queue_name, processor_class, arguments, status,
                priority, execute_after, finished_at)
            SELECT CASE WHEN n %% 2 = 0 THEN 'other' ELSE 'default' END, 'Write', '{}',
                CASE WHEN n %% 4 = 1 THEN 'error' WHEN n < 20000 THEN 'finished' ELSE 'error' END,
                10, now(), now() - interval '1 day'
            FROM generate_series(1, %s) AS n
            """,
            [20_000],
        )
        cursor.execute("ANALYZE partisan_async_task")
        Task.objects.filter(queue_name="default", status="finished").delete()
        statement = store.prune(HOUR, "finished", "default")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement.sql}", statement.params)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Scan using partisan_async_ended" in plan
    assert "Seq Scan" not in plan
    assert "Rows Removed by Filter" not in plan


@pytest.mark.django_db
def test_the_queues_with_rows_that_ended_are_found_by_leaps():
    finish(*Write.bulk_delay([Write(number) for number in range(5)]), WriteElsewhere().delay())
    task = Write().delay()
    Task.objects.filter(pk=task.pk).update(queue_name=f"waits {uuid.uuid4()}")

    with connection.cursor() as cursor:
        cursor.execute(*store.ended_queues())

        assert cursor.fetchall() == [("default",), ("elsewhere",)]
