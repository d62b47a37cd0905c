"""Checks before a supervisor starts: conditions that it requires, and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.core.management.base import CommandError, no_translations
from django.db import OperationalError, connections

from partisan_async import logs, store
from partisan_async.enqueue.run import fetch
from partisan_async.operate import budget, known, migrations, rights
from partisan_async.settings import QueueSettings
from partisan_async.steering import home
from partisan_async.text.one_line import explain

NOT_AT_HOME = 3
"""Exit code if the database belongs to another place: a restart would not help."""


def require_database(*, paused: bool = False) -> None:
    """Refuse a database that cannot be reached, is not migrated, or allows too little.

    :param paused: require also the rights to pause the queue.
    :raises CommandError: the database is refused.
    """
    alias = store.database()
    try:
        _require_rights(alias, paused=paused)
        missing = migrations.unapplied(alias)
    except OperationalError as error:
        raise CommandError(
            f"Database {alias!r} cannot be reached: {explain(error)} Are its settings right?"
        ) from error
    if missing:
        raise CommandError(
            f"{len(missing)} migration(s) of partisan_async are not applied to database {alias!r};"
            f" run `{migrations.command(alias)}` first."
        )


def _require_rights(alias: str, *, paused: bool) -> None:
    role = rights.current_role(alias)
    essential = {**rights.ESSENTIAL, **rights.PAUSING} if paused else rights.ESSENTIAL
    if grants := rights.missing(alias, essential):
        what = "pause and run" if paused else "run"
        raise CommandError(
            f"The role {role!r} may not {what} tasks in database {alias!r}. As the tables' owner,"
            f" run: {' '.join(grants)}"
        )
    if grants := rights.missing(alias, rights.SUPERVISOR):
        logs.start.rights_missing(role, grants)


@no_translations  # only here, not for the whole command: receivers of signals run in it
def require_home() -> str:
    """Return the name of the home that the database belongs to.

    :raises CommandError: the database belongs to another home than this process.
    """
    place = home.here()
    kept = home.keep(place)
    if why := home.refusal(place, kept):
        raise CommandError(why, returncode=NOT_AT_HOME)
    if odd := home.warning(place, kept):
        logs.start.not_at_home(odd)
    return place.name


def warn_of_unknown_queues(queues: Iterable[str]) -> None:
    """Warn of each queue that no processor, task backend or setting names."""
    used = set(known.named())
    for queue in queues:
        if queue not in used:
            logs.start.unknown_queue(queue, used)


def warn_of_too_many_connections(queues: Mapping[str, QueueSettings], *, listen: bool) -> None:
    """Warn if the server allows fewer connections than this process may open."""
    own = budget.of_host(queues.values(), listens=listen)
    workers = sum(
        each.most_workers * budget.per_worker(name, each) for name, each in queues.items()
    )
    ((allowed,),) = fetch("SELECT current_setting('max_connections')::int")
    connections.close_all()
    if workers + own > allowed:
        logs.start.too_many_connections(workers, own, allowed)
