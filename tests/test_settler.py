"""Outcomes are written whoever else is at the rows: nobody's transaction holds the others up."""

import asyncio
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Task
from partisan_async.policy import Finished, GivenBack
from partisan_async.supervisor import refused
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.settler import Settler
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.site_rules import refusal, trigger
from tests.test_store import beat, claim, settle
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Sleep, SlowUniqueRetry, Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def somebody(transactional_db):
    """Another session, with a transaction open."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params) as other:
        yield other


@pytest.fixture
def receipts():
    """A table of the site's own that refers to tasks."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE receipt (task bigint REFERENCES partisan_async_task)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE receipt")


@pytest.mark.parametrize("delete", [False, True])
def test_a_row_that_somebody_has_locked_holds_up_no_other(somebody, delete):
    with live_supervisor(DELETE_TASKS_ON_COMPLETE=delete):
        locked = Sleep(0.3, "locked").delay()
        wait_until(lambda: Mark.objects.exists())
        somebody.execute("SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE", [locked.pk])
        others = [Write(number).delay() for number in range(50)]
        wait_until(lambda: ended(*others))
        assert Task.objects.get(pk=locked.pk).status == "in_process"

        somebody.rollback()
        wait_until(ended)

    left = Task.objects.filter(pk=locked.pk).values_list("status", "claim_seq")
    assert list(left) == ([] if delete else [("finished", 1)])


def test_a_twin_in_an_open_transaction_holds_up_no_outcome(somebody):
    """A request enqueues a unique call whose running twin fails into a retry, and goes on."""
    with live_supervisor():
        retried = SlowUniqueRetry("it", 1).delay()
        wait_until(lambda: Mark.objects.exists())
        somebody.execute(
            "INSERT INTO partisan_async_task"
            " (queue_name, processor_class, arguments, priority, execute_after, digest)"
            " SELECT queue_name, processor_class, arguments, priority, execute_after, digest"
            " FROM partisan_async_task WHERE id = %s",
            [retried.pk],
        )
        others = [Write(number).delay() for number in range(50)]
        wait_until(lambda: ended(retried, *others))

        somebody.rollback()

    retried.refresh_from_db()
    assert (retried.status, retried.tries) == ("finished", 2)


def test_a_lock_on_what_refers_to_a_row_holds_up_no_other(somebody, receipts):
    """To delete the row the server looks there, and finds it locked."""
    with live_supervisor(DELETE_TASKS_ON_COMPLETE=True):
        referred = Sleep(0.5, "referred").delay()
        wait_until(lambda: Mark.objects.exists())
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO receipt VALUES (%s)", [referred.pk])
        somebody.execute("DELETE FROM receipt")
        others = [Write(number).delay() for number in range(20)]
        wait_until(lambda: not Task.objects.filter(pk__in=[task.pk for task in others]))
        assert Task.objects.get().status == "in_process"

        somebody.commit()
        wait_until(lambda: not Task.objects.exists())


def test_a_row_that_the_site_refers_to_stays_and_holds_up_no_other(receipts):
    """DELETE_TASKS_ON_COMPLETE meets a foreign key."""
    kept = Write("kept").delay()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO receipt VALUES (%s)", [kept.pk])
    for number in range(20):
        Write(number).delay()

    with live_supervisor(DELETE_TASKS_ON_COMPLETE=True):
        wait_until(lambda: ended() and Task.objects.count() == 1)

    assert Task.objects.get().pk == kept.pk


@pytest.mark.parametrize("mine", [True, False])
def test_what_was_written_and_claimed_again_meanwhile_is_told_from_what_was_lost(
    transactional_db, caplog, mine
):
    """The answer to a settle may be lost; its repeat finds the row in the next claim."""
    me, other = uuid.uuid4(), uuid.uuid4()
    beat(me), beat(other)
    Write().delay()
    (claimed,) = claim(me)
    settle(me, claimed, GivenBack())
    claim(me if mine else other)
    settled = []

    async def repeat():
        connection = Connection("default", "test", timedelta(seconds=10))
        settler = Settler(
            me, connection, delete_finished=False, on_settled=settled.extend, on_room=int
        )
        settler.add(Settlement(claimed, GivenBack(), None))
        keeping = asyncio.ensure_future(settler.keep())
        await asyncio.wait_for(settler.all_settled.wait(), 10)
        keeping.cancel()
        await connection.close()

    asyncio.run(repeat())

    assert [each.claim for each in settled] == ([claimed] if mine else [])
    assert ("fenced" in caplog.text) is not mine


def test_one_that_is_refused_in_a_batch_is_found_in_halves(transactional_db):
    """Its neighbours are written, and none of them is taken for it."""
    me = uuid.uuid4()
    beat(me)
    for number in range(10):
        Write(number).delay()
    claims = claim(me)
    bad = claims[6]

    async def settle_all():
        connection = Connection("default", "test", timedelta(seconds=10))
        settler = Settler(
            me, connection, delete_finished=False, on_settled=lambda batch: None, on_room=int
        )
        for each in claims:
            settler.add(Settlement(each, Finished(), Attempt(0.1, "host/1")))
        keeping = asyncio.ensure_future(settler.keep())
        await asyncio.wait_for(settler.all_settled.wait(), 10)
        keeping.cancel()
        await connection.close()
        return settler

    with refusal(f"NEW.id = {bad.id}"):
        settler = asyncio.run(settle_all())

    assert settler.left() == {bad.id}
    assert set(Task.objects.exclude(status="finished").values_list("pk", flat=True)) == {bad.id}


def test_what_is_tried_again_is_refused_until_it_is_written(somebody, monkeypatch):
    """Else the queue would run on at each attempt, and nothing of it could be written."""
    monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.05)
    me = uuid.uuid4()
    beat(me)
    for number in range(refused.MOST + 5):
        Write(number).delay()
    claims = claim(me, 100)
    told = []

    async def settle_all():
        connection = Connection("default", "test", timedelta(seconds=10))
        settler = Settler(
            me,
            connection,
            delete_finished=False,
            on_settled=lambda batch: None,
            on_room=lambda: told.append(settler.has_room()),
        )
        for each in claims:
            settler.add(Settlement(each, Finished(), Attempt(0.1, "host/1")))
        keeping = asyncio.ensure_future(settler.keep())
        attempts, rooms = 0, set()
        async with asyncio.timeout(30):
            while settler.has_room():
                await asyncio.sleep(0)
            while attempts < 3:
                was = settler._tried_again
                await asyncio.sleep(0)
                attempts += bool(was and not settler._tried_again)
                rooms.add(settler.has_room())
            assert not told
            await asyncio.to_thread(
                somebody.execute, "ALTER TABLE partisan_async_task DISABLE TRIGGER site_rule"
            )
            await asyncio.to_thread(somebody.commit)
            await settler.all_settled.wait()
        keeping.cancel()
        await connection.close()
        return rooms

    does = "RAISE EXCEPTION 'no' USING ERRCODE = '42501'"
    with trigger(does, "NEW.status = 'finished'"):
        rooms = asyncio.run(settle_all())

    assert rooms == {False}
    assert told == [True]
