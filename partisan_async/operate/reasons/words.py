"""Words that all reasons share: moments, counted nouns and lists."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, cast

from django.utils.translation import gettext, ngettext_lazy

from partisan_async.enqueue.run import fetch
from partisan_async.text import moments

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


# "number" chooses singular or plural; "count" is the same number as text.
TRIES = ngettext_lazy("%(count)s try", "%(count)s tries", "number")

TIMES = ngettext_lazy("%(count)s time", "%(count)s times", "number")

CLAIMS = ngettext_lazy("%(count)s claim", "%(count)s claims", "number")

WORKERS = ngettext_lazy("%(count)s worker", "%(count)s workers", "number")


def at(moment: datetime | None) -> str:
    """Return a moment in words."""
    if moment is None:
        return gettext("at an unknown time")
    return gettext("at %(moment)s") % {"moment": moments.told(moment, now())}


def counted(noun: StrPromise, count: int) -> str:
    """Return a number with its noun."""
    return noun % {"count": f"{count:,}", "number": count}


def listed(names: Iterable[str]) -> str:
    """Return names as a list in one line."""
    return ", ".join(names)


def now() -> datetime:
    """Return the database's time."""
    ((now,),) = fetch("SELECT statement_timestamp()")
    return cast("datetime", now)
