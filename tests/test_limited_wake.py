"""Supervisors are told of what waits for limits: by its ids, once a transaction, and by no key."""

import os
import shutil
import threading
from contextlib import contextmanager

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from partisan_async import registry, store
from partisan_async.claim import Call
from partisan_async.models import Task
from partisan_async.postgres import one_message
from partisan_async.processor import BaseTaskProcessor
from partisan_async.store.noting import insert_and_tell
from partisan_async.unique import Unique
from tests.conftest import DEADLINE_SECONDS
from tests.faults.pgbouncer import Pgbouncer
from tests.process import environment
from tests.test_limited_enqueue import LATER, Paid, PaidOnce
from tests.testapp.partisan_tasks import Nothing

pytestmark = pytest.mark.django_db(transaction=True)


class PaidLast(Paid):
    UNIQUE_FOR_PARAMS = True
    UNIQUE = Unique(by=("n",), on_twin="replace")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for name, each in {"Paid": Paid, "shop.PaidOnce": PaidOnce, "PaidLast": PaidLast}.items():
        monkeypatch.setitem(registry._processors, name, each)


@contextmanager
def listening(*queue_names):
    """Yield what returns the payloads that came since it was last called."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params, autocommit=True) as listener:
        for name in queue_names:
            listener.execute(f'LISTEN "{store.channel(name)}"')

        def heard():
            with psycopg.connect(**params, autocommit=True) as other:
                other.execute(f"NOTIFY \"{store.channel(queue_names[0])}\", 'end'")
            payloads = []
            for note in listener.notifies(timeout=DEADLINE_SECONDS):
                if note.payload == "end":
                    return payloads
                payloads.append(note.payload)
            raise AssertionError("the end mark did not come")

        yield heard


@pytest.fixture
def heard():
    with listening("default", "slow") as heard:
        yield heard


@pytest.fixture
def waits(monkeypatch):
    """Return how often the client waited for the server."""
    count = []
    wait = psycopg.Connection.wait

    def counted(self, *args, **kwargs):
        count.append(1)
        return wait(self, *args, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    return count


def told(*tasks):
    return "limited:" + ",".join(str(task.pk) for task in tasks)


def note():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('partisan_async.enqueued', true)")
        ((found,),) = cursor.fetchall()
    return found


class TestAlone:
    """Outside of a transaction."""

    @pytest.mark.parametrize("kind", [Paid, PaidOnce])
    def test_its_id_is_told(self, heard, kind):
        first, second = kind(n=1).delay(), kind(n=2).delay()

        assert heard() == [told(first), told(second)]

    @pytest.mark.parametrize("kind", [Paid, PaidOnce])
    def test_it_takes_as_many_round_trips_as_one_without_a_limit(self, waits, kind, monkeypatch):
        kind(n=1).delay()
        before = len(waits)
        kind(n=2).delay()
        limited = len(waits) - before

        monkeypatch.setattr(kind, "LIMIT", None)
        before = len(waits)
        kind(n=3).delay()

        assert limited == len(waits) - before == 1

    def test_nothing_is_left_in_the_session(self):
        Paid().delay()

        assert not note()

    def test_of_a_twin_nothing_is_told_again(self, heard):
        """Whoever has enqueued it did; and a note of before is not taken for its own."""
        first = PaidOnce().delay()
        Paid().delay()
        heard()

        assert PaidOnce().delay() == first
        assert heard() == []

    def test_of_a_twin_that_does_not_wait_for_a_limit_it_is_told(self, heard, monkeypatch):
        """Enqueued before there was one."""
        monkeypatch.setattr(PaidOnce, "LIMIT", None)
        first = PaidOnce().delay()
        monkeypatch.setattr(PaidOnce, "LIMIT", Paid.LIMIT)
        heard()

        again = PaidOnce().delay()

        assert (again, again.status) == (first, "new")
        assert heard() == ["new"]

    def test_for_later_it_is_told_as_scheduled(self, heard):
        Paid().delay(execute_after=LATER)

        assert heard() == ["scheduled"]

    def test_where_queries_are_logged_it_is_told_too(self, heard):
        with CaptureQueriesContext(connection):
            task = Paid().delay()

        assert heard() == [told(task)]

    def test_by_bulk(self, heard):
        tasks = Paid.bulk_delay([Paid(n=n) for n in range(20)])
        assert heard() == [told(*tasks)]

        Paid.bulk_delay([Paid(n=n) for n in range(21)])
        assert heard() == ["limited"]

        Paid.bulk_delay([Paid(n=n) for n in range(2500)])
        assert heard() == ["limited"]

    def test_by_bulk_with_others(self, heard):
        one, two, _ = BaseTaskProcessor.bulk_delay([Paid(), Paid(n=1), Nothing(1)])

        assert sorted(heard()) == [told(one, two), "new"]

    def test_one_that_is_replaced_is_told_again(self, heard):
        """It may start under another key now."""
        first = PaidLast("acme", n=1).delay()
        assert heard() == [told(first)]

        assert PaidLast("bee", n=1).delay().pk == first.pk
        assert heard() == [told(first)]

    def test_from_async_code(self, heard):
        task = async_to_sync(Paid().adelay)()

        assert heard() == [told(task)]

    def test_a_queue_of_any_name(self):
        name = 'it\'s 100% \\ "queue" %(x)s'
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params, autocommit=True) as listener:
            quoted = store.channel(name).replace('"', '""')
            listener.execute(f'LISTEN "{quoted}"'.encode())
            task = Paid().delay(queue_name=name)

            (heard,) = listener.notifies(timeout=DEADLINE_SECONDS, stop_after=1)

        assert heard.payload == told(task)


class TestInATransaction:
    def test_all_are_told_at_once_after_the_commit(self, heard):
        with transaction.atomic():
            tasks = [Paid(n=n).delay() for n in range(3)]
            tasks += PaidOnce.bulk_delay([PaidOnce(n=n) for n in range(3)])
            assert heard() == []

        assert heard() == [told(*tasks)]

    @pytest.mark.parametrize(("count", "names"), [(20, True), (21, False), (300, False)])
    def test_of_more_than_twenty_no_ids(self, heard, count, names):
        with transaction.atomic():
            tasks = [Paid(n=n).delay() for n in range(count)]

        assert heard() == [told(*tasks) if names else "limited"]

    def test_each_queue_of_its_own(self, heard):
        with transaction.atomic():
            here, there = Paid().delay(), Paid().delay(queue_name="slow")
            new = Nothing(1).delay()
            here_too = Paid(n=1).delay()

        assert new.status == "new"
        assert sorted(heard()) == sorted([told(here, here_too), told(there), "new"])

    def test_what_a_savepoint_took_back_is_not_told(self, heard):
        with transaction.atomic():
            first = Paid().delay()
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Paid().delay()
                raise ZeroDivisionError
            last = Paid().delay()

        assert heard() == [told(first, last)]

    def test_if_the_first_was_taken_back_the_others_are_told(self, heard):
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Paid().delay()
                raise ZeroDivisionError
            last = Paid().delay()

        assert heard() == [told(last)]

    def test_a_transaction_that_is_rolled_back_leaves_nothing_to_the_next(self, heard):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            for _ in range(30):
                Paid().delay()
            raise ZeroDivisionError
        with transaction.atomic():
            task = Paid().delay()

        assert heard() == [told(task)]

    def test_a_twin_in_it_is_told(self, heard):
        first = PaidOnce().delay()
        heard()
        with transaction.atomic():
            assert PaidOnce().delay() == first

        assert heard() == [told(first)]

    def test_what_fails_to_be_told_fails_nobody(self, heard, monkeypatch, caplog):
        monkeypatch.setattr("partisan_async.enqueue.wake._notify", lambda *_: 1 / 0)
        with transaction.atomic():
            Paid().delay()
            Paid().delay()

        assert Task.objects.count() == 2
        assert len([each for each in caplog.records if each.exc_info]) == 1

    def test_without_autocommit_it_is_told_within(self, heard):
        connection.set_autocommit(False)
        try:
            task = Paid().delay()
            assert heard() == []
            connection.commit()
        finally:
            connection.rollback()
            connection.set_autocommit(True)

        assert heard() == [told(task)]

    def test_the_callbacks_of_a_test_case_tell_it_once(self, heard):
        """They are run within its transaction, and stay registered."""
        with transaction.atomic(), TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
            tasks = [Paid().delay(), Paid().delay()]

        assert len(callbacks) == 2
        assert heard() == [told(*tasks)]


def test_no_payload_has_a_key(heard):
    with transaction.atomic():
        Paid("ada@example.org").delay()
    Paid("ada@example.org").delay()
    Paid.bulk_delay([Paid("ada@example.org")])

    payloads = heard()
    assert len(payloads) == 3
    assert "ada" not in "".join(payloads)


@pytest.mark.skipif(
    not shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin"), reason="no pgbouncer"
)
def test_behind_a_pooler_of_transactions_each_tells_its_own():
    """Many clients share two sessions; what one leaves there is never another's."""
    clients, calls = 8, 25
    inserted, complaints = [], []

    def enqueue(settings):
        own = DatabaseWrapper(settings | {"DISABLE_SERVER_SIDE_CURSORS": True}, "pooled")
        try:
            for n in range(calls):
                limit = {"limit_name": "x", "limit_key": f"k{n}", "limit_rank": 1}
                call = Call("default", "X", '{"args":[],"kwargs":{}}', 1, None, None, **limit)
                statement, tell = insert_and_tell(call, None)
                ((pk, *_),) = one_message.fetch(own, *statement, tell)
                inserted.append(pk)
        except BaseException as error:
            complaints.append(error)
        finally:
            own.close()

    with listening("default") as heard, Pgbouncer(environment()["DATABASE_URL"], pool_size=2) as p:
        settings = connection.settings_dict | {
            "HOST": "127.0.0.1",
            "PORT": p.port,
            "USER": "postgres",
        }
        threads = [threading.Thread(target=enqueue, args=(settings,)) for _ in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        payloads = heard()

    assert complaints == []
    assert len(inserted) == clients * calls
    assert sorted(payloads) == sorted(f"limited:{pk}" for pk in inserted)
