"""What it costs to make a worker's session as new after a task that used it.

``python -m tests.benchmarks.sessions`` measures a task's least SQL, one ``SELECT 1``: with nothing
after it, with the session made as new, and with a new connection. They take turns; it prints the
medians, and their ratio to the first.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import django

from partisan_async.embedded import EmbeddedPostgres

ROUNDS = 2000


def main() -> None:
    """Measure, and print the three."""
    with EmbeddedPostgres() as server:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
        os.environ["DATABASE_URL"] = server.url
        django.setup()
        seconds = _measure()
    least = statistics.median(seconds["none"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:8} {median * 1e6:8.0f} µs {median / least:6.2f}")


def _measure() -> dict[str, list[float]]:
    from django.db import connections

    from partisan_async.postgres import renewal

    connection = connections["default"]
    renewal.watch()
    after: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "renew": lambda: renewal.renew(connection),
        "close": connection.close,
    }
    seconds: dict[str, list[float]] = {name: [] for name in after}
    for number in range(ROUNDS):
        for name, see_to in after.items():
            if name == "close" and number % 20:
                continue  # it takes long enough
            connection.ensure_connection() if name != "close" else None
            began = time.perf_counter()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            if see_to() is False:
                raise RuntimeError("the session could not be made as new")
            seconds[name].append(time.perf_counter() - began)
            if name == "close":
                began = time.perf_counter()
                connection.ensure_connection()
                seconds[name][-1] += time.perf_counter() - began
    connection.close()
    return seconds


if __name__ == "__main__":
    main()
