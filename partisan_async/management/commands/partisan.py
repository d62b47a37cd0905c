"""``manage.py partisan``: what runs, what waits and why, and how to set it right."""

from __future__ import annotations

from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    no_translations,
)
from django.db import Error

from partisan_async import store
from partisan_async.management.partisan import (
    adopt,
    doctor,
    drain,
    erase,
    hold,
    limit,
    limits,
    status,
    steer,
    why,
)
from partisan_async.operate import rights
from partisan_async.postgres.blame import Blame, way_out, whose
from partisan_async.steering import audit
from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain


class Command(BaseCommand):
    """Shows tasks and steers them. Its output is English, like its options and the log.

    Pages show some of the same sentences, translated into the reader's language.
    """

    help = "Shows queues, supervisors and tasks, sets them right, and looks for what is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        """Let each module add its subcommands. Without a subcommand it runs ``status``."""
        parser.set_defaults(run=status.run)
        commands = parser.add_subparsers(metavar="COMMAND")
        for module in (status, why, steer, erase, hold, limits, limit, drain, adopt, doctor):
            module.add_to(commands)

    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        try:
            with audit.acting(audit.user_of_the_system(), "command"):
                options["run"](self, options)
        except Error as error:
            raise CommandError(_explained(error)) from error


def _explained(error: Error) -> str:
    cause = error.__cause__ or error
    said, blame = plain(explain(error)), whose(cause)
    # To a role without USAGE on the schema, PostgreSQL says that the tables do not exist.
    if blame in (Blame.RIGHT, Blame.STATEMENT) and (grants := _lacked()):
        return f"{said}. As the tables' owner, run: {' '.join(grants)}"
    match blame:
        case Blame.CONNECTION:
            return f"Database {store.database()!r} does not answer: {said}"
        case Blame.RIGHT:
            return f"{said}; {way_out(cause, rights.current_role(store.database()))}"
        case Blame.STATEMENT:
            return f"{said}. Are all migrations applied? manage.py migrate"
    return f"The database refuses it: {said}"


def _lacked() -> list[str]:
    try:
        return rights.missing(store.database(), rights.OPERATOR)
    except Error:  # the error has broken the caller's transaction
        return []
