"""``manage.py partisan limits``: what limits allow, what waits for them, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from partisan_async.management.partisan.names import others
from partisan_async.management.partisan.screen import Cell, Progress, number, table, width
from partisan_async.management.partisan.steer import add_up, add_yes, confirm
from partisan_async.models import readable
from partisan_async.operate import limit_names, limits
from partisan_async.operate.limits import KeyState, LimitState
from partisan_async.steering.limits import dissolve_in_batches, forget_limit, waiting
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("limits", help="what limits allow, and what waits for them")
    parser.add_argument("name", nargs="?", metavar="NAME", help="this limit, with its fullest keys")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for programs")
    how.add_argument(
        "--dissolve", action="store_true", help="have what waits run without its limit"
    )
    add_yes(parser)
    parser.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Show the limits, or one and its keys; or dissolve them."""
    name = options["name"]
    if options["dissolve"]:
        _dissolve(command, name, options)
        return
    found = limits.limits()
    if name is not None and name not in (names := {each.name for each in found}):
        raise CommandError(plain(f"Nobody knows a limit {name!r}; {others(name, names)}."))
    shown = [each for each in found if name in (None, each.name)]
    if options["json"]:
        _print_json(command, shown, name)
    else:
        command.stdout.write("\n".join(_screen(command, shown, name)))


def _print_json(command: BaseCommand, shown: list[LimitState], name: str | None) -> None:
    told: dict[str, Any] = {"limits": [asdict(each) for each in shown]}
    if name is not None:
        told |= asdict(limits.keys(name))
    command.stdout.write(json.dumps(readable.as_json(told), cls=DjangoJSONEncoder))


def _screen(command: BaseCommand, shown: list[LimitState], name: str | None) -> Iterator[str]:
    columns = width(command.stdout)
    if not shown:
        yield "There are no limits: no supervisor's code has any, and no task waits for one."
        return
    header = ("limit", "running", "waiting", "keys", "next start", "allows", "changed")
    yield from table([_header(command, header), *map(_limit, shown)], columns)
    if name is None:
        return
    found = limits.keys(name)
    yield ""
    if not found.keys:
        yield "No task that waits or runs has a key."
        return
    about = ("key", "running", "waiting", "next start", "changed")
    yield from table([_header(command, about), *map(_key, found.keys)], columns)
    if found.more:
        yield f"and {found.more:,} more"


def _header(command: BaseCommand, names: tuple[str, ...]) -> list[Cell]:
    return [Cell(name, command.style.MIGRATE_HEADING) for name in names]


def _limit(each: LimitState) -> list[str]:
    return [
        each.name,
        _of(each.running, each.most),
        _up_to(each.waiting, limits.COUNTED),
        _up_to(each.keys, limits.KEYS_COUNTED),
        each.next_start,
        each.allows if each.known else "?",
        each.overrides or "-",
    ]


def _key(each: KeyState) -> list[str]:
    return [
        repr(each.key),
        _of(each.running, each.most),
        _up_to(each.waiting, each.counted),
        each.next_start,
        "-" if each.override is None else f"{each.override:,} at once",
    ]


def _of(running: int, most: int | None) -> str:
    return f"{running:,}" if most is None else f"{running:,} of {most:,}"


def _up_to(count: int, at_most: int) -> str:
    return f"{count:,}" + ("+" if count >= at_most else "")


def _dissolve(command: BaseCommand, name: str | None, options: dict[str, Any]) -> None:
    total = waiting(name)
    of = "any limit" if name is None else f"limit {name!r}"
    if not total:
        if name is not None and name not in (names := {each.name for each in limits.limits()}):
            raise CommandError(plain(f"Nobody knows a limit {name!r}; {others(name, names)}."))
        command.stdout.write(plain(f"dissolve: no task waits for {of}."))
        _forget(command, name)
        return
    wait = "waits" if total == 1 else "wait"
    confirm(plain(f"dissolve: {number(total)} that {wait} for {of} run without it"), options)
    count = add_up(Progress(command.stderr, total, "dissolve"), dissolve_in_batches(name))
    command.stdout.write(f"dissolve: {number(count)}.")
    if left := waiting(name):
        raise CommandError(
            f"{number(left)} left: others have locked {'it' if left == 1 else 'them'}, or a"
            " supervisor whose code has the limit made its tasks wait again. Take the limit out of"
            " the code, or stop the supervisors, and try again."
        )
    _forget(command, name)


def _forget(command: BaseCommand, name: str | None) -> None:
    """Delete what is left of a limit that is gone."""
    if name is not None and name not in limit_names.of_code() and forget_limit(name):
        command.stdout.write(plain(f"Limit {name!r} is in no code any more, and is forgotten."))
