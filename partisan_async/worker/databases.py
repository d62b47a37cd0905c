"""Sets which databases a worker uses, and how it keeps their connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections


def use_databases(databases: Mapping[str, Mapping[str, Any]]) -> None:
    """Use these databases from now on.

    :param databases: the supervisor's resolved settings, by alias.
    """
    for alias, resolved in databases.items():
        settings = connections.settings[alias]
        settings.update(resolved)
        if not settings["OPTIONS"].get("pool"):
            # A new connection for each task would take several times as long as a short task.
            settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"] or None
        # A restart of the server leaves dead connections. A browser would repeat its request, but
        # nobody repeats a task.
        settings["CONN_HEALTH_CHECKS"] = True
