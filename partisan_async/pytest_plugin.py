"""Fixtures for pytest, with pytest-django: there as soon as the package is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Django is not set up yet when pytest imports this: so each fixture imports what it gives.


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
def live_supervisor(transactional_db: None) -> Iterator[Any]:
    """A supervisor of the default queue with one worker process, while the test lasts."""
    from partisan_async import testing

    with testing.live_supervisor(WORKERS_COUNT=1) as supervisor:
        yield supervisor
