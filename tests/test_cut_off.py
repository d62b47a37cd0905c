"""An ``ATOMIC`` run whose session is ended, or cannot be had, runs again: that is not its doing."""

import psycopg
import pytest
from django.db import connection

from partisan_async.models import Task
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.testapp.partisan_tasks import AtomicCutOff, Keep, Look, Looked, Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(transactional_db):
    """A session with another database of the server."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params | {"dbname": "postgres"}, autocommit=True) as session:
        yield session.execute


@pytest.mark.parametrize("how", ["ended", "swallowed", "swallowed, and another error"])
def test_a_run_whose_session_an_administrator_ends_runs_again(how, caplog):
    """Whatever it makes of that: nothing of it is committed."""
    with live_supervisor(WORKERS_COUNT=1):
        task = AtomicCutOff(how, 1).delay()
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.tries, task.errors, task.claim_seq) == ("finished", 1, [], 2)
    assert marks() == [how]
    assert f"cut off {task.pk} AtomicCutOff: its database session ended" in caplog.text
    assert "it runs again in 1 s" in caplog.text


def test_one_that_ends_while_the_call_is_read_begins_no_run(caplog):
    with live_supervisor(WORKERS_COUNT=1):
        task = Look(Looked(7)).delay()
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.tries, task.errors, task.claim_seq) == ("finished", 1, [], 2)
    assert marks() == ["looked", "run 7"]
    assert f"cut off {task.pk} Look: its database session ended" in caplog.text


def test_it_ends_in_error_when_that_was_so_fifteen_times():
    with live_supervisor(WORKERS_COUNT=1):
        task = AtomicCutOff("ended", 99).delay()
        wait_until(lambda: Task.objects.filter(status="scheduled", interrupted=1).exists())
        Task.objects.update(interrupted=15, status="new")
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.tries) == ("error", 1)
    assert "terminating connection" in task.errors[0]["message"]
    assert "end_session" in task.errors[0]["traceback"]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("idle for too long", "InternalError"),
        ("a statement that takes too long", "OperationalError"),
        ("closed by itself", "OperationalError"),
        ("swallowed, and postponed", "MaxPostponesReached"),
        ("swallowed, and cancelled", "TaskCancelled"),
    ],
)
def test_what_a_run_has_done_itself_is_its_own(how, error):
    """Time-outs are there to end such a run, and not to have it run fifteen times."""
    with live_supervisor(WORKERS_COUNT=1):
        task = AtomicCutOff(how, 99).delay()
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.tries, task.interrupted) == ("error", 1, 0)
    assert task.errors[0]["exception_class"].endswith(error)
    assert marks() == []


def test_a_run_that_could_not_begin_is_not_failed(admin, caplog):
    """The server takes no connections for a while: its time comes when it does."""
    name = connection.settings_dict["NAME"]
    with live_supervisor(WORKERS_COUNT=1):
        AtomicCutOff("warm", 0).delay()
        Write("warm").delay()
        wait_until(ended)
        admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                " AND application_name = '' AND pid <> %s AND backend_type = 'client backend'",
                [name, connection.connection.info.backend_pid],
            )
            task = AtomicCutOff("begins", 0).delay()
            wait_until(lambda: Task.objects.get(pk=task.pk).interrupted >= 2)
            task.refresh_from_db()
            assert (task.tries, task.started_at, task.worker_ids) == (0, None, [])
        finally:
            admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        wait_until(ended)

    task.refresh_from_db()
    assert (task.status, task.tries, task.errors) == ("finished", 1, [])
    assert "not currently accepting connections" in caplog.text


def test_a_result_that_is_too_large_is_told_before_it_travels():
    """Else the row would be too large for every statement that is to write it."""
    with live_supervisor(WORKERS_COUNT=1, MAX_RESULT_BYTES=1000):
        fits, large = Keep("x" * 998).delay(), Keep("x" * 999).delay()
        other = Write().delay()
        wait_until(ended)

    for task in (fits, large, other):
        task.refresh_from_db()
    assert (fits.status, other.status) == ("finished", "finished")
    assert (large.status, large.result) == ("error", None)
    (error,) = large.errors
    assert error["exception_class"] == "partisan_async.exceptions.ResultTooLarge"
    assert error["message"].startswith(
        "run() of Keep returned 1,001 bytes of JSON, and MAX_RESULT_BYTES of its queue is 1,000."
    )
