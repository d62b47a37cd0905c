"""``manage.py partisan adopt``: makes a database that came from elsewhere belong here."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from partisan_async import store
from partisan_async.management.partisan.screen import Progress, number
from partisan_async.management.partisan.steer import add_up, add_yes, confirm
from partisan_async.models import ENDED, Home, Task
from partisan_async.steering import audit, home
from partisan_async.steering.home import Place
from partisan_async.steering.schedules import leave_behind
from partisan_async.steering.tasks import cancel_untold
from partisan_async.steering.which import in_batches
from partisan_async.text.printable import plain


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    adopt = commands.add_parser("adopt", help="have a copied database belong to this place")
    what = adopt.add_mutually_exclusive_group(required=True)
    ends = "end all that waits or was running, and switch off schedules made at run time"
    what.add_argument("--cancel", action="store_true", help=ends)
    what.add_argument("--keep", action="store_true", help="have it run here")
    add_yes(adopt)
    adopt.set_defaults(run=run)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Adopt the database; with ``--cancel``, end its tasks and leave its schedules first."""
    place, kept = home.here(), home.kept()
    if kept is not None and _is_ours(place, kept):
        raise CommandError(
            f"This database belongs here already: {_told(place)}. Nothing was done. To end all that"
            " waits or runs: manage.py partisan cancel --all"
        )
    total = _unended().count()
    end = "are ended" if options["cancel"] else "run here"
    confirm(plain(f"It is to be {_told(place)}, and {number(total)} {end}. Go on"), options)
    if options["cancel"]:
        _cancel(command, total, place)
    home.adopt(place)
    audit.put_down("adopt", [_told(place)], home=place.name)
    command.stdout.write(plain(f"It is {_told(place)} now."))


def _cancel(command: BaseCommand, total: int, place: Place) -> None:
    progress = Progress(command.stderr, total, "cancel")
    reason = f"adopted by {(place.name or place.database)!r}"
    # Send no signals: this place's receivers might write to production's customers.
    by = audit.user_of_the_system()
    cancel = partial(cancel_untold, statuses=store.UNENDED, by=by, reason=reason)
    count = add_up(progress, map(len, in_batches(cancel, _unended())))
    command.stdout.write(f"cancel: {number(count)}.")
    # Check before adopting: once the database belongs here, tasks that are left would run.
    if left := _unended().count():
        raise CommandError(
            f"{number(left)} could not be ended, being locked or just enqueued, and the database"
            " is not adopted: try again."
        )
    if off := leave_behind():
        what = "schedule" if len(off) == 1 else "schedules"
        command.stdout.write(f"switch-off: {len(off):,} {what} made at run time.")


def _unended() -> QuerySet[Task]:
    return Task.objects.using(store.database()).exclude(status__in=ENDED)


def _is_ours(place: Place, kept: Home) -> bool:
    # With the same name, another server is the same place, as after an upgrade.
    return kept.name == place.name if kept.name else not place.is_new(kept)


def _told(place: Place) -> str:
    whose = f"of {place.name!r}" if place.name else "of no home (PARTISAN_HOME is not set)"
    server = f" on server {place.server}" if place.server else ""
    return f"database {place.database!r}{server}, {whose}"
