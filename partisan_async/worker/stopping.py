"""Lets the runs of this process know that its supervisor is stopping."""

from __future__ import annotations

from partisan_async import context
from partisan_async.telling import Telling


def tell(is_stopping: bool = True) -> None:
    """Tell all runs, those that go on and those to come."""
    # An attribute of the class: to read it in a loop costs nothing, and a processor that has an
    # attribute of this name may set it as before.
    Telling.stopping = is_stopping
    context.note_stopping(is_stopping)
