"""One contender on one database: its jobs, its workers, and what they cost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks import tree
from tests.benchmarks.contender import CONTENDERS, Contender
from tests.benchmarks.environments import ROOT, python_of

PATIENCE_SECONDS = 300.0
"""So long a contender may take to be done."""

QUICK = 0.05
"""Up to this share of the jobs it is a trial run, and what takes minutes is cut short too."""


class ContenderFailedError(RuntimeError):
    """A contender did not do what it was asked; the message says what it printed."""


class Bench:
    """A contender, set up on a database of its own.

    :param server: ends with the database; durable, as a server in production is.
    :param checkout: of this project, where that is measured.
    """

    def __init__(
        self, server: EmbeddedPostgres, contender: Contender, checkout: Path = ROOT
    ) -> None:
        self.contender = contender
        self._checkout = checkout
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="partisan-bench-"))
        self._name = f"bench_{time.monotonic_ns()}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self._name}")  # type: ignore[arg-type]
        self.url = server.url.replace("/postgres?", f"/{self._name}?")
        self.call("install")

    def close(self) -> None:
        """Drop the database, and end what else was begun for it."""
        if self.contender.system.unfinished is None:
            self.call("remove")
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self._name} WITH (FORCE)")  # type: ignore[arg-type]

    def call(self, verb: str, *arguments: object) -> float:
        """Have the contender do something, and return how many seconds that took it."""
        done = subprocess.run(
            self._command(verb, *arguments),
            env=self._environment(),
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        if done.returncode:
            raise ContenderFailedError(f"{self.contender.name}: {verb}: {done.stderr[-2000:]}")
        return float(done.stdout.split()[-1])

    @contextmanager
    def workers(self) -> Iterator[list[int]]:
        """Run its workers in the block, and give their process ids."""
        log = self._folder / "log"
        with log.open("ab") as output:
            running = [
                subprocess.Popen(
                    self._command("work"),
                    env=self._environment(),
                    cwd=self._folder,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                for _ in range(self.contender.processes)
            ]
        try:
            yield [process.pid for process in running]
            if gone := [process for process in running if process.poll() is not None]:
                raise ContenderFailedError(
                    f"{self.contender.name}: a worker ended with {gone[0].returncode}:"
                    f" {log.read_text()[-2000:]}"
                )
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection to look at the jobs with; what it looks at is never logged."""
        return psycopg.connect(self.url, autocommit=True, options="-c log_statement=none")

    def times(self, file: str) -> list[float]:
        """Return what jobs wrote down so far, in seconds; see ``contenders/marks.py``."""
        path = self._folder / file
        return [float(line) for line in path.read_text().split()] if path.exists() else []

    def wait_for_times(self, file: str, count: int) -> list[float]:
        """Return what jobs wrote down, as soon as it is so much."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(times := self.times(file)) < count:
            if time.monotonic() > deadline:
                raise ContenderFailedError(f"{self.contender.name}: no job began in time")
            time.sleep(0.005)
        return times

    def forget_times(self) -> None:
        """Begin anew."""
        for file in ("FIRST_LINES", "PICK_UPS"):
            (self._folder / file).unlink(missing_ok=True)

    def wait_until_done(self) -> float:
        """Wait until no job is left, and return that moment."""
        unfinished = self.contender.system.unfinished
        if unfinished is None:
            self.call("await_done")
            return time.monotonic()
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.connect() as connection:
            # By the index of the unfinished ones, however many rows are finished.
            connection.execute("SET enable_seqscan = off")
            while connection.execute(unfinished).fetchone():  # type: ignore[arg-type]
                if time.monotonic() > deadline:
                    raise ContenderFailedError(f"{self.contender.name}: not done in time")
                time.sleep(0.02)
        return time.monotonic()

    def log_statements(self) -> None:
        """Have the server log each statement of the connections that are opened from now on."""
        with self.connect() as connection:
            connection.execute(f"ALTER DATABASE {self._name} SET log_statement = 'all'")  # type: ignore[arg-type]

    def statements(self) -> int:
        """Return how many statements were logged so far, BEGIN and COMMIT included.

        No extension is needed for it; but the time that it takes must not be measured.
        """
        log = (self._server._home / "log").read_bytes()
        return len(re.findall(rb"LOG:  (?:statement|execute \S+): ", log))

    def server_cpu_seconds(self) -> float:
        """Return the CPU time of the server."""
        return tree.cpu_seconds(self._server.pid)

    def _command(self, verb: str, *arguments: object) -> list[str]:
        system = self.contender.system
        script = CONTENDERS / f"run_{system.name}.py"
        return [python_of(system), str(script), verb, *map(str, arguments)]

    def _environment(self) -> Mapping[str, str]:
        return (
            os.environ
            | self.contender.environment
            | {
                "DATABASE_URL": self.url,
                "PYTHONPATH": os.pathsep.join([str(self._checkout), str(CONTENDERS)]),
                "FIRST_LINES": str(self._folder / "FIRST_LINES"),
                "PICK_UPS": str(self._folder / "PICK_UPS"),
            }
        )
