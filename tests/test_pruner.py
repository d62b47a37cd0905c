"""Old finished rows are deleted by the supervisors of their queue, and no others."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from partisan_async import store
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

        asyncio.run(pruner.Pruner("default", None, Statements()).keep())

        assert statements == []

    def test_it_has_no_connection_meanwhile(self):
        """A minute's sleep needs none, and max_connections is for those who work."""
        Write().delay()

        def connections():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name LIKE '%% prune' AND datname = current_database()",
                    [],
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
                wait_until(lambda: "old rows of queue 'default' were not deleted" in caplog.text)
                task = Write().delay()
                wait_until(lambda: Task.objects.get(pk=task.pk).status == "finished")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE of_the_site")

        assert Task.objects.filter(pk=referred.pk).exists()


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
