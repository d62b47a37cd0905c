"""Says who had what done to tasks, queues, schedules and supervisors, and by which way.

Words: an *actor* is who had it done, as far as the way knows: the admin's user, the command's user
of the operating system, or the task whose code it is.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction

from partisan_async import logs, store
from partisan_async.context import current_task

NAMED = 20
"""Maximum number of things that a line names; the record has all of them, for programs."""


@dataclass(frozen=True)
class Actor:
    """Who has something done.

    :param way: ``admin``, ``command`` or ``code``.
    """

    name: str
    way: str


_actor: ContextVar[Actor | None] = ContextVar("partisan_async_actor", default=None)


@contextmanager
def acting(name: str, way: str) -> Iterator[None]:
    """Have everything in the block be told as done by this actor."""
    before = _actor.set(Actor(name, way))
    try:
        yield
    finally:
        _actor.reset(before)


def put_down(action: str, things: Sequence[object], **about: Any) -> None:
    """Log that something was done to these, if to any, as soon as it is committed.

    :param about: what more is on the record.
    """
    if not things:
        return
    actor = _actor.get() or _code()

    def tell() -> None:
        _tell(actor, action, things, about)

    connection = connections[store.database()]
    # Of a connection that was lost, Django would open another to ask for its autocommit.
    is_open = connection.connection is not None
    if connection.in_atomic_block or (is_open and connection.get_autocommit()):
        # What is rolled back was done by nobody.
        transaction.on_commit(tell, using=connection.alias, robust=True)
    else:
        tell()


def user_of_the_system() -> str:
    """Return who runs this process, as the operating system knows it, and as sudo says."""
    # Not getpass.getuser(): that believes the environment.
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        name = f"uid {os.getuid()}"
    sudoer = os.environ.get("SUDO_USER")
    return f"{name}, by sudo of {sudoer}" if sudoer else name


def _code() -> Actor:
    task = current_task.get()
    return Actor(
        user_of_the_system() if task is None else f"task {task.id} {task.processor_class}", "code"
    )


def _tell(actor: Actor, action: str, things: Sequence[object], about: dict[str, Any]) -> None:
    more = f" and {len(things) - NAMED:,} more" if len(things) > NAMED else ""
    named = ", ".join(map(str, things[:NAMED])) + more
    logs.operators.steered(action, named, actor.name, actor.way, about)
