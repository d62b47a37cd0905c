"""``manage.py partisan drain``: ends a supervisor once its tasks have ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from partisan_async import steering
from partisan_async.operate import overview
from partisan_async.operate.overview import SupervisorState
from partisan_async.text.durations import in_words
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    drain = commands.add_parser("drain", help="end a supervisor when all that it runs has ended")
    drain.add_argument(
        "supervisor", metavar="SUPERVISOR", help="as status shows it, or the start of its id"
    )
    drain.set_defaults(run=run_drain)


def run_drain(command: BaseCommand, options: dict[str, Any]) -> None:
    """Drain a supervisor."""
    found = _supervisor(options["supervisor"])
    if not steering.drain(UUID(found.id)):
        raise CommandError(f"{_named(found)} has ended by itself.")
    command.stdout.write(
        f"{_named(found)} is draining: it ends when the {found.running:,} task(s) that it holds"
        " have ended or are given back."
    )
    if not found.alive:
        command.stderr.write(
            f"It may never hear of it: it has been silent for {in_words(found.silent)}."
        )


def _supervisor(text: str) -> SupervisorState:
    supervisors = overview.supervisors()
    found = [
        each for each in supervisors if text == each.process or each.id.startswith(text.lower())
    ]
    match found:
        case [only] if text:
            return only
        case []:
            wrong = f"No supervisor is {text!r}"
        case _:
            wrong = f"Several supervisors are {text!r}, so name one by the start of its id"
    known = ", ".join(_named(each) for each in found or supervisors) or "none"
    raise CommandError(f"{wrong}; there are: {plain(known)}.")


def _named(each: SupervisorState) -> str:
    return f"{plain(each.process)} ({each.id[:8]}, queue {each.queue_name!r})"
