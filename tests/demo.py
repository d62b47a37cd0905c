"""The demo as people run it: a process of its own, on a database of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

CHECKOUT = Path(__file__).parents[1]
DEADLINE_SECONDS = 60


@contextmanager
def new_database() -> Iterator[str]:
    """Give the URL of an empty database."""
    name = f"example_{uuid.uuid4().hex[:12]}"
    server = os.environ["DATABASE_URL"]
    query(server, f"CREATE DATABASE {name}")
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        query(server, f"DROP DATABASE {name} WITH (FORCE)")


class Site:
    """A running demo, in a process group of its own."""

    def __init__(
        self,
        database: str,
        folder: Path,
        pictures: Path,
        launcher: Sequence[str] = (),
        checkout: Path = CHECKOUT,
    ) -> None:
        self.database = database
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._printed = folder / "printed"
        with self._printed.open("wb") as file:
            self.process = subprocess.Popen(
                [*launcher, *command("--port", self.port, "--pictures", pictures)],
                cwd=checkout,
                env=environment(database) | {"EXAMPLE_MEDIA": str(folder / "media")},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    def group(self) -> list[psutil.Process]:
        """The processes of its group; without those that have ended, but nobody asked after."""
        found = []
        for process in psutil.process_iter():
            try:
                zombie = process.status() == psutil.STATUS_ZOMBIE
                if os.getpgid(process.pid) == self.process.pid and not zombie:
                    found.append(process)
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return found

    def end(self) -> None:
        self.process.terminate()  # it removes its scratch folder, which a kill would leave
        try:
            self.process.wait(DEADLINE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def running_site(
    database: str,
    folder: Path,
    pictures: Path,
    launcher: Sequence[str] = (),
    checkout: Path = CHECKOUT,
) -> Iterator[Site]:
    """Give a demo whose first tasks have all ended.

    :param folder: for its files.
    :param pictures: a folder of pictures, that it takes in.
    :param launcher: words before its command.
    :param checkout: where its code is.
    """
    site = Site(database, folder, pictures, launcher, checkout)
    try:
        wait_until(lambda: "All tasks have ended" in site.printed or site.process.poll())
        assert site.process.poll() is None, site.printed
        yield site
    finally:
        site.end()


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "example_site.demo", *map(str, options)]


def environment(database: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return inherited | {"DATABASE_URL": database}


def make_user(database: str, name: str, password: str) -> None:
    """Make one who may do everything in the site's admin, as people do."""
    words = ("createsuperuser", "--noinput", "--username", name, "--email", "")
    subprocess.run(
        [sys.executable, "example_site/manage.py", *words],
        cwd=CHECKOUT,
        env=environment(database) | {"DJANGO_SUPERUSER_PASSWORD": password},
        capture_output=True,
        check=True,
    )


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not true within {DEADLINE_SECONDS} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
