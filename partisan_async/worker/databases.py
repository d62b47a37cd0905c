"""Sets which databases a worker uses, and how long it keeps its connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections


def use_databases(databases: Mapping[str, Mapping[str, Any]]) -> None:
    """Use these from now on.

    :param databases: resolved settings per alias, as the supervisor has them.
    """
    for alias, resolved in databases.items():
        settings = connections.settings[alias]
        settings.update(resolved)
        if not settings["OPTIONS"].get("pool"):
            # To connect anew for each task costs several times what a small task does.
            settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"] or None
        # No browser repeats a task that met a connection which a restarted server had closed.
        settings["CONN_HEALTH_CHECKS"] = True
