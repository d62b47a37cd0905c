"""``manage.py partisan doctor``: what is wrong, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async.management.partisan.screen import folded, width
from partisan_async.operate.doctor import Finding, examine
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    doctor = commands.add_parser("doctor", help="what is wrong, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Look at everything; exit with 1 if anything is wrong."""
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not options["json"]:
            command.stdout.write(_line(command, finding))
    if options["json"]:
        command.stdout.write(json.dumps([asdict(each) for each in findings]))
    if wrong := sum(1 for each in findings if each.well is False):
        raise CommandError("1 thing is wrong." if wrong == 1 else f"{wrong} things are wrong.")


def _line(command: BaseCommand, finding: Finding) -> str:
    mark, style = {
        True: ("ok   ", command.style.SUCCESS),
        False: ("WRONG", command.style.ERROR),
        None: ("?    ", command.style.WARNING),
    }[finding.well]
    said = folded(f"{mark} {finding.look}: {plain(finding.said)}", " " * 6, width(command.stdout))
    return style(mark) + said.removeprefix(mark)
