"""LISTEN by a way of its own, and what is said and done when it does not lead anywhere."""

import asyncio
import re

import pytest
from django.db import connection, connections

from partisan_async.supervisor import connection as own
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.relay import Relay
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def relay():
    direct = connection.settings_dict
    relay = Relay((direct["HOST"], int(direct["PORT"] or 5432)))
    yield relay
    relay.close()


@pytest.fixture
def complaints(caplog):
    """What was said of NOTIFY, at the time of asking."""
    return lambda: [line for line in caplog.messages if "NOTIFY cannot be relied on" in line]


def purposes():
    """Return what the supervisor's connections are for."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE application_name LIKE 'partisan_async %' AND datname = current_database()"
        )
        return sorted(name.rpartition(" ")[2] for (name,) in cursor.fetchall())


def test_only_the_listener_goes_by_listen_dsn(relay):
    """It brings a host and its port; who connects, and to what, is the tasks' database's."""
    with live_supervisor(LISTEN_DSN=f"host=127.0.0.1 port={relay.port}") as supervisor:
        wait_until(supervisor.parts.wakeup.proven.is_set)
        Write("done").delay()
        wait_until(ended)

        assert purposes() == ["beat", "claim", "listen", "settle"]
        assert len(relay._sockets) == 2  # the two ends of one connection


def test_notify_comes_by_listen_dsn(relay):
    """Neither a poll nor a beat is due for a minute."""
    with live_supervisor(
        beat_seconds=60,
        ttl_seconds=300,
        SLEEP_DELAY_SECONDS=3600,
        LISTEN_DSN=f"postgresql://127.0.0.1:{relay.port}",
    ) as supervisor:
        wait_until(supervisor.parts.wakeup.proven.is_set)
        for number in range(3):  # what the start itself does may take the first along
            Write(number).delay()
            wait_until(ended)


def test_who_slept_until_notify_polls_when_the_listener_is_gone(relay):
    """Not only after the next beat."""
    dsn = f"host=127.0.0.1 port={relay.port}"
    with live_supervisor(
        beat_seconds=60, ttl_seconds=300, SLEEP_DELAY_SECONDS=0.1, LISTEN_DSN=dsn
    ) as supervisor:
        wait_until(supervisor.parts.wakeup.proven.is_set)
        for number in range(3):  # it sleeps after the last
            Write(number).delay()
            wait_until(ended)
        relay.open.clear()  # for the next one, too
        relay.cut()
        wait_until(lambda: not supervisor.parts.wakeup.proven.is_set())

        for number in range(3):
            Write(number).delay()
            wait_until(ended)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("host=nowhere.invalid", "failed to resolve host 'nowhere.invalid'|not known"),
        ("host=127.0.0.1 port=1", "Connection refused"),
        ("dbname=postgres", "as if LISTEN_DSN led to another database"),
    ],
)
def test_a_listen_dsn_that_leads_elsewhere_is_told_of_once(wrong, why, complaints, monkeypatch):
    """And polling takes over."""
    tries = []
    connect = own.connect

    async def counted(*args):
        tries.append(args)
        return await connect(*args)

    monkeypatch.setattr("partisan_async.supervisor.wakeup.connect", counted)
    with live_supervisor(SLEEP_DELAY_SECONDS=0.1, LISTEN_DSN=wrong) as supervisor:
        wait_until(lambda: len(tries) >= 3)
        Write("polled").delay()
        wait_until(ended)

        assert not supervisor.parts.wakeup.proven.is_set()
        (complaint,) = complaints()

    assert re.search(why, complaint)


def test_a_host_that_never_answers_is_given_up_within_seconds(relay, complaints):
    """As behind a firewall that drops what is not allowed: else the warning took minutes."""
    relay.open.clear()

    with live_supervisor(LISTEN_DSN=f"host=127.0.0.1 port={relay.port}"):
        wait_until(complaints)

        assert "connection timeout expired" in complaints()[0]


def test_after_each_proof_it_is_as_patient_as_at_first(relay):
    """The pause before it tries again would else grow with every connection that ever ended."""
    dsn = f"host=127.0.0.1 port={relay.port}"
    with live_supervisor(LISTEN_DSN=dsn, SLEEP_DELAY_SECONDS=3600) as supervisor:
        wakeup = supervisor.parts.wakeup
        for _ in range(3):
            wait_until(wakeup.proven.is_set)
            assert wakeup._backoff.count == 0

            relay.cut()
            wait_until(lambda: not wakeup.proven.is_set())


def test_of_a_way_around_the_port_is_its_own(relay, monkeypatch):
    """The port of the pooler on another host says nothing of the server's there."""
    seen = []

    async def connect(**params):
        seen.append(params)
        raise asyncio.CancelledError

    monkeypatch.setattr(own.psycopg.AsyncConnection, "connect", connect)
    pooler = {"HOST": "pooler.internal", "PORT": "6432", "USER": "keeper", "PASSWORD": "theirs"}
    for key, value in (pooler | {"NAME": "shop"}).items():
        monkeypatch.setitem(connections.settings["default"], key, value)

    for laid_over in (None, "host=db.internal", "postgresql://other@/?port=1", "service=direct"):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(own.connect("default", "test", laid_over))

    ways = [tuple(each.get(key) for key in ("host", "port", "user", "service")) for each in seen]
    assert ways == [
        ("pooler.internal", "6432", "keeper", None),
        ("db.internal", None, "keeper", None),
        ("pooler.internal", "1", "other", None),
        (None, None, "keeper", "direct"),
    ]
    assert {(each["dbname"], each["password"]) for each in seen} == {("shop", "theirs")}


async def test_nothing_is_prepared_whatever_the_options_say(monkeypatch):
    """Poolers lose what is prepared: only a ``Connection`` looks whether there is one."""
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "prepare_threshold", 0)

    relay = await own.connect("default", "test")
    for _ in range(10):
        await relay.execute("SELECT %s", [1])
    cursor = await relay.execute("SELECT count(*) FROM pg_prepared_statements")
    prepared = await cursor.fetchone()
    await relay.close()

    assert prepared == (0,)
