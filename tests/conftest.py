from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import hypothesis
import psycopg
import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, connections
from django.utils import timezone

from partisan_async import registry
from partisan_async.models import ENDED, Task
from tests.process import DEADLINE_SECONDS
from tests.testapp.models import Mark

# A machine that is busy with other things draws its examples slowly, and that is all right.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# A shell that starts the tests in the background has it ignored, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def state(status: str) -> dict[str, Any]:
    """Return what a row in this state has in its columns, as the table asks it."""
    return {
        "status": status,
        "finished_at": timezone.now() if status in ENDED else None,
        "claimed_by": uuid.uuid4() if status == "in_process" else None,
    }


def wait_until(true: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as it is true; fail, saying what the rows are, when it is not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            rows = list(Task.objects.values("id", "processor_class", "status", "claimed_by")[:20])
            pytest.fail(f"not true within {seconds} s: {true}; rows: {rows}")
        time.sleep(0.01)


def ended(*tasks: Task) -> bool:
    """Tell whether these tasks, or all there are, have ended."""
    rows = Task.objects.filter(pk__in=[task.pk for task in tasks]) if tasks else Task.objects
    return not rows.exclude(status__in=("finished", "error")).exists()


def marks() -> list[str]:
    return list(Mark.objects.order_by("at", "id").values_list("text", flat=True))


@pytest.fixture(scope="session", autouse=True)
def _processors() -> None:
    registry.autodiscover()


@pytest.fixture(autouse=True)
def _no_connection_left_open():
    """Async ORM calls leave one in asgiref's thread; the test database is dropped in the end."""
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def as_owner():
    """A session of its own that may change rights while the test's is another role's."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params, autocommit=True) as session:
        yield session.execute
