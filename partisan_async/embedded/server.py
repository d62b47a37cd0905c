"""A PostgreSQL for one ``with`` block."""

# The programs that run here are those that find_programs() has found.
# ruff: noqa: S603

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from partisan_async.embedded.folder import (
    POLL_SECONDS,
    STOP_SECONDS,
    base_folder,
    new_folder,
    postmaster,
    sweep,
    wait_for_silence,
)
from partisan_async.embedded.owner import end_with_owner
from partisan_async.embedded.programs import (
    all_may_enter,
    copy_programs,
    find_programs,
    unprivileged_account,
)

# Not synchronous_commit = off: restart("immediate") would lose acknowledged commits.
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}

_START_SECONDS = 60.0
_SHUTDOWN = {"immediate": signal.SIGQUIT, "fast": signal.SIGINT}

_NOT_STARTED = "The server is not started; use 'with EmbeddedPostgres() as server:' or start()."


class EmbeddedPostgres:
    """A PostgreSQL for one ``with`` block that does not outlive its owner.

    On Linux the kernel ends it when the *thread* that started it ends, even by kill -9
    (PR_SET_PDEATHSIG): call ``start()`` and ``restart()`` from a thread that outlives the server,
    best the main one. Elsewhere the next start ends the server of a killed owner. Root's server
    runs as user ``postgres`` or ``nobody``.

    :param settings: server settings by name, as ``{"max_connections": "300"}``; they override the
        defaults for throw-away data, but not the address: only a unix socket in the folder.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The libpq URL of database ``postgres`` as its superuser; the same after a restart."""
        # With the port, so that a PGPORT in the environment does not apply.
        return f"postgresql://postgres@/postgres?host={quote(str(self._home / 'socket'))}&port=5432"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; another one after a restart."""
        return self._server.pid

    def start(self) -> None:
        """Start a new, empty server; return when it takes connections.

        :raises RuntimeError: the server cannot start; the message has the end of its log.
        """
        if self._folder is not None:
            return
        self._account, self._programs = unprivileged_account(), find_programs()
        base = base_folder(self._account)
        sweep(base)
        self._folder, self._lock = new_folder(base)
        try:
            self._make_folders(self._folder)
            self._initialise()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove its folder; do nothing if it is not started."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        if self._folder is not None:
            wait_for_silence(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
        self._folder = self._process = None

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop the server, if it still runs, and start it on the same data and socket.

        :param mode: as in ``pg_ctl``: ``immediate`` is a crash, from which the start recovers;
            ``fast`` ends the sessions and shuts down cleanly.
        """
        self._end(_SHUTDOWN[mode])
        wait_for_silence(self._home)
        self._launch()

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError(_NOT_STARTED)
        return self._folder

    @property
    def _server(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(_NOT_STARTED)
        return self._process

    def _make_folders(self, folder: Path) -> None:
        """Make the server's two folders; copy the programs if its user cannot reach them."""
        for place in (folder / "data", folder / "socket"):
            place.mkdir(mode=0o700)
            if self._account:
                os.chown(place, self._account["user"], self._account["group"])
        if self._account:
            folder.chmod(0o711)
            if not all_may_enter(self._programs / "postgres"):
                self._programs = copy_programs(self._programs, folder / "programs")

    def _initialise(self) -> None:
        how = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync --no-clean"
        self._process = self._spawn("initdb", *how.split())
        if self._process.wait():
            raise self._failure()

    def _launch(self) -> None:
        place = {"unix_socket_directories": f"{self._home / 'socket'}", "port": "5432"}
        settings = {**_THROW_AWAY, **self._settings, **place, "listen_addresses": ""}
        self._process = self._spawn("postgres", *(f"--{k}={v}" for k, v in settings.items()))
        deadline = time.monotonic() + _START_SECONDS
        while postmaster(self._home) != (self.pid, "ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            time.sleep(POLL_SECONDS)

    def _spawn(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        with (self._home / "log").open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_SH)
            return subprocess.Popen(
                [self._programs / program, "-D", self._home / "data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[log.fileno()],  # every descendant holds the lock, see wait_for_silence
                cwd=self._home,
                env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is for the command, not for its database
                preexec_fn=end_with_owner(signal.SIGQUIT),
                **self._account,
            )

    def _failure(self) -> RuntimeError:
        log = (self._home / "log").read_text(errors="replace")
        return RuntimeError(f"PostgreSQL does not start; the end of its log is:\n{log[-2000:]}")

    def _end(self, first: signal.Signals) -> None:
        for signum in (first, signal.SIGKILL):
            self._server.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_SECONDS)
                return
