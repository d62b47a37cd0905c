"""Looks at whether the database is where it belongs."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async.operate.doctor.look import Said, well, wrong
from partisan_async.steering import home as places


def home() -> Iterator[Said]:
    """Report a database that was copied here from another place."""
    place, kept = places.here(), places.kept()
    if said := places.refusal(place, kept) or places.warning(place, kept):
        yield wrong(said)
    elif kept is None:
        yield well("no supervisor has started here yet")
    else:
        yield well(repr(kept.name) if kept.name else "PARTISAN_HOME is not set")
