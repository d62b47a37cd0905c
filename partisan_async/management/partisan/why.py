"""``manage.py partisan why``: why a task does not run, or what became of it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async import registry, store
from partisan_async.management.partisan.screen import folded, width
from partisan_async.management.partisan.steer import task_id
from partisan_async.models import Task
from partisan_async.operate import reasons
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    why = commands.add_parser("why", help="why a task does not run")
    why.add_argument("id", type=task_id, metavar="ID")
    why.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Print the reasons."""
    pk = options["id"]
    task = Task.objects.using(store.database()).filter(pk=pk).first()
    if task is None:
        raise CommandError("\n".join(reasons.why_missing(pk)))
    registry.autodiscover()
    columns = width(command.stdout)
    command.stdout.write(f"{pk} {plain(task.processor_class)}, {task.get_status_display()}")
    for sentence in reasons.why(task):
        command.stdout.write(folded(f"- {plain(sentence)}", "  ", columns))
