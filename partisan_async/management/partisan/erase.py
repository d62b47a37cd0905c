"""``manage.py partisan erase``: all that is of one subject."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async import steering
from partisan_async.management.partisan.screen import number
from partisan_async.management.partisan.steer import add_yes, confirm
from partisan_async.management.partisan.subject import add_subject
from partisan_async.steering.erasing import Erased, counts_of
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    erase = commands.add_parser("erase", help="end and delete all that is of one subject")
    add_subject(erase, "whose", required=True)
    add_yes(erase)
    erase.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Erase it, and say how much it was."""
    subject = options["subject"]
    tasks, schedules, windows = counts_of(subject)
    if tasks or schedules or windows:
        confirm(
            f"Erase {_listed(tasks, schedules, windows)} of subject {plain(subject)!r}", options
        )
    erased = steering.erase(subject)
    done = (erased.tasks, erased.schedules, erased.windows)
    command.stdout.write(f"erase: {_listed(*done)}.")
    for told in _more(erased):
        command.stderr.write(told)
    if erased.left:
        raise CommandError(
            f"{number(erased.left, 'row')} left: another transaction has locked what is left, or"
            " the database refuses every change of it. Try again later."
        )


def _listed(tasks: int, schedules: int, windows: int) -> str:
    counts = [(tasks, "task"), (schedules, "schedule"), (windows, "window")]
    return ", ".join(number(count, what) for count, what in counts if count or what == "task")


def _more(erased: Erased) -> list[str]:
    told = []
    if erased.running:
        told.append(
            f"{erased.running:,} of them ran. What a run enqueues before it is killed, within"
            " seconds, is left: run this again then."
        )
    if erased.emptied:
        told.append(
            f"{erased.emptied:,} of them have rows that the database keeps, as where a row of the"
            " site refers to one. They are empty."
        )
    return told
