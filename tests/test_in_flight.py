"""Statements under way: what comes of them, and that nothing is left of one that is not read."""

import contextlib

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from partisan_async.models import Supervisor, Task
from partisan_async.postgres.in_flight import Flight
from partisan_async.testing import live_supervisor, wait_until_ended
from tests.testapp.partisan_tasks import EndlessInFlight, Write, WriteUnique

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = """
INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name)
VALUES (gen_random_uuid(), %(name)s, '{}', 'none') RETURNING hostname
"""


@pytest.fixture
def in_transaction():
    with transaction.atomic():
        assert not Supervisor.objects.exists()  # the BEGIN is sent with the first statement
        yield


class TestFlight:
    def test_the_caller_goes_on_while_the_server_works(self, in_transaction):
        with Flight(connection) as flight:
            flight.send(flight.message("SELECT pg_sleep(1), %(word)s", {"word": "50% 'quoted'"}))

            assert connection.connection.info.transaction_status.name == "ACTIVE"
            assert flight.answer()() == [("", "50% 'quoted'")]

    def test_an_error_is_djangos_and_leaves_the_transaction_to_be_rolled_back(self):
        with pytest.raises(DataError), transaction.atomic():
            Supervisor.objects.exists()
            with Flight(connection) as flight:
                flight.send(flight.message(INSERT, {"name": "one"}))
                assert flight.answer()() == [("one",)]
                flight.send(flight.message(INSERT, {"name": "x" * 256}))
                flight.answer()()

        assert not Supervisor.objects.exists()

    def test_what_is_not_read_stands_in_nobodys_way(self):
        connection.ensure_connection()
        before = connection.connection
        with pytest.raises(KeyError), transaction.atomic():
            Supervisor.objects.exists()
            with Flight(connection) as flight:
                flight.send(flight.message(f"{INSERT}, pg_sleep(600)", {"name": "one"}))
                raise KeyError

        assert not Supervisor.objects.exists()
        assert connection.connection is before

    def test_a_time_limit_that_cuts_in_is_told_as_such(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessInFlight().delay()
            after = Write("after").delay()
            wait_until_ended(after)

        task.refresh_from_db()
        assert task.errors[-1]["exception_class"] == "partisan_async.exceptions.TaskTimeout"
        assert after.status == "finished"

    def test_nothing_is_sent_where_the_transaction_will_be_rolled_back(self):
        """A row would be returned that vanishes without an error."""
        with transaction.atomic():
            Supervisor.objects.exists()
            with contextlib.suppress(KeyError), transaction.atomic(savepoint=False):
                raise KeyError
            with pytest.raises(transaction.TransactionManagementError):
                WriteUnique.bulk_delay([WriteUnique(1)])

    def test_who_looks_on_sees_it(self, in_transaction):
        seen = []

        def look(execute, sql, params, many, context):
            seen.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(look), Flight(connection) as flight:
            flight.send(flight.message(INSERT, {"name": "one"}))
            assert flight.answer()() == [("one",)]
        with CaptureQueriesContext(connection) as captured, Flight(connection) as flight:
            flight.send(flight.message(INSERT, {"name": "two"}))
            assert flight.answer()() == [("two",)]

        assert seen == [INSERT]
        assert len(captured) == 1


class TestBulk:
    """Several thousand calls: while the server inserts a thousand, the one before is read."""

    def test_rows_come_back_in_order_and_as_they_were_stored(self):
        tasks = WriteUnique.bulk_delay([WriteUnique(number) for number in range(3500)])

        assert [task.arguments["args"] for task in tasks] == [[n] for n in range(3500)]
        stored = {row.pk: row for row in Task.objects.all()}
        assert len(stored) == 3500
        for task in tasks:
            row = stored[task.pk]
            assert (task.arguments, bytes(task.digest)) == (row.arguments, bytes(row.digest))

    def test_twins_are_found_in_each_thousand(self):
        waiting = WriteUnique.bulk_delay([WriteUnique(number) for number in range(0, 3500, 7)])
        tasks = WriteUnique.bulk_delay([WriteUnique(number) for number in range(3500)])

        assert [task.pk for task in tasks[::7]] == [task.pk for task in waiting]
        assert Task.objects.count() == 3500
