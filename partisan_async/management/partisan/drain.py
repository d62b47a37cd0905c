"""``manage.py partisan drain``: ends supervisors once their tasks have ended."""

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
    drain = commands.add_parser("drain", help="end supervisors when all that they run has ended")
    drain.add_argument(
        "supervisor",
        metavar="SUPERVISOR",
        help="the start of its id; or its host as status shows it, which is all of the host's",
    )
    drain.set_defaults(run=run_drain)


def run_drain(command: BaseCommand, options: dict[str, Any]) -> None:
    """Drain a supervisor, or those of a host."""
    supervisors = _supervisors(options["supervisor"])
    drained = [each for each in supervisors if _drain(command, each)]
    if not drained:
        raise CommandError(f"{', '.join(map(_named, supervisors))}: ended before.")


def _drain(command: BaseCommand, found: SupervisorState) -> bool:
    if not steering.drain(UUID(found.id)):
        return False
    command.stdout.write(
        f"{_named(found)} is draining: it ends when the {found.running:,} task(s) that it holds"
        " have ended or are given back."
    )
    if not found.alive:
        command.stderr.write(
            f"It may never hear of it: it has been silent for {in_words(found.silent)}."
        )
    return True


def _supervisors(text: str) -> list[SupervisorState]:
    supervisors = overview.supervisors()
    if of_host := [each for each in supervisors if text == each.process]:
        return of_host
    found = [each for each in supervisors if each.id.startswith(text.lower())]
    match found:
        case [only] if text:
            return [only]
        case []:
            wrong = f"No supervisor is {text!r}"
        case _:
            wrong = f"Several supervisors are {text!r}, so name one by the start of its id"
    known = ", ".join(_named(each) for each in found or supervisors) or "none"
    raise CommandError(f"{wrong}; there are: {plain(known)}.")


def _named(each: SupervisorState) -> str:
    return f"{plain(each.process)} ({each.id[:8]}, queue {each.queue_name!r})"
