"""How a supervisor ends, in words."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from partisan_async.text.moments import told


def farewell(ending: str | None, since: datetime | None, running: int) -> str:
    """Return how a supervisor ends: since when, and what it still runs.

    :param ending: see ``SupervisorState.ending``.
    """
    moment = "" if since is None else f" since {told(since, timezone.now())}"
    runs = "1 task" if running == 1 else f"{running:,} tasks"
    return f"{ending}{moment}, runs {runs}, starts none"
