"""Two connections, and the order in which they meet."""

import threading
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction

from partisan_async import store
from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Task
from partisan_async.policy import Finished, Postponed
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import Nothing, WriteUnique

pytestmark = pytest.mark.django_db(transaction=True)
TTL = timedelta(seconds=30)


class Other:
    """A supervisor's connection: plain psycopg, server-side parameters."""

    def __init__(self, queue_name="default"):
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        self.connection = psycopg.connect(**params, autocommit=True)
        self.me = uuid.uuid4()
        self.execute(
            store.beat(
                [store.Beat(self.me, queue_name, probe_channel="x", nonce="y")],
                hostname="h",
                process="{}",
                ttl=TTL,
            )
        )

    def execute(self, statement):
        cursor = self.connection.execute(statement.sql, statement.params)
        return cursor.fetchall() if cursor.description else []

    def claim(self, limit=10):
        return store.claims(self.execute(store.claim(self.me, "default", limit, TTL)))

    def settle(self, claim, decision, **options):
        settlement = Settlement(claim, decision, Attempt(0.1, "h/1"))
        return self.execute(store.settle(self.me, [settlement], **options))


@pytest.fixture
def other(transactional_db):
    other = Other()
    yield other
    other.connection.close()


@pytest.fixture
def third(transactional_db):
    third = Other()
    yield third
    third.connection.close()


def test_two_who_claim_get_different_rows(other, third):
    tasks = [Nothing(number).delay() for number in range(6)]

    with other.connection.transaction():
        first = other.claim(3)
        second = third.claim(10)

    assert [claim.id for claim in first] == [task.pk for task in tasks[:3]]
    assert [claim.id for claim in second] == [task.pk for task in tasks[3:]]


def test_a_waiting_twin_is_not_claimed_before_the_caller_commits(other):
    """It would run on the state from before the caller's changes."""
    twin = WriteUnique(1).delay()

    with transaction.atomic():
        assert WriteUnique(1).delay() == twin
        assert other.claim() == []
    assert [claim.id for claim in other.claim()] == [twin.pk]


def test_a_twin_that_is_claimed_meanwhile_does_not_count(other):
    first = WriteUnique(1).delay()
    (claimed,) = other.claim()

    second = WriteUnique(1).delay()

    assert second != first
    assert other.settle(claimed, Finished()) == [(first.pk,)]


def test_a_twin_that_is_enqueued_while_it_goes_back_to_waiting(other):
    """The unique index lets one of them keep the digest, and neither is lost."""
    first = WriteUnique(1).delay()
    (claimed,) = other.claim()

    with transaction.atomic():
        second = WriteUnique(1).delay()
        failed = []

        def settle():
            try:
                other.settle(claimed, Postponed(timedelta(0)))
            except psycopg.errors.UniqueViolation as error:
                failed.append(error)
                other.settle(claimed, Postponed(timedelta(0)), gently=True)

        thread = threading.Thread(target=settle)
        thread.start()
        with Other("watch").connection as watch:
            _wait_for_a_lock(type("W", (), {"connection": watch}))
    thread.join()

    assert len(failed) == 1
    assert {task.pk for task in Task.objects.filter(status="new")} == {first.pk, second.pk}


@pytest.fixture
def slow_claims():
    """Claims take a second after they have looked at what there is."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE UPDATE ON partisan_async_task FOR EACH ROW
                WHEN (OLD.status = 'new' AND NEW.status = 'in_process') EXECUTE FUNCTION slow();
            """
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER slow ON partisan_async_task; DROP FUNCTION slow")


def test_a_notify_that_lands_while_a_claim_is_under_way_is_not_lost(slow_claims):
    """That claim does not see the row: cleared only after it, the wake-up would be gone."""
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=60, ttl_seconds=300):
        Nothing("first").delay()
        wait_until(lambda: claims_under_way() == 1)
        Nothing("second").delay()
        wait_until(ended)


def claims_under_way():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            " AND application_name LIKE '% claim' AND datname = current_database()"
        )
        return cursor.fetchone()[0]


def test_under_repeatable_read_an_unseen_twin_rises():
    """The caller's snapshot cannot see it; to insert a second one would break the promise."""

    def enqueue():
        WriteUnique(1).delay()
        connections.close_all()

    with pytest.raises((OperationalError, IntegrityError), match="serialize"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM partisan_async_task")
        thread = threading.Thread(target=enqueue)
        thread.start()
        thread.join()
        WriteUnique(1).delay()

    assert Task.objects.count() == 1


def test_a_thousand_claims_and_settles_from_four_sides_lose_nothing():
    """Each row is claimed once, settled once, by the one who claimed it."""
    Task.objects.bulk_create(
        Task(
            queue_name="default",
            processor_class="Nothing",
            arguments={"args": [n], "kwargs": {}},
            priority=n % 3,
            execute_after="2020-01-01T00:00Z",
        )
        for n in range(1000)
    )
    settled = []

    def work():
        other = Other()
        while claims := other.claim(7):
            batch = [Settlement(claim, Finished(), Attempt(0, "w")) for claim in claims]
            settled.extend(row[0] for row in other.execute(store.settle(other.me, batch)))
        other.connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(settled) == len(set(settled)) == 1000
    assert Task.objects.filter(status="finished", claim_seq=1, tries=1).count() == 1000


def _wait_for_a_lock(other):
    """Return when some session waits for a lock."""
    import time

    deadline = time.monotonic() + 10
    sql = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while other.connection.execute(sql).fetchone()[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
