"""Fixtures for pytest with pytest-django; pytest finds them once the package is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Django is not set up yet when pytest imports this, so each fixture imports what it returns.


@pytest.fixture
def run_pending(db: None) -> Callable[..., Any]:
    """``partisan_async.testing.run_pending``."""
    from partisan_async import testing

    return testing.run_pending


@pytest.fixture
def assert_enqueued(db: None) -> Callable[..., Any]:
    """``partisan_async.testing.assert_enqueued``."""
    from partisan_async import testing

    return testing.assert_enqueued


@pytest.fixture
def assert_not_enqueued(db: None) -> Callable[..., Any]:
    """``partisan_async.testing.assert_not_enqueued``."""
    from partisan_async import testing

    return testing.assert_not_enqueued


@pytest.fixture
def perform(db: None) -> Callable[..., Any]:
    """``partisan_async.testing.perform``."""
    from partisan_async import testing

    return testing.perform


# Async code has its own connection, in a thread. It sees only what is committed, and must be closed
# before the test database can be dropped.


@pytest.fixture
def _async_db(transactional_db: None) -> Iterator[None]:
    from asgiref.sync import SyncToAsync
    from django.db import connections

    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def arun_pending(_async_db: None) -> Callable[..., Any]:
    """``partisan_async.testing.arun_pending``."""
    from partisan_async import testing

    return testing.arun_pending


@pytest.fixture
def aassert_enqueued(_async_db: None) -> Callable[..., Any]:
    """``partisan_async.testing.aassert_enqueued``."""
    from partisan_async import testing

    return testing.aassert_enqueued


@pytest.fixture
def aassert_not_enqueued(_async_db: None) -> Callable[..., Any]:
    """``partisan_async.testing.aassert_not_enqueued``."""
    from partisan_async import testing

    return testing.aassert_not_enqueued


@pytest.fixture
def aperform(_async_db: None) -> Callable[..., Any]:
    """``partisan_async.testing.aperform``."""
    from partisan_async import testing

    return testing.aperform


@pytest.fixture
def live_supervisor(transactional_db: None) -> Iterator[Any]:
    """A supervisor of the default queue with one worker process, while the test lasts."""
    from partisan_async import testing

    with testing.live_supervisor(WORKERS_COUNT=1) as supervisor:
        yield supervisor
