"""Logs who did what to tasks, queues, schedules and supervisors.

An *actor* is the one who did it: the user of the admin, the operating system's user who ran the
command, or the task whose code called the function.
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
"""Maximum number of things that a line names; for programs the record names all of them."""


@dataclass(frozen=True)
class Actor:
    """Who did something.

    :param way: where: ``admin``, ``command`` or ``code``.
    """

    name: str
    way: str


_actor: ContextVar[Actor | None] = ContextVar("partisan_async_actor", default=None)


@contextmanager
def acting(name: str, way: str) -> Iterator[None]:
    """Log everything that the block does as done by this actor."""
    before = _actor.set(Actor(name, way))
    try:
        yield
    finally:
        _actor.reset(before)


def put_down(action: str, things: Sequence[object], **about: Any) -> None:
    """Log that something was done to these things, as soon as it is committed; nothing for none.

    :param about: further fields of the record.
    """
    if not things:
        return
    actor = _actor.get() or _code()

    def tell() -> None:
        _tell(actor, action, things, about)

    connection = connections[store.database()]
    # If the connection was lost, get_autocommit() would make Django open another one.
    is_open = connection.connection is not None
    if connection.in_atomic_block or (is_open and connection.get_autocommit()):
        # What is rolled back has not been done, and is not logged.
        transaction.on_commit(tell, using=connection.alias, robust=True)
    else:
        tell()


def user_of_the_system() -> str:
    """Return the operating system's user of this process, and who used sudo to be that user."""
    # Not getpass.getuser(), which trusts the environment.
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
