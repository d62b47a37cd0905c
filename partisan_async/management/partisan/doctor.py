"""``manage.py partisan doctor``: what is wrong, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async import store
from partisan_async.management.partisan.screen import folded, width
from partisan_async.operate.doctor import Finding, examine
from partisan_async.steering.mending import mend
from partisan_async.text.printable import plain

NAMED = 20


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    doctor = commands.add_parser("doctor", help="what is wrong, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument(
        "--mend", action="store_true", help="first set right the tasks that `constraints` tells of"
    )
    doctor.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Look at everything; exit with 1 if anything is wrong."""
    if options["mend"]:
        for line in _mended():
            (command.stderr if options["json"] else command.stdout).write(plain(line))
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not options["json"]:
            command.stdout.write(_line(command, finding))
    if options["json"]:
        command.stdout.write(json.dumps([asdict(each) for each in findings]))
    if wrong := sum(1 for each in findings if each.well is False):
        raise CommandError("1 thing is wrong." if wrong == 1 else f"{wrong} things are wrong.")


def _mended() -> Iterator[str]:
    mended = mend()
    named = ", ".join(map(str, mended.ids[:NAMED])) + (", …" if len(mended.ids) > NAMED else "")
    yield f"{len(mended.ids):,} task(s) set right{': ' * bool(named)}{named}"
    for pk, why in mended.left.items():
        yield f"task {pk} is as it was: {why}"
    for name in mended.valid:
        yield f"constraint {name}: all rows keep it"
    for name, why in mended.refused.items():
        statement = store.validate(name).sql
        yield f"constraint {name} is not checked: {why}. The tables' owner may run: {statement}"


def _line(command: BaseCommand, finding: Finding) -> str:
    mark, style = {
        True: ("ok   ", command.style.SUCCESS),
        False: ("WRONG", command.style.ERROR),
        None: ("?    ", command.style.WARNING),
    }[finding.well]
    said = folded(f"{mark} {finding.look}: {plain(finding.said)}", " " * 6, width(command.stdout))
    return style(mark) + said.removeprefix(mark)
