"""Says in words how a supervisor ends."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext

from partisan_async.text.moments import told

ENDINGS = {
    "draining": gettext_lazy("draining"),
    "stopping": gettext_lazy("stopping"),
}
"""The word that people see for each way to end."""


def farewell(ending: str | None, since: datetime | None, running: int) -> str:
    """Return in words how a supervisor ends, since when, and how much it still runs.

    :param ending: see ``SupervisorState.ending``.
    """
    how = str(ENDINGS.get(ending or "", ending))
    if since is not None:
        moment = told(since, timezone.now())
        how = gettext("%(ending)s since %(moment)s") % {"ending": how, "moment": moment}
    return ngettext(
        "%(ending)s, runs %(count)s task, starts none",
        "%(ending)s, runs %(count)s tasks, starts none",
        running,
    ) % {"ending": how, "count": f"{running:,}"}
