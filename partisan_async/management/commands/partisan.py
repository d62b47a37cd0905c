"""``manage.py partisan``: what runs, what waits and why, and how to set it right."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from partisan_async import overview, registry, steering, store
from partisan_async.logs import plain
from partisan_async.models import ENDED, Task

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
WATCH_SECONDS = 2.0
AT_ONCE = 1000


class Command(BaseCommand):
    """Looks at tasks, and steers them."""

    help = "Shows queues, supervisors and tasks, and runs tasks again, now or not at all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add a subcommand for each thing to do."""
        commands = parser.add_subparsers(dest="what", metavar="COMMAND")
        status = commands.add_parser("status", help="the queues and the supervisors")
        how = status.add_mutually_exclusive_group()
        how.add_argument("--watch", action="store_true", help="again every two seconds")
        how.add_argument("--json", action="store_true", help="for programs")
        why = commands.add_parser("why", help="why a task does not run")
        why.add_argument("id", type=int)
        for name, about in (
            ("retry", "run tasks again that ended in error"),
            ("run-now", "run scheduled tasks at once"),
            ("cancel", "end tasks that wait or run"),
        ):
            action = commands.add_parser(name, help=about)
            action.add_argument("ids", nargs="*", type=int, metavar="ID")
            _add_filters(action)
            action.add_argument("--processor", help="those of this processor")
        prune = commands.add_parser("prune", help="delete the rows of tasks that have ended")
        prune.add_argument(
            "--older-than", required=True, type=_age, metavar="AGE", help="such as 12h or 7d"
        )
        prune.add_argument("--status", choices=ENDED, help="those alone")
        _add_filters(prune)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked for."""
        match options["what"]:
            case None | "status":
                self._status(options)
            case "why":
                self._why(options["id"])
            case "prune":
                self._prune(options)
            case name:
                self._steer(name, options)

    def _status(self, options: dict[str, Any]) -> None:
        if options.get("json"):
            self.stdout.write(_as_json())
            return
        self.stdout.write("\n".join(_as_table()))
        while options.get("watch"):
            time.sleep(WATCH_SECONDS)
            # From the top, and nothing that was there remains.
            self.stdout.write("\x1b[H\x1b[J" + "\n".join(_as_table()))

    def _why(self, pk: int) -> None:
        task = _tasks().filter(pk=pk).first()
        if task is None:
            raise CommandError(
                f"There is no task {pk}. It may have been deleted when it finished, or pruned."
            )
        registry.autodiscover()
        self.stdout.write(f"{pk} {plain(task.processor_class)}, {task.get_status_display()}")
        for sentence in overview.why(task):
            self.stdout.write(f"- {plain(sentence)}")

    def _prune(self, options: dict[str, Any]) -> None:
        statuses = [options["status"]] if options["status"] else list(ENDED)
        self._confirm(f"Delete all tasks that ended {options['older_than']} ago or before", options)
        total = 0
        for deleted in steering.prune(
            options["older_than"], statuses=statuses, queue_name=options["queue"]
        ):
            total += deleted
            if self.stderr.isatty():
                self.stderr.write(f"\r{total} deleted", ending="")
        if total and self.stderr.isatty():
            self.stderr.write("")
        self.stdout.write(f"{_number(total)} deleted.")

    def _steer(self, name: str, options: dict[str, Any]) -> None:
        do, statuses = steering.ACTIONS[name]
        ids, tasks = options["ids"], _tasks().filter(status__in=statuses)
        if queue := options["queue"]:
            tasks = tasks.filter(queue_name=queue)
        if processor := options["processor"]:
            tasks = tasks.filter(processor_class=processor)
        if not (ids or queue or processor):
            raise CommandError(
                f"Say which: manage.py partisan {name} ID …, or --queue, --processor."
            )
        if ids:
            tasks = tasks.filter(pk__in=ids)
        else:
            self._confirm(f"{name}: {_number(tasks.count())}", options)
        done = [pk for chunk in _chunks(tasks) for pk in do(chunk)]
        self.stdout.write(f"{name}: {_number(len(done))}.")
        if missed := sorted(set(ids) - set(done)):
            found = dict(_tasks().filter(pk__in=missed).values_list("pk", "status"))
            told = ", ".join(f"{pk} is {found.get(pk, 'not there')}" for pk in missed)
            raise CommandError(f"Only tasks that are {' or '.join(statuses)}: {told}.")

    def _confirm(self, what: str, options: dict[str, Any]) -> None:
        if options["yes"]:
            return
        try:
            answer = input(f"{what}? [y/N] ")
        except EOFError:
            raise CommandError("Nothing was done: nobody is there to ask. Pass --yes.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done.")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", help="those of this queue")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([smhdw])", text)
    if not found or len(found[1]) > 6:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age; give one such as 90s, 30m, 12h or 7d"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _tasks() -> QuerySet[Task]:
    return Task.objects.using(store.database())


def _chunks(tasks: QuerySet[Task]) -> Iterator[list[int]]:
    last = 0
    while ids := list(
        tasks.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:AT_ONCE]
    ):
        last = ids[-1]
        yield ids


def _as_json() -> str:
    return json.dumps(
        {
            "queues": [asdict(queue) for queue in overview.queues()],
            "supervisors": [asdict(each) for each in overview.supervisors()],
        }
    )


def _as_table() -> Iterator[str]:
    queues = overview.queues()
    header = ("queue", "ready", "oldest", "scheduled", "running", "done/h", "failed/h", "alive")
    yield from _aligned(
        [
            header,
            *(
                (
                    plain(queue.name),
                    f"{queue.ready:,}",
                    _span(queue.oldest),
                    f"{queue.scheduled:,}",
                    f"{queue.running:,}",
                    f"{queue.finished:,}",
                    f"{queue.failed:,}",
                    f"{queue.supervisors:,}" if queue.supervisors else "none!",
                )
                for queue in queues
            ),
        ],
        "There are no queues yet: nothing was enqueued, and no supervisor runs.",
    )
    yield ""
    yield from _aligned(
        [
            ("supervisor", "queue", "running", "up", "last seen"),
            *(
                (
                    plain(each.process),
                    plain(each.queue_name),
                    f"{each.running:,}",
                    _span(each.up),
                    f"{_span(each.silent)} ago" + ("" if each.alive else ": silent!"),
                )
                for each in overview.supervisors()
            ),
        ],
        "No supervisor runs: manage.py start_partisan --async",
    )


def _aligned(rows: Sequence[Sequence[str]], nothing: str) -> Iterator[str]:
    if len(rows) == 1:
        yield nothing
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _number(count: int) -> str:
    return f"{count:,} task" if count == 1 else f"{count:,} tasks"
