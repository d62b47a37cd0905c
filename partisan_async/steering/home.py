"""Where a database belongs: so that the copy of one does not run what the original is to run.

The *home* is a name that a site gives a place, ``PARTISAN_HOME = "production"``. The first
supervisor that starts keeps it in the database; with it go what tells the server and the database
from others. What is restored from a dump elsewhere brings its home along.
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
    """What tells a place from others.

    :param name: ``PARTISAN_HOME``; empty: it has none.
    :param server: the server's system_identifier; empty: this role may not ask.
    """

    name: str
    server: str
    database: str

    def is_new(self, kept: Home) -> bool:
        """Tell whether the server or the database is another one than that which was kept."""
        other_server = bool(self.server and kept.server) and self.server != kept.server
        return other_server or self.database != kept.database


def here() -> Place:
    """Return the place that this process is in."""
    ((database,),) = fetch("SELECT current_database()")
    try:
        with transaction.atomic(using=store.database()):
            ((server,),) = fetch("SELECT system_identifier::text FROM pg_control_system()")
    except DatabaseError:  # it may be forbidden, as by providers
        server = ""
    return Place(settings.home() or "", server, database)


def kept() -> Home | None:
    """Return what the database says of where it belongs; ``None``: nothing yet."""
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
    """Return what is odd of a place, though a supervisor may start there; ``None``: nothing."""
    if kept is None or kept.name or place.name or not place.is_new(kept):
        return None
    what = f"was another one when a supervisor first ran: {_from(kept)}"
    return (
        SENTENCE % (COMMANDS | {"what": what})
        + ' With PARTISAN_HOME = "production", say, no supervisor starts on a copy.'
    )


def keep(place: Place) -> Home:
    """Keep a place, as far as none is kept; return what is.

    A home that was not set before is added, and follows to another server, as after an upgrade.
    """
    rows = Home.objects.using(store.database())
    values = asdict(place)
    found, _ = rows.get_or_create(id=1, defaults=values)
    is_same = all(getattr(found, key) == value for key, value in values.items())
    if place.name and not is_same and refusal(place, found) is None:
        # By its name: another supervisor may keep another one at this moment.
        rows.filter(name=found.name).update(**values)
        found.refresh_from_db(using=store.database())
    return found


def adopt(place: Place) -> None:
    """Have the database belong to a place from now on."""
    rows = Home.objects.using(store.database())
    rows.update_or_create(id=1, defaults=asdict(place) | {"kept_at": Now()})


def _from(kept: Home) -> str:
    about = {"database": kept.database, "server": kept.server}
    if kept.server:
        return gettext("database %(database)r on server %(server)s") % about
    return gettext("database %(database)r") % about
