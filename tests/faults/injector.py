"""Does the faults of a schedule to a site, and keeps its supervisors at their number."""

from __future__ import annotations

import math
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import psutil
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults import afflictions
from tests.faults.pgbouncer import Pgbouncer
from tests.faults.schedule import Fault
from tests.faults.site import FaultyPartisan, Site
from tests.relay import Relay

BEAT_SECONDS, TTL_SECONDS = 1.0, 4.0

T = TypeVar("T")

START_SECONDS = 60
"""A supervisor that is not up by then does not come up."""

START_ATTEMPTS = 10
"""So many may meet a fault while they start, and give up."""


RECOVERY_SECONDS = 3.0
"""A supervisor that stops writes its outcomes within this time after an outage of the database."""


@dataclass(eq=False)
class Member:
    """A supervisor and its network."""

    supervisor: FaultyPartisan
    relay: Relay
    started_at: float
    up: bool = False
    afflicted: bool = False
    """It is stopped or in a black hole."""
    identity: str | None = None
    """The id of its row."""

    @property
    def name(self) -> str:
        return self.supervisor.log.stem


@dataclass(frozen=True, slots=True)
class Befallen:
    """A fault, and whom it hit.

    :param supervisor: its id; ``None``: all of them, or what is nobody's alone.
    """

    what: str
    supervisor: str | None
    at: datetime
    until: datetime


class Injector:
    """The supervisors of a soak, and what is done to them. All in one thread: see ``Site``.

    :param count: how many supervisors there are to be.
    :param pgbouncer: every other one goes through it.
    :param settings: theirs.
    """

    def __init__(
        self, site: Site, *, count: int, pgbouncer: Pgbouncer | None = None, **settings: Any
    ) -> None:
        self.befallen: list[Befallen] = []
        self.calm: list[tuple[datetime, datetime]] = []
        """From when to when all supervisors were up and well."""
        self._calm_since: datetime | None = None
        self._pgbouncer = pgbouncer
        self._settings = settings
        self._started = 0
        self.done: Counter[str] = Counter()
        """How many faults of each kind found a victim."""
        self.complaints: list[str] = []
        """What no fault explains: supervisors that end by themselves, or not in order."""
        self._site = site
        self._count = count
        self._members: list[Member] = []
        self._leaving: list[Member] = []
        self._gone: list[Member] = []
        self._failed_starts = 0
        self._outages = 0
        self._outage_over = -math.inf
        self._undo: list[tuple[float, Callable[[], None]]] = []

    # Life

    def start(self) -> None:
        """Start the supervisors; returns when they are up."""
        afflictions.prepare(self._site)
        for _ in range(self._count):
            self._start_one()
        while not all(member.up for member in self._members):
            self.watch()
            time.sleep(0.05)

    def watch(self) -> None:
        """Undo what has lasted long enough, and see who ended; call it often."""
        now = time.monotonic()
        for due in [due for due in self._undo if due[0] <= now]:
            self._undo.remove(due)
            due[1]()
        for member in list(self._leaving):
            if not member.supervisor.running:
                self._leaving.remove(member)
                self._gone.append(member)
                code = member.supervisor.process.returncode
                if code and not (code == 1 and self._could_not_write(member, now)):
                    self.complaints.append(f"{member.name} exited with {code} after SIGTERM")
        for member in list(self._members):
            self._look_after(member)
        well = all(member.up and not member.afflicted for member in self._members)
        if self._undo or self._outages or self._leaving or not well:
            self._end_calm()
        elif self._calm_since is None:
            self._calm_since = datetime.now(UTC)

    def inject(self, fault: Fault) -> str:
        """Do it; return to whom."""
        self._end_calm()
        what = getattr(self, "_" + re.sub(r"\W", "_", fault.kind.replace("'", "")).lower())
        at, members = datetime.now(UTC), {each.name: each.identity for each in self._members}
        hit: str | None = what(fault)
        until = datetime.now(UTC) + timedelta(seconds=fault.lasts)
        self.befallen.append(Befallen(fault.kind, members.get(str(hit)), at, until))
        if hit is None:
            return "nobody: there is no candidate now"
        self.done[fault.kind] += 1
        return hit

    def heal(self) -> None:
        """Undo all that lasts."""
        self._end_calm()
        for _, undo in self._undo:
            undo()
        self._undo.clear()

    def finish(self, *, seconds: float) -> None:
        """Stop all supervisors in order; complain of what does not end."""
        for member in self._members:
            member.supervisor.signal(signal.SIGTERM)
        self._leaving += self._members
        self._members = []
        deadline = time.monotonic() + seconds
        while self._leaving and time.monotonic() < deadline:
            self.watch()
            time.sleep(0.05)
        for member in self._leaving:
            self.complaints.append(f"{member.name} did not end within {seconds:g} s of SIGTERM")
        for member in self._gone:
            try:
                member.supervisor.wait_until_nothing_is_left()
            except AssertionError as left:
                self.complaints.append(f"{member.name}: {left}")
            member.relay.close()

    def _end_calm(self) -> None:
        if self._calm_since is not None:
            self.calm.append((self._calm_since, datetime.now(UTC)))
            self._calm_since = None

    def _start_one(self) -> None:
        self._started += 1
        settings = dict(self._settings)
        if self._pgbouncer is not None and self._started % 2:
            relay = Relay(("127.0.0.1", self._pgbouncer.port))
            url = make_conninfo(self._pgbouncer.url, host="127.0.0.1", port=relay.port)
            server = conninfo_to_dict(self._site.url)
            settings["LISTEN_DSN"] = f"host={server['host']} port={server['port']}"
        else:
            relay = self._site.relay()
            url = self._site.relayed(relay)
        supervisor = self._site.start(
            url=url, beat=BEAT_SECONDS, ttl=TTL_SECONDS, wait=False, piped=True, **settings
        )
        self._members.append(Member(supervisor, relay, time.monotonic()))

    def _look_after(self, member: Member) -> None:
        supervisor = member.supervisor
        if not supervisor.running:
            # One that meets a fault while it starts may give up: whoever started it tries again.
            code = supervisor.process.returncode
            if member.up:
                self.complaints.append(f"{member.name} ended by itself, with {code}")
            else:
                self._failed_starts += 1
                if self._failed_starts > START_ATTEMPTS:
                    end = supervisor.output[-2000:]
                    raise RuntimeError(f"{member.name} does not start, {code}: {end}")
            self._replace(member)
        elif not member.up:
            member.up = "started: queue" in supervisor.output
            if not member.up and time.monotonic() - member.started_at > START_SECONDS:
                self.complaints.append(f"{member.name} is not up after {START_SECONDS} s")
                member.up = True
            if member.up:
                member.identity = self._identity(member)

    def _identity(self, member: Member) -> str | None:
        rows = self._site.execute(
            "SELECT id::text FROM partisan_async_supervisor WHERE process ->> 'pid' = %s"
            " ORDER BY started_at DESC",
            str(member.supervisor.pid),
        )
        return rows[0][0] if rows else None

    def _replace(self, member: Member) -> None:
        self._members.remove(member)
        self._gone.append(member)
        self._start_one()

    def _could_not_write(self, member: Member, now: float) -> bool:
        """Tell whether a supervisor says that it could not write, and nobody could have.

        It is to write within seconds of the end of an outage, and before it ends itself.
        """
        is_away = self._outages > 0 or now - self._outage_over < RECOVERY_SECONDS
        return is_away and "outcome(s) could not be written" in member.supervisor.output

    # Faults: each returns who was hit, or None

    def _kill_a_worker(self, fault: Fault) -> str | None:
        workers = [worker for member in self._candidates() for worker in _workers(member)]
        if not workers:
            return None
        worker = _pick(workers, fault)
        try:
            worker.kill()
        except psutil.NoSuchProcess:  # it has ended meanwhile
            return None
        return f"process {worker.pid}"

    def _kill_a_supervisor(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.supervisor.kill()
        self._replace(member)
        return member.name

    def _kill_a_forkserver(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        try:
            if member is None:
                return None
            member.supervisor.forkserver().kill()
        except (ValueError, psutil.NoSuchProcess):  # it is just being started anew
            return None
        return member.name

    def _replace_a_supervisor_in_order(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        self._start_one()
        member.supervisor.signal(signal.SIGTERM)
        self._members.remove(member)
        self._leaving.append(member)
        return member.name

    def _terminate_a_backend(self, fault: Fault) -> str | None:
        rows = self._site.execute(
            "SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name NOT LIKE 'faults %' AND pid <> pg_backend_pid() ORDER BY pid"
        )
        if not rows:
            return None
        pid, name = _pick(rows, fault)
        self._site.execute("SELECT pg_terminate_backend(%s)", pid)
        return f"backend {pid} ({name or 'Django'})"

    def _restart_postgresql(self, fault: Fault) -> str | None:
        self._site.restart("immediate")
        self._outage_over = time.monotonic()
        return "the server"

    def _stop_a_supervisor_past_its_lease(self, fault: Fault) -> str | None:
        return self._stop(fault, with_workers=False)

    def _stop_a_supervisor_and_its_workers_past_its_lease(self, fault: Fault) -> str | None:
        return self._stop(fault, with_workers=True)

    def _stop(self, fault: Fault, *, with_workers: bool) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.supervisor.freeze(with_workers=with_workers)
        self._afflict(member, fault, member.supervisor.thaw)
        return member.name

    def _black_hole_a_supervisor_past_its_lease(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.relay.open.clear()
        self._afflict(member, fault, member.relay.open.set)
        return member.name

    def _lose_the_acknowledgement_of_a_statement(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.relay.lose_answers(connection=b" claim")
        return member.name

    def _lose_the_acknowledgement_of_a_settle(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.relay.lose_answers(matching=b"finished")
        return member.name

    def _cut_all_connections_of_a_supervisor(self, fault: Fault) -> str | None:
        member = self._healthy(fault)
        if member is None:
            return None
        member.relay.cut()
        return member.name

    def _make_the_database_read_only(self, fault: Fault) -> str | None:
        hit = self._befall(afflictions.ReadOnly, fault, is_outage=True)
        if self._pgbouncer is not None:
            # Its servers' sessions outlive their clients', who could not end them.
            until = time.monotonic() + fault.lasts
            self._undo.append((until, partial(afflictions.end_sessions, self._site)))
        return hit

    def _have_the_databases_clock_jump(self, fault: Fault) -> str | None:
        return self._befall(afflictions.ClockJump, fault)

    def _use_up_all_connections(self, fault: Fault) -> str | None:
        return self._befall(afflictions.ConnectionsUsedUp, fault, is_outage=True)

    def _refuse_results(self, fault: Fault) -> str | None:
        return self._befall(afflictions.RefusedResults, fault)

    def _stall_the_log_of_a_supervisor(self, fault: Fault) -> str | None:
        # It stays a candidate: a stalled log should keep nobody from being well.
        member = self._healthy(fault)
        if member is None:
            return None
        pipe = member.supervisor.pipe
        assert pipe is not None
        pipe.stall()
        self._undo.append((time.monotonic() + fault.lasts, pipe.flow))
        return member.name

    def _candidates(self) -> list[Member]:
        return [member for member in self._members if member.up and not member.afflicted]

    def _healthy(self, fault: Fault) -> Member | None:
        candidates = self._candidates()
        return _pick(candidates, fault) if candidates else None

    def _afflict(self, member: Member, fault: Fault, undo: Callable[[], None]) -> None:
        member.afflicted = True
        until = time.monotonic() + fault.lasts
        self._undo.append((until, partial(self._recover, member, undo)))

    def _befall(self, begin: afflictions.Begin, fault: Fault, *, is_outage: bool = False) -> str:
        until = time.monotonic() + fault.lasts
        self._undo.append((until, begin(self._site, fault.victim, fault.lasts).end))
        if is_outage:
            self._outages += 1
            self._undo.append((until, self._note_end))
        return "the database"

    def _note_end(self) -> None:
        self._outages -= 1
        self._outage_over = time.monotonic()

    def _recover(self, member: Member, undo: Callable[[], None]) -> None:
        undo()
        member.afflicted = False


def _pick(candidates: list[T], fault: Fault) -> T:
    return candidates[fault.victim % len(candidates)]


def _workers(member: Member) -> list[psutil.Process]:
    try:
        return sorted(member.supervisor.workers(), key=lambda worker: worker.pid)
    except (ValueError, psutil.NoSuchProcess):  # no forkserver at the moment
        return []
