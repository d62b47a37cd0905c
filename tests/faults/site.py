"""A site to do harm to: a database server of its own, supervisors, and the record of it all.

How a fault test is written, in ``tests/faults/test_<fault>.py``::

    import os
    import signal

    from tests.faults.partisan_tasks import Nap


    def test_a_killed_worker_costs_nobody_a_task(site):
        supervisor = site.start("--workers_count", "2")        # start_partisan, up and running
        naps = [Nap(1).delay() for _ in range(4)]              # into this site's database
        with site.load(rate=30):                               # a mixed load beside it
            pid = site.running(naps[0]).pid                    # waits for its start in the ledger
            os.kill(pid, signal.SIGKILL)
            site.wait_until_ended(*naps)

        verdict = site.settle_down()                           # all ended, supervisors stopped,
        assert verdict.duplicates.total() >= 1                 # and the promise kept

- ``site.start(*options, beat=0.5, ttl=3, url=None, **settings)`` starts ``start_partisan`` (with
  ``--async`` unless ``listen=False``) as a process in a session of its own, and waits until it is
  up (``wait=False`` does not). ``settings`` are Django settings, such as ``WORKERS_COUNT=1`` or
  ``PARTISAN_CONFIG={…}``. The answer is a ``Partisan`` of ``tests/process.py``; beside what that
  has: ``.kill()``, ``.freeze(with_workers=True)``, ``.thaw()``, ``.stop()``.
- ``url=site.relayed(relay)`` has it use a relay: ``relay = site.relay()`` is a ``Relay`` of
  ``tests/relay.py``. Ledger and audit go past it.
- ``site.restart()`` restarts the server, ``immediate`` unless told otherwise.
- ``site.terminate("%work")`` ends server sessions by application_name; ``site.execute(sql,
  *params)`` runs a statement and returns its rows, on a connection that heals.
- ``site.wait_until(condition)``, ``site.wait_until_ended(*tasks)``, ``site.running(task)``.
- ``site.settle_down()`` ends a test: it waits until all tasks have ended, stops the supervisors by
  SIGTERM, wants exit code 0 and no process left, and has the checker judge; it fails with the
  verdict, and with the story of the first tasks in it, where the promise was not kept. Without it:
  ``site.verdict()``.
- Processors are those of ``tests/faults/partisan_tasks.py``; add yours there, on ``Recorded`` or
  ``AsyncRecorded``, with what must become of them (``ENDS``, ``POISON``).

Between tests all supervisors are ended and the tables emptied. A site costs about two seconds, and
a test process has one.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

import psutil
import psycopg
from django.db import connections
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from partisan_async.embedded import EmbeddedPostgres, django_database
from partisan_async.models import Task
from tests.faults import audit, ledger
from tests.faults.checker import Verdict, judge
from tests.faults.history import Event, History
from tests.faults.load import Load
from tests.faults.recorded import kinds
from tests.process import Partisan, environment
from tests.relay import Relay

UNHURRIED: dict[str, Any] = {"beat": 3600, "ttl": 7200, "SLEEP_DELAY_SECONDS": 3600}
"""For ``start``: neither poll nor beat for longer than a test waits, so that only NOTIFY wakes."""

DEADLINE_SECONDS = 90
"""Far more than anything takes, on a machine that is busy with other things."""

TOLD_TASKS = 3
"""So many tasks' stories are told with a bad verdict."""

_DEPOSITS = "CREATE TABLE faults_deposit (task_id bigint NOT NULL, claim_seq integer NOT NULL)"

SERVER_SETTINGS = {
    "max_connections": "300",
    "log_min_messages": "fatal",
    "track_commit_timestamp": "on",
}

TABLES = (
    "partisan_async_task",
    "partisan_async_supervisor",
    "partisan_async_schedule",
    "partisan_async_limit",
    "partisan_async_limitoverride",
    "partisan_async_limitpause",
    "partisan_async_limitstart",
    "faults_event",
    "faults_change",
    "faults_deposit",
)


class FaultyPartisan(Partisan):
    """A ``start_partisan`` with a short lease, to which things are done."""

    program = ("-m", "tests.faults.supervise")

    def __init__(
        self,
        *options: str,
        log: Path,
        launcher: tuple[str, ...] = (),
        piped: bool = False,
        **env: str,
    ) -> None:
        self.log = log
        super().__init__(*options, log=log, launcher=launcher, piped=piped, **env)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill the supervisor, and it alone: its workers have to end by themselves."""
        self.process.kill()
        self.process.wait()

    def freeze(self, *, with_workers: bool) -> None:
        """Stop it (SIGSTOP), with all its processes or alone."""
        self._signal_all(signal.SIGSTOP, with_workers=with_workers)

    def thaw(self) -> None:
        """Have it go on, and all its processes."""
        self._signal_all(signal.SIGCONT, with_workers=True)

    def stop(self, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Stop it by SIGTERM; it must end with 0 and leave nothing."""
        self.process.terminate()
        code = self.wait(seconds)
        assert code == 0, f"exit code {code}; the end of its log:\n{self.output[-4000:]}"
        self.wait_until_nothing_is_left(seconds=seconds)

    def _signal_all(self, number: int, *, with_workers: bool) -> None:
        family = self.family() if with_workers else [psutil.Process(self.pid)]
        for process in sorted(family, key=lambda process: process.pid != self.pid):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Site:
    """One for a ``with`` block. This process's ``default`` database is the site's meanwhile.

    :param server: one that is not started yet; else an own one.

    The server ends with the thread that starts or restarts it: do that in the main thread.
    """

    def __init__(self, server: EmbeddedPostgres | None = None) -> None:
        self.supervisors: list[FaultyPartisan] = []
        self._server = server or EmbeddedPostgres(settings=SERVER_SETTINGS)
        self._connection: psycopg.Connection[Any] | None = None
        self._loads: list[Load] = []
        self._started = 0

    def __enter__(self) -> Self:
        self.logs = Path(tempfile.mkdtemp(prefix="partisan-faults-"))
        """The supervisors' output."""
        self._server.start()
        try:
            env = self._environment()
            migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, env=env, check=True)
            for sql in (ledger.TABLE, audit.TRIGGER, _DEPOSITS):
                self.execute(sql)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What a client connects to."""
        return self._server.url

    def close(self) -> None:
        """End all of it."""
        self.end_supervisors()
        if self._connection is not None:
            self._connection.close()
        self._server.stop()
        shutil.rmtree(self.logs, ignore_errors=True)

    @contextmanager
    def in_use(self) -> Iterator[Self]:
        """Have ``delay()`` and the ORM of this process use the site's database."""
        with self.enqueuing_through(self.url):
            yield self

    @contextmanager
    def enqueuing_through(self, url: str) -> Iterator[None]:
        """Have ``delay()`` and the ORM of this process go this way."""
        settings = connections.settings["default"]
        before = dict(settings)
        connections["default"].close()
        settings.update(django_database(url))
        try:
            yield
        finally:
            connections["default"].close()
            settings.update(before)

    # Supervisors

    def start(
        self,
        *options: str,
        beat: float = 0.5,
        ttl: float = 3,
        url: str | None = None,
        launcher: tuple[str, ...] = (),
        listen: bool = True,
        wait: bool = True,
        piped: bool = False,
        **settings: Any,
    ) -> FaultyPartisan:
        """Start ``start_partisan``, and return it when it is up.

        :param beat: seconds between its signs of life.
        :param ttl: seconds without one, after which others take over.
        :param url: what it connects to, where that is not the server itself.
        :param launcher: words before its command, such as a ``Host``'s.
        :param listen: give it ``--async``.
        :param wait: return only when it is up.
        :param piped: its lines go through ``pipe``, which can stall.
        :param settings: Django settings for it and its workers.
        """
        self._started += 1
        supervisor = FaultyPartisan(
            *(str(beat), str(ttl)),
            *(["--async"] if listen else []),
            *options,
            log=self.logs / f"supervisor-{self._started}.log",
            launcher=launcher,
            piped=piped,
            **self._environment(url, **settings),
        )
        self.supervisors.append(supervisor)
        if wait:
            supervisor.wait_for("started: queue", seconds=DEADLINE_SECONDS)
        return supervisor

    def end_supervisors(self) -> None:
        """Kill all of them, with all their processes."""
        for supervisor in self.supervisors:
            supervisor.end()
        self.supervisors.clear()

    def _environment(self, url: str | None = None, **settings: Any) -> dict[str, str]:
        return environment(
            DATABASE_URL=url or self.url,
            DJANGO_SETTINGS_MODULE="tests.faults.settings",
            FAULTS_SETTINGS=json.dumps({"WORKERS_COUNT": 2} | settings),
            **{ledger.URL_VARIABLE: self.url},
        )

    # Faults

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Restart the server; ``immediate`` is a crash that it recovers from."""
        self._server.restart(mode)
        connections["default"].close()

    def terminate(self, name: str) -> int:
        """End the server sessions whose application_name is LIKE this; return how many."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND pid <> pg_backend_pid()",
            name,
        )
        return len(rows)

    def relay(self) -> Relay:
        """Return a relay to the server; close it in the end."""
        parameters = conninfo_to_dict(self.url)
        return Relay((str(parameters["host"]), int(parameters["port"])))

    def relayed(self, relay: Relay) -> str:
        """Return the URL that goes through the relay."""
        return make_conninfo(self.url, host="127.0.0.1", port=relay.port)

    # What goes on

    def execute(self, sql: str, *params: Any) -> list[Any]:
        """Return the rows of a statement; after a restart of the server it is tried again."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(
                        self.url,
                        autocommit=True,
                        application_name="faults site",
                        options=ledger.OPTIONS,
                    )
                cursor = self._connection.execute(sql, params or None)
                return cursor.fetchall() if cursor.description else []
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if self._connection is not None:
                    self._connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    @contextmanager
    def load(self, **options: Any) -> Iterator[Load]:
        """Enqueue a mixed load meanwhile, see ``Load``; its tasks are judged with the others."""
        with self.loaded(Load(**options)) as load:
            yield load

    @contextmanager
    def loaded(self, load: Load) -> Iterator[Load]:
        """Have a load enqueue meanwhile; its tasks are judged with the others."""
        self._loads.append(load)
        with load:
            yield load

    def wait_until(
        self, true: Callable[[], Any], what: str = "", *, seconds: float = DEADLINE_SECONDS
    ) -> Any:
        """Return the condition's value as soon as it is true; fail when it is not in time."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not true within {seconds:g} s: {what or true}\n{self.describe_unfinished()}"
                )
            time.sleep(0.02)
        return value

    def wait_until_ended(self, *tasks: Task, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until these tasks, or all there are, have ended."""
        self.wait_until(lambda: not self.unfinished(*tasks), "all have ended", seconds=seconds)

    def unfinished(self, *tasks: Task) -> int:
        """Return how many of these tasks, or of all, have not ended."""
        sql = "SELECT count(*) FROM partisan_async_task WHERE status NOT IN ('finished', 'error')"
        if tasks:
            sql += " AND id = ANY(%s)"
        ((count,),) = self.execute(sql, *([[task.pk for task in tasks]] if tasks else []))
        return int(count)

    def running(self, task: Task, *, seconds: float = DEADLINE_SECONDS) -> Event:
        """Wait until a task has started, and return that start: it has ``pid`` and ``claim_seq``.

        Of several runs, the newest.
        """

        def start() -> Event | None:
            starts = [event for event in self.events(task) if event.kind == "start"]
            return starts[-1] if starts else None

        event: Event = self.wait_until(start, f"task {task.pk} has started", seconds=seconds)
        return event

    def events(self, *tasks: Task) -> list[Event]:
        """Return the ledger, of these tasks or of all."""
        wanted = {task.pk for task in tasks}
        return [event for event in ledger.read(self.execute) if not wanted or event.task in wanted]

    # The record

    def history(self, *, pooled: bool = False) -> History:
        """Return all that was recorded since the tables were emptied."""
        return History(
            rows=audit.read_rows(self.execute),
            events=ledger.read(self.execute),
            changes=audit.read(self.execute),
            kinds=kinds(),
            committed=set().union(*(load.committed for load in self._loads)),
            rolled_back=set().union(*(load.rolled_back for load in self._loads)),
            pooled=pooled,
        )

    def verdict(self, *, pooled: bool = False) -> Verdict:
        """Return what the checker says of it.

        :param pooled: supervisors share server sessions, as behind a pooler.
        """
        return judge(self.history(pooled=pooled))

    def settle_down(self, *, pooled: bool = False, seconds: float = DEADLINE_SECONDS) -> Verdict:
        """Wait for all tasks, stop all supervisors in order, and return a verdict that is good.

        :raises AssertionError: something of that is not so.
        """
        self.wait_until_ended(seconds=seconds)
        for supervisor in self.supervisors:
            if supervisor.running:
                supervisor.stop()
            supervisor.wait_until_nothing_is_left()
        verdict = self.verdict(pooled=pooled)
        assert verdict.ok, f"{verdict}\n{self.stories(verdict)}"
        return verdict

    def stories(self, verdict: Verdict) -> str:
        """Return what happened to the first of the tasks that the verdict is about."""
        tasks = list(dict.fromkeys(violation.task for violation in verdict.violations))
        return "\n".join(self.story(task) for task in tasks[:TOLD_TASKS])

    def story(self, task: int) -> str:
        """Return all that is known of one task, in order, and the log lines that name it."""
        lines = self.execute(
            """
            SELECT n, at, kind || ' ' || how || ' claim ' || claim_seq || ' in ' || process
            FROM faults_event WHERE task_id = %(task)s
            UNION ALL
            SELECT n, at, 'row ' || COALESCE((SELECT jsonb_object_agg(key, value) FROM
                jsonb_each(new) WHERE old IS NULL OR old -> key IS DISTINCT FROM value)::text,
                'deleted') || ' by ' || session
            FROM faults_change WHERE task_id = %(task)s
            ORDER BY 1
            """.replace("%(task)s", str(int(task)))
        )
        told = [f"{n} {at.time()} {what}" for n, at, what in lines]
        for supervisor in self.supervisors:
            named = [line for line in supervisor.output.splitlines() if f" {task} " in line]
            told += [f"{supervisor.log.name}: {line[:300]}" for line in named]
        return "\n  ".join([f"task {task}:", *told])

    def empty(self) -> None:
        """Forget everything; no supervisor may run."""
        self.execute(f"TRUNCATE {', '.join(TABLES)}")
        self._loads.clear()

    def describe_unfinished(self) -> str:
        """Return the first rows that have not ended, their stories, and what still runs says."""
        rows = self.execute(
            "SELECT id, processor_class, status, claim_seq, claimed_by, lost, suspect,"
            " execute_after - clock_timestamp() FROM partisan_async_task"
            " WHERE status NOT IN ('finished', 'error') ORDER BY id LIMIT 20"
        )
        told = [" ".join(str(value) for value in row) for row in rows] or ["(all have ended)"]
        told += [self.story(row[0]) for row in rows[:TOLD_TASKS]]
        for supervisor in self.supervisors:
            if supervisor.running:
                told += [f"{supervisor.log.name} runs:", supervisor.output[-2000:]]
            else:
                told.append(f"{supervisor.log.name} ended with {supervisor.process.poll()}")
        return "\n".join(["not ended:", *told])
