"""Statements under way end, also where libpq can only cancel by a call that blocks the process."""

import asyncio
import socket
import time
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection, connections

from partisan_async.postgres import parameters
from partisan_async.postgres.cancelling import Session, hang_up
from partisan_async.store import Statement
from partisan_async.supervisor.connection import Connection
from tests.conftest import ended, wait_until
from tests.process import partisan
from tests.relay import Relay
from tests.test_limits import RAISED, how_it_ended, timed_out
from tests.testapp.partisan_tasks import AsyncSleep, Endless, EndlessAsync, EndlessInFlight, Write

pytestmark = pytest.mark.django_db(transaction=True)

SLEEP = Statement("SELECT pg_sleep(60)", {})


@pytest.fixture(params=[True, False], ids=["libpq 17", "libpq 16"])
def libpq(request, monkeypatch):
    """Whether it can cancel without blocking; what it cannot is a failure."""
    blocking = []
    monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda check=False: request.param)
    for kind in (psycopg.Connection, psycopg.AsyncConnection):
        monkeypatch.setattr(kind, "cancel", blocking.append)
    yield request.param
    assert not blocking


ASLEEP = Statement(
    "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    " AND application_name = 'partisan_async test' AND datname = current_database()",
    {},
)


@pytest.fixture(autouse=True)
def _nothing_sleeps_on(transactional_db):
    """What was hung up on does, and others count such."""
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )


@pytest.fixture
def relay():
    """A relay, and the database 'second' by way of it."""
    settings = connections["default"].settings_dict
    relay = Relay((settings["HOST"], int(settings["PORT"] or 5432)))
    second = connections["second"].settings_dict
    before = dict(second)
    second.update(HOST="127.0.0.1", PORT=relay.port)
    yield relay
    second.update(before)
    relay.close()


async def test_a_statement_that_took_too_long_ends_in_the_server_too(libpq):
    """It may wait for a lock, and then take effect when nobody counts on it any more."""
    slow = Connection("default", "test", timedelta(seconds=1))
    looking = Connection("default", "look", timedelta(seconds=20))
    asking = asyncio.ensure_future(slow.execute(SLEEP))
    async with asyncio.timeout(20):
        while await looking.execute(ASLEEP) != [(1,)]:
            await asyncio.sleep(0.01)

        with pytest.raises(psycopg.OperationalError, match="within 1 s"):
            await asking

        while await looking.execute(ASLEEP) != [(0,)]:
            await asyncio.sleep(0.01)
    await slow.close()
    await looking.close()


async def test_in_a_black_hole_the_event_loop_turns(libpq, relay):
    lost = Connection("second", "test", timedelta(seconds=0.5))
    await lost.execute(Statement("SELECT 1", {}))
    relay.open.clear()
    turns = 0

    asking = asyncio.ensure_future(lost.execute(SLEEP))
    while not asking.done():
        await asyncio.sleep(0.05)
        turns += 1

    with pytest.raises(psycopg.OperationalError, match=r"within 0\.5 s"):
        await asking
    assert turns > 10
    await lost.close()


async def test_a_wait_that_is_cancelled_in_a_black_hole_ends_at_once(libpq, relay):
    """As ``await_end()`` may be: psycopg would first ask the server, for ten seconds."""
    params = parameters.parameters("second")
    waiting = await Session.connect(**params, autocommit=True)
    relay.open.clear()
    asking = asyncio.ensure_future(waiting.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.1)
    began = time.monotonic()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert time.monotonic() - began < 8  # and not ten
    await waiting.close()


def test_what_overran_its_time_in_a_query_is_told_as_such():
    """The worker hangs up, and the next task has a connection of its own."""
    settings = "tests.settings_old_libpq"
    with partisan("--async", "--workers_count", "1", DJANGO_SETTINGS_MODULE=settings):
        neighbour = AsyncSleep(1, "neighbour").delay()
        overrun = [EndlessAsync("query").delay(), Endless("query").delay()]
        in_flight = EndlessInFlight().delay()
        after = Write("after").delay()
        wait_until(ended)

    for task in overrun:
        assert how_it_ended(task) == timed_out(RAISED)
    assert how_it_ended(in_flight)[3].endswith("TaskTimeout")
    for task in (neighbour, after):
        task.refresh_from_db()
        assert (task.status, task.errors) == ("finished", [])


def test_what_was_closed_meanwhile_is_not_hung_up():
    """The number of its socket is free then, and may be another's."""
    another, end = socket.socketpair()
    with another, end:
        assert not hang_up(SimpleNamespace(fileno=another.fileno, closed=True))
        another.send(b"x")
        assert end.recv(1) == b"x"


def test_what_is_closed_already_is_not_hung_up():
    connections["default"].ensure_connection()
    session = connections["default"].connection
    assert hang_up(session)
    connections["default"].close()
    assert not hang_up(session)
