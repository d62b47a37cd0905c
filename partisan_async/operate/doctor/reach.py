"""Looks at the connection to the database: whether a NOTIFY reaches a supervisor."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
from psycopg import sql

from partisan_async import registry, store
from partisan_async.operate import overview
from partisan_async.operate.doctor.look import Said, well, wrong
from partisan_async.postgres import parameters
from partisan_async.settings import configured_queues, queue_settings

CONNECT_SECONDS = 5
PROBE_SECONDS = 2.0


def listen() -> Iterator[Said]:
    """Tell whether NOTIFY wakes a supervisor, over the connection that its listener uses."""
    ways: dict[str | None, list[str]] = {}
    known = {each.name for each in overview.queues(1)} | set(configured_queues())
    known |= {processor.QUEUE_NAME for processor in registry.processors()}
    for name in sorted(known):
        ways.setdefault(queue_settings(name).LISTEN_DSN, []).append(name)
    for dsn, names in ways.items():
        yield _probe(dsn, ", ".join(map(repr, names)))


def _probe(dsn: str | None, names: str) -> Said:
    by = "LISTEN_DSN" if dsn else "DATABASES"
    try:
        with closing(_connect(dsn)) as listener, closing(_connect(None)) as sender:
            # A pooler reports a process id of its own in the handshake, and each transaction may
            # run in another server process. So two different pids mean a pooler.
            pids = {_pid(listener), _pid(listener), listener.info.backend_pid}
            heard = _hears(listener, sender)
    except psycopg.Error as error:
        return wrong(
            f"The listener of queues {names} cannot connect by {by}, so that they are polled:"
            f" correct {by} ({' '.join(str(error).split())})."
        )
    pooled = len(pids) > 1
    if heard:
        return well(f"queues {names} are woken by NOTIFY" + (", by a pooler" if pooled else ""))
    if pooled:
        return wrong(
            f"By {by} a transaction pooler is in the way of NOTIFY, so that queues {names} are"
            " polled: set LISTEN_DSN to a way around it, such as 'host=db.internal port=5432'."
        )
    return wrong(
        f"By {by} no NOTIFY gets through, so that queues {names} are polled: it has to lead to the"
        " same server and database as DATABASES."
    )


def _connect(dsn: str | None) -> psycopg.Connection[Any]:
    params = parameters.parameters(store.database(), dsn)
    params.setdefault("application_name", "partisan_async doctor")
    params.setdefault("connect_timeout", CONNECT_SECONDS)
    params["prepare_threshold"] = None
    return psycopg.connect(**params, autocommit=True)


def _pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def _hears(listener: psycopg.Connection[Any], sender: psycopg.Connection[Any]) -> bool:
    channel = f"partisan_async.probe.{uuid.uuid4().hex}"
    listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    sender.execute("SELECT pg_notify(%s, '')", [channel])
    return any(listener.notifies(timeout=PROBE_SECONDS, stop_after=1))
