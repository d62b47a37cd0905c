"""``start_partisan`` as people run it: a process of its own, on the test's database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from django.db import connection
from psycopg.conninfo import make_conninfo

from partisan_async.embedded.owner import end_with_owner
from tests.pipe import StallingPipe

ROOT = Path(__file__).parents[1]

DEADLINE_SECONDS = 60
"""Far more than anything takes, on a machine that is busy with other things."""


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that is to use the test's database."""
    settings = connection.settings_dict
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    keys |= {"port": "PORT"}
    params = {key: settings[name] for key, name in keys.items() if settings[name]}
    env = os.environ | {
        "DATABASE_URL": make_conninfo(**params),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    return env | changes


def ends_with_tests() -> Callable[[], None] | None:
    """A ``preexec_fn``: the process is killed with its tests, where those are killed themselves.

    Whoever ends a run of tests early, such as ``timeout``, leaves no supervisor behind that would
    go on for ever.
    """
    return end_with_owner(signal.SIGKILL)


class Partisan:
    """A running ``start_partisan``: its lines, its processes, its end.

    :param log: the file to write its lines to; else they are gone with it.
    :param launcher: words before its command, that become the same process.
    :param piped: its lines go through ``pipe``, which can stall.
    :param program: what Python runs.
    """

    program: tuple[str, ...] = ("-m", "django", "start_partisan")

    def __init__(
        self,
        *options: str,
        cwd: Path = ROOT,
        log: Path | None = None,
        launcher: tuple[str, ...] = (),
        piped: bool = False,
        program: tuple[str, ...] | None = None,
        **env: str,
    ) -> None:
        self._output = log.open("w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115  end() closes it
        self.pipe = StallingPipe(self._output.fileno()) if piped else None
        self.process = subprocess.Popen(
            [*launcher, sys.executable, *(program or self.program), *options],
            stdout=self.pipe.entrance if self.pipe else self._output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(**env),
            start_new_session=True,
            preexec_fn=ends_with_tests(),
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        # By position: the processes share this file's, and would go on to write where we read.
        number = self._output.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    def wait_for(self, words: str, *, seconds: float = DEADLINE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.output:
            assert self.process.poll() is None, f"it ended: {self.output}"
            assert time.monotonic() < deadline, f"{words!r} did not come: {self.output}"
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """All processes of its session: workers, the forkserver, the resource tracker, itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != "zombie":
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        return found

    def forkserver(self) -> psutil.Process:
        children = psutil.Process(self.pid).children()
        living = [child for child in children if child.status() != "zombie"]
        (server,) = [child for child in living if "forkserver" in " ".join(child.cmdline())]
        return server

    def workers(self) -> list[psutil.Process]:
        """Forked ones and cold ones, also those whose forkserver is gone."""
        found = []
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                words = " ".join(process.cmdline())
                is_forked = "birth.forkserver" in words and process.ppid() != self.pid
                if is_forked or "birth.cold" in words:
                    found.append(process)
        return found

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        return self.process.wait(seconds)

    def wait_until_nothing_is_left(self, *, seconds: float = DEADLINE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while left := self.family():
            assert time.monotonic() < deadline, f"left over: {[p.cmdline() for p in left]}"
            time.sleep(0.02)

    def end(self) -> None:
        for process in self.family():
            try:
                process.send_signal(signal.SIGCONT)
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.wait()
        if self.pipe is not None:
            self.pipe.close()
        self._output.close()


@contextmanager
def partisan(*options: str, words: str = "started: queue", **env):
    """Start it, wait until it is up, and see to it that nothing is left of it.

    :param words: what it says then.
    """
    running = Partisan(*(options or ("--async",)), **env)
    try:
        running.wait_for(words)
        yield running
    finally:
        running.end()
