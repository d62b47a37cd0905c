"""The parts of a supervisor, and how they are wired: each part gets parts that were made before it.

The *lease* says whether rows may be started, and the *agenda* what there may be to do. These two
use no other part, so all others can get them. What supervisors of one process share is in
``shared``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from partisan_async import store
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.allowances import Allowances
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.endings import Endings
from partisan_async.supervisor.heartbeat import Pulse
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.pruner import Pruner
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.report.tally import Tally
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.shared import Shared
from partisan_async.supervisor.status import Status
from partisan_async.supervisor.stop import Stop
from partisan_async.supervisor.successes import Successes
from partisan_async.supervisor.ticker import Ticker
from partisan_async.supervisor.timetable import Timetable
from partisan_async.supervisor.wakeup import Ear, Wakeup
from partisan_async.worker.setup import Setup

if TYPE_CHECKING:
    from partisan_async.supervisor.report.metrics import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one supervisor, in the order in which they are made."""

    claiming: Connection
    lease: Lease
    agenda: Agenda
    stop: Stop
    ticker: Ticker
    wakeup: Wakeup | None
    counts: Counts
    tally: Tally
    settler: Settler
    allowances: Allowances
    successes: Successes
    timetable: Timetable
    endings: Endings
    dispatcher: Dispatcher
    claimer: Claimer
    status: Status
    pulse: Pulse
    pruner: Pruner
    page: Page | None


def assemble(me: UUID, name: str, settings: QueueSettings, shared: Shared) -> Parts:
    """Make the parts of the supervisor of a queue."""
    lease, agenda, ttl = shared.lease, Agenda(), shared.ttl
    claiming = Connection(store.database(), f"{name} claim", patience=ttl, prepares=True)
    stop = Stop(lease)
    ticker = Ticker(me, name, shared.beat, ttl=ttl)
    wakeup = shared.wakeup(settings.LISTEN_DSN)
    if wakeup is not None:
        wakeup.join(Ear(name, agenda, ticker.hurry))
    counts = Counts(with_spreads=shared.with_metrics)
    allowances = Allowances(me, name, shared.beat, agenda, ttl)
    settler = _settler(me, settings, shared.settle, agenda)
    successes = Successes(shared.beat, settler, watches=bool(ticker.keys))
    timetable = Timetable(name, shared.beat, ttl=ttl, on_first=successes.watch)
    endings = Endings(settings, settler, counts)
    setup = Setup(resolved_databases(), shared.print_logs, me, settings)
    dispatcher = Dispatcher(name, settings, setup, lease, agenda, settler, endings)
    claimer = Claimer(me, name, settings, claiming, lease, agenda, dispatcher, wakeup)
    page = None
    if shared.with_metrics:
        shown = (counts, lease, dispatcher, settler, wakeup)
        page = _page(name, settings, shared, shown, ticker, timetable, agenda)
    return Parts(
        claiming=claiming,
        lease=lease,
        agenda=agenda,
        stop=stop,
        ticker=ticker,
        wakeup=wakeup,
        counts=counts,
        tally=Tally(name, shared.beat, counts),
        settler=settler,
        allowances=allowances,
        successes=successes,
        timetable=timetable,
        endings=endings,
        dispatcher=dispatcher,
        claimer=claimer,
        status=Status(name, lease, dispatcher, stop),
        pulse=Pulse(me, name, agenda, wakeup, dispatcher, claimer, stop, timetable, shared.memory),
        pruner=_pruner(name, settings, shared.prune),
        page=page,
    )


def resolved_databases() -> dict[str, dict[str, Any]]:
    """Return the databases that this process uses, so that its workers use the same."""
    keys = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    return {
        alias: {key: connections[alias].settings_dict[key] for key in keys} for alias in connections
    }


def _settler(me: UUID, settings: QueueSettings, connection: Connection, agenda: Agenda) -> Settler:
    return Settler(
        me,
        connection,
        delete_finished=settings.DELETE_TASKS_ON_COMPLETE,
        on_settled=agenda.on_settled,
        on_room=agenda.on_room,
    )


def _pruner(name: str, settings: QueueSettings, connection: Connection) -> Pruner:
    return Pruner(
        *(name, settings.KEEP_FINISHED_SECONDS, connection),
        keep_failed_seconds=settings.KEEP_FAILED_SECONDS,
    )


def _page(
    name: str,
    settings: QueueSettings,
    shared: Shared,
    shown: tuple[Counts, Lease, Dispatcher, Settler, Wakeup | None],
    ticker: Ticker,
    timetable: Timetable,
    agenda: Agenda,
) -> Page:
    # Imported here: it needs prometheus_client.
    from partisan_async.supervisor.report.families import Families
    from partisan_async.supervisor.report.metrics import Page
    from partisan_async.supervisor.report.punctual import Punctual
    from partisan_async.supervisor.report.queue_depth import QueueDepth
    from partisan_async.supervisor.report.under_limits import UnderLimits

    families = Families(name, settings.most_workers, *shown, shared.memory)
    depth = QueueDepth(name, shared.metrics)
    punctual = Punctual(name, shared.metrics, ticker, timetable)
    return Page(families, depth, punctual, UnderLimits(name, shared.metrics, agenda))
