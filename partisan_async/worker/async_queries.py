"""Cancels the queries of async runs; knows which run opened which connection."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from asgiref.sync import ThreadSensitiveContext
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from partisan_async.postgres import cancelling, in_flight
from partisan_async.worker import insides

_opened: WeakKeyDictionary[ThreadSensitiveContext, list[tuple[BaseDatabaseWrapper, Any]]] = (
    WeakKeyDictionary()
)

_canceller = ThreadPoolExecutor(1, "partisan cancel")
"""A thread for this alone: the event loop's threads may all wait for the queries to cancel."""


def watch_connections() -> None:
    """From now on, record which async run opens which of Django's connections."""
    connection_created.connect(_on_connection_created, weak=False)


async def cancel_queries() -> None:
    """Cancel the queries that the threads of the current run wait for."""
    loop = asyncio.get_running_loop()
    if context := insides.context_of_run():
        for wrapper, connection in _opened.get(context, ()):
            if wrapper.connection is connection and in_flight.is_busy(connection):
                await loop.run_in_executor(_canceller, _cancel_query, connection)


def _on_connection_created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # Called in a thread of the run: connections are thread-local, so no other thread finds them.
    # Keep the psycopg connection, too: in a thread that runs share, the next run may have reopened
    # the wrapper by the time of the cancel.
    if context := insides.context_of_run():
        _opened[context] = [*_opened.get(context, ()), (connection, connection.connection)]


def _cancel_query(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error):
        cancelling.cancel(connection, in_flight.CANCEL_SECONDS)
