"""A statement, its commit and what follows in one message: told apart, and left in order."""

import os
import signal
import threading

import psycopg
import pytest
from django.db import (
    DataError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.postgresql.base import Cursor
from django.test.utils import CaptureQueriesContext
from psycopg.pq import TransactionStatus

from partisan_async.models import Supervisor
from partisan_async.postgres import one_message
from tests.conftest import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = """
INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name)
VALUES (gen_random_uuid(), %(name)s, '{}', 'none') RETURNING hostname, started_at
"""


def fetch(afterwards="SELECT 1", sql=INSERT, name="one"):
    return one_message.fetch(connection, sql, {"name": name}, afterwards)


@pytest.fixture
def other():
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params, autocommit=True) as other:
        yield other


def is_idle():
    return connection.connection.info.transaction_status == TransactionStatus.IDLE


class TestRuns:
    def test_the_rows_are_read_as_django_reads_them(self, settings):
        for use_tz in (True, False):
            settings.USE_TZ = use_tz

            ((name, started_at),) = fetch(name="100% 'quoted'")

            row = Supervisor.objects.get()
            assert (name, started_at) == (row.hostname, row.started_at)
            row.delete()

    def test_it_is_committed_before_the_rest_begins(self, other):
        """A lock that the rest waits for would be held by the first otherwise."""
        other.execute("SELECT pg_advisory_lock(1)")

        def run():
            fetch("SELECT pg_advisory_lock(1)")
            connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(Supervisor.objects.exists)
        finally:
            other.execute("SELECT pg_advisory_unlock(1)")
            thread.join()


class TestFails:
    def test_an_error_of_the_statement_is_raised_and_the_rest_is_not_run(self):
        with pytest.raises(DataError, match="too long"):
            fetch("UPDATE no_such_table SET x = 1", name="x" * 256)

        assert is_idle()
        assert not Supervisor.objects.exists()

    def test_an_error_of_what_follows_is_logged_alone(self, caplog):
        ((name, _),) = fetch("SELECT 1 / 0")

        assert name == "one"
        assert Supervisor.objects.exists()
        assert is_idle()
        assert "division by zero" in caplog.text

    def test_a_connection_that_is_lost_after_the_commit_is_no_error(self, caplog):
        ((name, _),) = fetch("SELECT pg_terminate_backend(pg_backend_pid())")

        connection.close()
        assert name == Supervisor.objects.get().hostname
        assert "not run after a commit" in caplog.text

    def test_a_connection_that_is_lost_before_it_is_one(self):
        sql = "SELECT pg_terminate_backend(pg_backend_pid()), %(name)s"
        with pytest.raises(OperationalError):
            fetch(sql=sql)
        with pytest.raises((OperationalError, InterfaceError)):
            fetch()

        connection.close()
        assert fetch()

    def test_a_connection_that_was_lost_before_is_found_out_where_django_looks(self, other):
        """With CONN_HEALTH_CHECKS a request begins with a look at its connection."""
        connection.ensure_connection()
        pid = connection.connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        connection.health_check_enabled, connection.health_check_done = True, False

        assert fetch()

    def test_an_interrupt_leaves_no_transaction_open(self):
        """Ctrl-C in the middle of it: the next query would fail."""
        timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            fetch(sql="SELECT pg_sleep(10), %(name)s")
        timer.join()

        assert is_idle()


class TestCannot:
    """Each goes the ordinary way, by a query and a hook."""

    def test_within_a_transaction(self):
        with transaction.atomic():
            assert fetch() is None

    def test_without_autocommit(self):
        transaction.set_autocommit(False)
        try:
            assert fetch() is None
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    def test_within_a_transaction_that_django_does_not_know(self):
        """Its COMMIT would be that one's."""
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            assert fetch() is None
            cursor.execute("ROLLBACK")

    def test_where_queries_are_logged(self):
        with CaptureQueriesContext(connection):
            assert fetch() is None

    def test_with_a_cursor_of_somebody_else(self):
        class Watched(Cursor):
            pass

        connection.ensure_connection()
        connection.connection.cursor_factory = Watched

        assert fetch() is None
        connection.close()

    def test_in_a_pipeline(self):
        connection.ensure_connection()
        with connection.connection.pipeline():
            assert fetch() is None
