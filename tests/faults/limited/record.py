"""What is recorded of limits, beside what is of each task: numbers, overrides, pauses, and faults.

Words used here. An *override* is noted with the times between which it came into force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from partisan_async import registry
from partisan_async.declared import limit_of
from partisan_async.limits import Limit
from tests.faults.audit import COMMITTED
from tests.faults.injector import Befallen
from tests.faults.limited.partisan_tasks import Limited

Key = tuple[str, str | None]

TRIGGER = """
CREATE TABLE faults_pause (
    n bigint PRIMARY KEY DEFAULT nextval('faults_n'),
    name text NOT NULL,
    key text,
    until float8 NOT NULL,
    xid xid NOT NULL DEFAULT pg_current_xact_id()::xid
);

CREATE FUNCTION faults_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO faults_pause (name, key, until)
    VALUES (COALESCE(NEW.name, OLD.name), COALESCE(NEW.key, OLD.key),
        COALESCE(extract(epoch FROM NEW.until), 0));
    RETURN NULL;
END $$;

CREATE TRIGGER faults_pause AFTER INSERT OR UPDATE OR DELETE ON partisan_async_limitpause
FOR EACH ROW EXECUTE FUNCTION faults_pause();
"""

_PAUSES = f"SELECT n, name, key, until, {COMMITTED} FROM faults_pause ORDER BY n"


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's number, or none any more."""

    name: str
    key: str | None
    running: int | None
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A key of which nothing starts until a time, in seconds, by the database's clock.

    Of one whose row is gone, since that was over by a clock that was wrong, the time is 0.
    """

    n: int
    name: str
    key: str | None
    until: float
    committed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a history of tasks under limits is judged by.

    :param limits: what the code allows, by the limit's name.
    :param calm: from when to when all supervisors were up and well.
    :param workers: of all supervisors.
    """

    limits: dict[str, Limit]
    overrides: list[Override] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    befallen: list[Befallen] = field(default_factory=list)
    calm: list[tuple[datetime, datetime]] = field(default_factory=list)
    workers: int = 0


def declared() -> dict[str, Limit]:
    """Return the limits of the processors here, by name."""
    kinds = [each for each in registry.processors() if issubclass(each, Limited)]
    return dict(each for each in map(limit_of, kinds) if each is not None)


def read_pauses(execute: Callable[[str], list[Any]]) -> list[Pause]:
    """Return all pauses of keys that were committed, in the order in which they were written."""
    return [Pause(*row) for row in execute(_PAUSES)]
