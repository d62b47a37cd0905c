"""``manage.py partisan status``: the queues, the supervisors, and what their workers run."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, connections
from django.utils import timezone

from partisan_async import store
from partisan_async.management.partisan import of_subject
from partisan_async.management.partisan.screen import Cell, cut, table, width
from partisan_async.management.partisan.subject import add_subject
from partisan_async.models import readable
from partisan_async.operate import overview
from partisan_async.operate.overview import FailedTask, PauseState, QueueState, SupervisorState
from partisan_async.text.durations import short
from partisan_async.text.printable import plain
from partisan_async.text.sizes import megabytes

WATCH_SECONDS = 2.0

COUNTED = 100_000
"""Maximum number of waiting tasks counted by ``--watch``: a million takes a quarter of a second."""

NAMED = 3
"""Maximum number of a worker's running tasks that are named."""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    status = commands.add_parser("status", help="the queues and the supervisors")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    how.add_argument("--json", action="store_true", help="for programs")
    add_subject(status, "what there is of this subject, instead")
    status.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Show the status once, as JSON, or again and again."""
    if (subject := options.get("subject")) is not None:
        if options["watch"]:
            raise CommandError("--subject is shown once: leave out --watch.")
        of_subject.show(command, subject, as_json=options["json"])
    elif options.get("json"):
        told = {
            "queues": [asdict(each) for each in overview.queues()],
            "supervisors": [asdict(each) for each in overview.supervisors()],
            "paused_processors": [asdict(each) for each in overview.pauses()],
            "failed": [asdict(each) for each in overview.failed_lately()],
        }
        command.stdout.write(json.dumps(readable.as_json(told), cls=DjangoJSONEncoder))
    elif options.get("watch"):
        _watch(command)
    else:
        command.stdout.write("\n".join(_screen(command, None)))


def _watch(command: BaseCommand) -> None:
    lines: list[str] = []
    with suppress(KeyboardInterrupt), _whole_screen(command) as show:
        while True:
            try:
                lines = list(_screen(command, COUNTED))
                show(lines)
            except Error as error:
                # The database may be restarting: show the error above the last screen.
                connections[store.database()].close()
                said = cut(f"No answer from the database, trying again: {plain(str(error))}",
                           width(command.stdout))  # fmt: skip
                show([command.style.ERROR(said), "", *lines])
            time.sleep(WATCH_SECONDS)


@contextmanager
def _whole_screen(command: BaseCommand) -> Iterator[Any]:
    """Return a function that shows lines in place of the ones before."""
    out = command.stdout
    if not out.isatty():
        yield lambda lines: (out.write("\n".join(lines) + "\n"), out.flush())
        return

    def show(lines: list[str]) -> None:
        height = shutil.get_terminal_size().lines
        if len(lines) > height:
            hidden = len(lines) - height + 1
            lines = [*lines[: height - 1], f"… {hidden} more lines: see status without --watch"]
        # Overwrite the old lines in one write, and erase only the rest of each: clearing the screen
        # first would flicker.
        out.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J", ending="")
        out.flush()

    # The terminal's alternate screen, without a cursor.
    out.write("\x1b[?1049h\x1b[?25l", ending="")
    try:
        yield show
    finally:
        out.write("\x1b[?25h\x1b[?1049l", ending="")
        out.flush()


def _screen(command: BaseCommand, at_most: int | None) -> Iterator[str]:
    columns = width(command.stdout)
    queues = overview.queues(at_most)
    supervisors = overview.supervisors()
    if queues:
        # The last columns are cut off first on a narrow terminal.
        limits = any(queue.limited for queue in queues)
        header = ("queue", "supervisors", "ready", "oldest", *(["limited"] if limits else []),
                  "scheduled", "running", "done/min", "failed/h")  # fmt: skip
        rows = [_queue(command, queue, supervisors, at_most, limits) for queue in queues]
        yield from table([_header(command, header), *rows], columns)
    else:
        yield "There are no queues yet: nothing was enqueued, and no supervisor runs."
    if pauses := overview.pauses(at_most or overview.COUNTED):
        yield ""
        named = ("paused processor", "queue", "waiting", "to end it")
        yield from table([_header(command, named), *map(_pause, pauses)], columns)
    yield ""
    yield from _supervisors(command, supervisors, columns)
    if failed := overview.failed_lately():
        yield ""
        about = ("failed lately", "of", "when")
        yield from table([_header(command, about), *map(_failed, failed)], columns)


def _supervisors(
    command: BaseCommand, supervisors: list[SupervisorState], columns: int | None
) -> Iterator[str]:
    if not supervisors:
        yield "No supervisor runs: manage.py start_partisan --async"
        return
    about = ("host", "last seen", "id", "queue", "running", "up", "workers", "host itself")
    by_host = sorted(supervisors, key=lambda each: each.process)
    yield from table(
        [_header(command, about), *(_supervisor(command, each) for each in by_host)], columns
    )
    if ending := [each for each in supervisors if each.alive and each.ending]:
        yield ""
        yield from (f"{plain(each.process)} is {each.farewell}." for each in ending)
    if runs := list(_runs(supervisors)):
        yield ""
        yield from table([_header(command, ("worker", "for", "task")), *runs], columns)


def _header(command: BaseCommand, names: tuple[str, ...]) -> list[Cell]:
    return [Cell(name, command.style.MIGRATE_HEADING) for name in names]


def _queue(
    command: BaseCommand,
    queue: QueueState,
    supervisors: list[SupervisorState],
    at_most: int | None,
    limits: bool,
) -> list[Cell]:
    style = command.style
    ending = Counter(
        each.ending
        for each in supervisors
        if each.queue_name == queue.name and each.alive and each.ending
    )
    served = Cell(str(queue.supervisors))
    if not queue.supervisors:
        served = Cell("none!", style.ERROR) if queue.waits else Cell("none")
    elif ending:
        told = ", ".join(f"{count} {how}" for how, count in sorted(ending.items()))
        served = Cell(f"{queue.supervisors}, {told}", style.WARNING)
    if queue.paused:
        served = Cell(f"{served.text}, paused", style.WARNING)
    return [
        Cell(queue.name),
        served,
        Cell(_count(queue.ready, at_most)),
        Cell(short(queue.oldest)),
        *([Cell(_count(queue.limited, at_most))] if limits else []),
        Cell(_count(queue.scheduled, at_most)),
        Cell(f"{queue.running:,}"),
        Cell(_rate(queue.per_minute)),
        Cell(f"{queue.failed:,}", style.ERROR if queue.failed else None),
    ]


def _pause(each: PauseState) -> list[Cell]:
    way_out = "it is ending" if each.ending else each.way_out
    waiting = _count(each.parked, overview.COUNTED)
    return [Cell(each.processor), Cell(each.queue_name or "all"), Cell(waiting), Cell(way_out)]


def _count(count: int, at_most: int | None) -> str:
    return f"{count:,}" + ("+" if count == at_most else "")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def _supervisor(command: BaseCommand, each: SupervisorState) -> list[Cell]:
    seen = Cell(f"{short(each.silent)} ago")
    if not each.alive:
        seen = Cell(f"{seen.text}: silent!", command.style.ERROR)
    elif each.ending:
        seen = Cell(f"{seen.text}, {each.ending}", command.style.WARNING)
    return [
        Cell(each.process),
        seen,
        Cell(each.id[:8]),
        Cell(each.queue_name),
        Cell(f"{each.running:,}"),
        Cell(short(each.up)),
        Cell(_workers(each)),
        Cell(megabytes(each.memory_bytes)),
    ]


def _workers(each: SupervisorState) -> str:
    taken = each.workers_bytes
    return f"{len(each.workers)}" + ("" if taken is None else f", {megabytes(taken)}")


def _failed(each: FailedTask) -> list[Cell]:
    ago = (timezone.now() - each.at).total_seconds()
    name = each.error.rpartition(".")[2]
    return [Cell(f"{each.id} {each.processor}"), Cell(name), Cell(f"{short(max(0.0, ago))} ago")]


def _runs(supervisors: list[SupervisorState]) -> Iterator[list[Cell]]:
    held = overview.still_held(supervisors)
    for each in supervisors:
        host = each.process.rpartition("/")[0]
        for worker in each.workers if each.alive else ():
            runs = [run for run in worker.tasks if run.id in held]
            if runs:
                longest = sorted(runs, key=lambda run: -run.seconds)
                said = ", ".join(f"{run.id} {run.processor}" for run in longest[:NAMED])
                if more := worker.running - len(worker.tasks) + len(longest[NAMED:]):
                    said += f" and {more:,} more"
                seconds = longest[0].seconds
                yield [Cell(f"{host}/{worker.pid}"), Cell(short(seconds)), Cell(said)]
