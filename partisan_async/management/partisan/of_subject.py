"""``manage.py partisan status --subject``: what there is of one subject."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from django.core.management.base import BaseCommand

from partisan_async.management.partisan.screen import Cell, number, table, width
from partisan_async.models import readable
from partisan_async.operate.subjects import SubjectState, of_subject
from partisan_async.text.durations import short
from partisan_async.text.printable import plain


def show(command: BaseCommand, subject: str, *, as_json: bool) -> None:
    """Show it, or print it as JSON."""
    state = of_subject(subject)
    if as_json:
        command.stdout.write(json.dumps(readable.as_json(asdict(state))))
    else:
        command.stdout.write("\n".join(_screen(command, state)))


def _screen(command: BaseCommand, state: SubjectState) -> Iterator[str]:
    count = sum(state.statuses.values())
    by_status = ", ".join(f"{each:,} {status}" for status, each in state.statuses.items())
    yield plain(f"{number(count)} of subject {state.subject!r}" + (by_status and f": {by_status}"))
    if state.tasks:
        yield ""
        names = ("the newest", "status", "queue", "enqueued")
        rows = [
            [
                Cell(f"{each.id} {each.processor}"),
                Cell(each.status),
                Cell(each.queue),
                Cell(f"{short(each.age)} ago"),
            ]
            for each in state.tasks
        ]
        header = [Cell(name, command.style.MIGRATE_HEADING) for name in names]
        yield from table([header, *rows], width(command.stdout))
    if state.schedules:
        yield ""
        yield plain(f"schedules: {', '.join(state.schedules)}")
