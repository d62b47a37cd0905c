"""Where a database belongs, so that a copy of it does not run the tasks of the original.

The *home* is the name of a place, ``PARTISAN_HOME = "production"``. The first supervisor that
starts writes the name into the database, with the identity of the server and the database. A dump
that is restored elsewhere brings its home along.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.db import DatabaseError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async import settings, store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Home

SENTENCE = _(
    "This database %(what)s. If it is a copy, its tasks are another place's: `%(cancel)s` ends all"
    " that waits or was running, and `%(keep)s` has it run here."
)
COMMANDS = {
    "cancel": "manage.py partisan adopt --cancel",
    "keep": "manage.py partisan adopt --keep",
}


@dataclass(frozen=True)
class Place:
    """What identifies a place.

    :param name: ``PARTISAN_HOME``; empty: not set.
    :param server: the server's system_identifier; empty: this role may not read it.
    """

    name: str
    server: str
    database: str

    def is_new(self, kept: Home) -> bool:
        """Tell whether the server or the database differs from the kept one."""
        other_server = bool(self.server and kept.server) and self.server != kept.server
        return other_server or self.database != kept.database


def here() -> Place:
    """Return the place that this process is in."""
    ((database,),) = fetch("SELECT current_database()")
    try:
        with transaction.atomic(using=store.database()):
            ((server,),) = fetch("SELECT system_identifier::text FROM pg_control_system()")
    except DatabaseError:  # some hosting providers forbid it
        server = ""
    return Place(settings.home() or "", server, database)


def kept() -> Home | None:
    """Return the home that the database keeps; ``None``: none yet."""
    return Home.objects.using(store.database()).first()


def refusal(place: Place, kept: Home | None) -> str | None:
    """Return why no supervisor may start in a place; ``None``: it may."""
    if kept is None:
        return None
    if kept.name and not place.name:
        what = gettext("belongs to %(kept)r, and PARTISAN_HOME is not set here")
    elif kept.name and kept.name != place.name:
        what = gettext("belongs to %(kept)r, and PARTISAN_HOME is %(here)r here")
    elif place.name and not kept.name and place.is_new(kept):
        what = gettext(
            "belongs to no home yet, and came to %(here)r from another place: %(origin)s"
        )
    else:
        return None
    about = {"kept": kept.name, "here": place.name, "origin": _from(kept)}
    return SENTENCE % (COMMANDS | {"what": what % about})


def warning(place: Place, kept: Home | None) -> str | None:
    """Return what is odd about a place where a supervisor may start; ``None``: nothing."""
    if kept is None or kept.name or place.name or not place.is_new(kept):
        return None
    what = f"was another one when a supervisor first ran: {_from(kept)}"
    return (
        SENTENCE % (COMMANDS | {"what": what})
        + ' With PARTISAN_HOME = "production", say, no supervisor starts on a copy.'
    )


def keep(place: Place) -> Home:
    """Write a place into the database unless one is kept; return the kept one.

    A name is added if the kept place has none. The same name on another server, as after an
    upgrade, updates the kept server.
    """
    rows = Home.objects.using(store.database())
    values = asdict(place)
    found, _ = rows.get_or_create(id=1, defaults=values)
    is_same = all(getattr(found, key) == value for key, value in values.items())
    if place.name and not is_same and refusal(place, found) is None:
        # Filter by the name: another supervisor may write another home at the same time.
        rows.filter(name=found.name).update(**values)
        found.refresh_from_db(using=store.database())
    return found


def adopt(place: Place) -> None:
    """Make this place the database's home from now on."""
    rows = Home.objects.using(store.database())
    rows.update_or_create(id=1, defaults=asdict(place) | {"kept_at": Now()})


def _from(kept: Home) -> str:
    about = {"database": kept.database, "server": kept.server}
    if kept.server:
        return gettext("database %(database)r on server %(server)s") % about
    return gettext("database %(database)r") % about
