"""Which declaration has a task tried again, and after what pause; or has given it up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext

from partisan_async.models import Task, readable
from partisan_async.text import moments
from partisan_async.text.durations import in_words

CLOSE = timedelta(seconds=1)
"""A task whose time is farther than this from that of its retry waits for something else."""


def next_try(task: Task) -> Iterator[str]:
    """Say which try a task waits for, after what pause, and which declaration says so."""
    last = _last(task)
    rule, pause = last.get("rule"), last.get("pause_seconds", "")
    if not isinstance(rule, str) or not readable.is_number(pause) or not _is_for(task, last, pause):
        return
    said = gettext("Its next try, number %(number)s, is due %(pause)s after the last, by %(rule)s.")
    yield said % {"number": f"{task.tries + 1:,}", "pause": in_words(pause), "rule": rule}


def given_up(task: Task) -> Iterator[str]:
    """Say which declaration keeps a task that failed from being tried again."""
    rule = _last(task).get("rule")
    if isinstance(rule, str):
        yield gettext("It was given up: %(rule)s.") % {"rule": rule}


def _last(task: Task) -> dict[str, Any]:
    # A row may have been changed by hand.
    last = task.errors[-1] if isinstance(task.errors, list) and task.errors else None
    return last if isinstance(last, dict) else {}


def _is_for(task: Task, last: dict[str, Any], pause: float) -> bool:
    """Tell whether it waits for this retry: since, somebody or the task may have put it off."""
    try:
        at = moments.read(last["at"], task._state.db or DEFAULT_DB_ALIAS)  # noqa: SLF001
        due = at + timedelta(seconds=pause)
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    waits_until = task.parked_from if task.is_parked else task.execute_after
    return waits_until is not None and abs(waits_until - due) < CLOSE
