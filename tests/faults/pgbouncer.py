"""A real pgbouncer in front of a server, for one ``with`` block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from partisan_async.embedded.folder import base_folder
from partisan_async.embedded.owner import end_with_owner
from partisan_async.embedded.programs import unprivileged_account

START_SECONDS = 30


class Pgbouncer:
    """It pools connections to the database of ``server``, and takes all its clients for its user.

    Few server connections for many clients: so sharing is real. It listens on a port of localhost
    and on a unix socket in its folder, the same ones after a restart.

    :param pool_mode: ``transaction`` or ``session``.
    :param pool_size: server connections at most.
    """

    def __init__(self, server: str, *, pool_mode: str = "transaction", pool_size: int = 4) -> None:
        self.folder: Path | None = None
        self.port = _free_port()
        self._server = conninfo_to_dict(server)
        self._pool_mode = pool_mode
        self._pool_size = pool_size
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._program = _find_program()
        self.folder = Path(tempfile.mkdtemp(prefix="partisan-pgb-", dir=base_folder(self._account)))
        try:
            (self.folder / "pgbouncer.ini").write_text(self._config())
            if self._account:
                shutil.chown(self.folder, self._account["user"], self._account["group"])
                self.folder.chmod(0o755)
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._remove()

    @property
    def url(self) -> str:
        """The libpq URL by TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self._server['dbname']}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self.folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_owner(signal.SIGKILL),
                **self._account,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self._admin, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"pgbouncer does not start: {error}\n{self.log}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it with SIGKILL: its clients and its servers see their connections end."""
        self._process.kill()
        self._process.wait()

    def clients(self, name: str) -> set[str]:
        """Return the connections of clients by this application_name: each is another each time."""
        return {
            row["ptr"] + row["connect_time"]
            for row in self._show("CLIENTS")
            if row["application_name"] == name
        }

    def channels(self) -> set[str]:
        """Return what is listened for on its connections to the server."""
        with ExitStack() as stack:
            found = set()
            for _ in range(self._pool_size):
                # Each keeps its server connection for as long as its transaction is open.
                client = stack.enter_context(psycopg.connect(self.url))
                found |= set(client.execute("SELECT pg_listening_channels()").fetchall())
            return {name for (name,) in found}

    def _show(self, what: str) -> list[dict[str, str]]:
        with psycopg.connect(self._admin, autocommit=True, row_factory=dict_row) as admin:
            return admin.execute(f"SHOW {what}").fetchall()

    @property
    def _admin(self) -> str:
        return make_conninfo(self.url, dbname="pgbouncer")

    def _config(self) -> str:
        keys = ("host", "port", "dbname", "password")
        server = {key: self._server[key] for key in keys if key in self._server}
        # So few servers that clients share them; anybody who comes is let in, as that user.
        return f"""
[databases]
{server["dbname"]} = {make_conninfo(**server)} user={self._server["user"]}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir = {self.folder}
auth_type = any
admin_users = postgres
pool_mode = {self._pool_mode}
default_pool_size = {self._pool_size}
max_client_conn = 200
server_login_retry = 0.2
log_connections = 0
log_disconnections = 0
"""

    def _remove(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _find_program() -> str:
    # Debian installs it where only root's PATH leads.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("pgbouncer", path=path):
        return found
    raise RuntimeError(
        "There is no pgbouncer to run on this machine; install it: apt-get install pgbouncer."
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
