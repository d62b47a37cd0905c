"""``manage.py partisan limit``: allows another number at once than the code does."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async import steering, store
from partisan_async.enqueue.limits import checked
from partisan_async.management.partisan.names import others
from partisan_async.models import LimitOverride
from partisan_async.operate import limit_names
from partisan_async.text.printable import plain
from partisan_async.validation import MOST


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    limit = commands.add_parser("limit", help="allow another number at once than the code does")
    limit.add_argument("name", metavar="NAME", help="of the limit, as `partisan limits` shows it")
    what = limit.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--running",
        type=_number,
        metavar="N",
        help="let so many run at once; 0: start none; what runs goes on",
    )
    what.add_argument("--clear", action="store_true", help="have the code's number hold again")
    limit.add_argument("--key", type=_key, metavar="KEY", help="of this key alone")
    limit.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Write the override, or remove it."""
    name, key, running = options["name"], options["key"], options["running"]
    _refuse_unknown(name, key, clears=options["clear"])
    what = f"Limit {name!r}" if key is None else f"Key {key!r} of limit {name!r}"
    if options["clear"]:
        news = steering.clear_limit(name, key=key)
        said = "is as the code says again" if news else "was as the code says"
    else:
        news = steering.set_limit(name, running, key=key)
        now = f"lets {running:,} run at once" if running else "is closed: none starts"
        said = now if news else f"was so before: it {now}"
    command.stdout.write(plain(f"{what} {said}."))


def _refuse_unknown(name: str, key: str | None, *, clears: bool) -> None:
    rows = LimitOverride.objects.using(store.database()).filter(name=name)
    if clears and rows.exists():
        return  # also where no limit has this name any more
    if name not in (known := limit_names.all_names()):
        raise CommandError(plain(f"Nobody knows a limit {name!r}; {others(name, known)}."))
    if key is not None and not limit_names.is_of_keys(name):
        raise CommandError(
            plain(
                f"Limit {name!r} has no keys: no processor that has it has a limit_key(). Leave out"
                " --key."
            )
        )


def _number(text: str) -> int:
    if not text.isdecimal() or int(text[:20]) > MOST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of tasks: pass a whole number, 0 or more"
        )
    return int(text)


def _key(text: str) -> str | None:
    try:
        return checked(text, "The key")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
