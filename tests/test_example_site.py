"""The example site: the demo as a process, its tables, its ends, and its site over HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from PIL import Image
from psycopg.conninfo import make_conninfo

CHECKOUT = Path(__file__).parents[1]
DEADLINE_SECONDS = 30


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty database, for one test alone."""
    name = f"example_{uuid.uuid4().hex[:12]}"
    server = os.environ["DATABASE_URL"]
    query(server, f"CREATE DATABASE {name}")
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        query(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a picture in it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.linear_gradient("L").resize((300, 200)).save(folder / "gradient.jpg")
    return folder


class Site:
    """A running demo, in a process group of its own."""

    def __init__(self, database: str, folder: Path, pictures: Path) -> None:
        self.port = free_port()
        self._printed = folder / "printed"
        with self._printed.open("wb") as file:
            self.process = subprocess.Popen(
                command("--port", self.port, "--pictures", pictures),
                cwd=CHECKOUT,
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


@pytest.fixture
def site(database: str, tmp_path: Path, pictures: Path) -> Iterator[Site]:
    """A demo whose first tasks have all ended."""
    site = Site(database, tmp_path, pictures)
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


def demo(database: str, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        cwd=CHECKOUT,
        env=environment(database),
        capture_output=True,
        text=True,
        timeout=90,
    )


def manage(database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "example_site/manage.py", *arguments],
        cwd=CHECKOUT,
        env=environment(database),
        capture_output=True,
        text=True,
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


def get(site: Site, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{site.port}{path}") as response:
        return response.read()


def post(site: Site, name: str, content: bytes) -> tuple[int, Any]:
    head = f'--cut\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n\r\n'
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.port}/pictures/",
        data=head.encode() + content + b"\r\n--cut--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=cut"},
    )
    with urllib.request.urlopen(request) as response:
        return response.status, json.load(response)


class TestOnce:
    def test_its_table_holds_every_task_of_the_pictures_it_draws(self, database: str) -> None:
        """Each policy shows: two files of 13 add no task, and one ends in error, as it should."""
        ended = demo(database, "--once")

        assert ended.returncode == 0, ended.stdout + ended.stderr
        lines = ended.stdout.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("-----"))
        rows = [line.split() for line in lines[first + 1 : lines.index("", first)]]
        assert {tuple(row[:4]) for row in rows} == {
            ("TakeIn", "default", "finished", "10"),
            ("TakeIn", "default", "error", "1"),
            ("MakeThumbnail", "default", "finished", "10"),
            ("MakeRendition", "default", "finished", "20"),
            ("Watermark", "default", "finished", "10"),
            ("Publish", "default", "finished", "10"),
            ("Announce", "announcements", "finished", "10"),
            ("example_site.notices.tasks.tell_managers", "default", "finished", "10"),
        }
        assert "TakeIn" in ended.stdout.split("as they should:")[1]
        [(tries, postpones)] = query(
            database, "SELECT max(tries), sum(postpones) FROM partisan_async_task"
        )
        assert tries == 3
        assert postpones > 0

    def test_a_broken_file_ends_in_error_and_its_row_says_why(
        self, database: str, pictures: Path
    ) -> None:
        """It is what the issue promises of a file that is no picture, so the demo succeeds."""
        whole = (pictures / "gradient.jpg").read_bytes()
        (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])

        ended = demo(database, "--once", "--pictures", pictures)

        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Files that are no pictures: 1." in ended.stdout
        failed = query(
            database,
            "SELECT processor_class, errors->-1->>'message' FROM partisan_async_task"
            " WHERE status = 'error'",
        )
        [(processor, message)] = failed
        assert processor == "TakeIn"
        assert message.startswith("cut.jpg is not a picture that can be read: image file is trunca")

    def test_a_task_that_should_not_fail_is_named_and_exits_with_1(
        self, database: str, pictures: Path
    ) -> None:
        """A real fault: the database refuses the row of the large rendition."""
        assert manage(database, "migrate").returncode == 0
        query(
            database,
            "ALTER TABLE gallery_rendition ADD CONSTRAINT no_large CHECK (kind <> 'large')",
        )

        ended = demo(database, "--once", "--pictures", pictures)

        assert ended.returncode == 1
        named = ended.stdout.split("1 task failed and should not have:\n")[1]
        assert named.startswith("  MakeRendition #")
        assert "no_large" in named


class TestSite:
    def test_its_async_view_enqueues(self, database: str, site: Site) -> None:
        """``adelay()`` over real ASGI: the answer does not wait for the task, and names its row."""
        file = io.BytesIO()
        Image.new("RGB", (30, 20), "#ff8800").save(file, "PNG")

        status, answer = post(site, "orange.png", file.getvalue())

        assert status == 202
        task = f"SELECT status FROM partisan_async_task WHERE id = {answer['task']}"
        wait_until(lambda: query(database, task) == [("finished",)])
        newest = json.loads(get(site, "/pictures/"))["pictures"][0]
        assert newest["id"] == answer["picture"]
        assert newest["name"] == "orange.png"
        assert newest["colours"] == ["#ff8800"]

    def test_the_admin_has_its_style_sheet(self, site: Site) -> None:
        """Without the static files the admin is there, and looks broken."""
        assert b"Django administration" in get(site, "/admin/login/")
        assert b"--primary" in get(site, "/static/admin/css/base.css")

    def test_ctrl_c_leaves_no_process(self, site: Site) -> None:
        """Ctrl-C comes to the whole group; the demo waits for its children and is silent."""
        names = {name for process in site.group() for name in process.cmdline()}
        assert {"start_partisan", "uvicorn"} <= names

        os.killpg(site.process.pid, signal.SIGINT)

        assert site.process.wait(DEADLINE_SECONDS) == 0
        assert site.printed.endswith("Stopping.\n")
        wait_until(lambda: not site.group())

    def test_a_supervisor_that_dies_ends_it_by_name(self, site: Site) -> None:
        """Never half a demo, in which tasks wait and nobody says why."""
        supervisors = [
            process
            for process in psutil.Process(site.process.pid).children()
            if "announcements" in process.cmdline()
        ]

        supervisors[0].kill()

        assert site.process.wait(DEADLINE_SECONDS) == 1
        died = "The supervisor of queue announcements ended unexpectedly, by signal 9."
        assert died in site.printed
        wait_until(lambda: not site.group())


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--pictures", "/no/such/folder"), "There is no folder '/no/such/folder'"),
            (("--once", "--pictures", "{empty}"), "There are no files in"),
            (("--port", "{taken}"), "choose another port with --port"),
            (("--port", "0"), "a number from 1 to 65535"),
        ],
    )
    def test_what_cannot_be_is_said_before_any_work(
        self, options: tuple[str, ...], words: str, tmp_path: Path
    ) -> None:
        """The database is out of reach here, and is not missed."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            places = {"empty": tmp_path, "taken": taken.getsockname()[1]}
            given = [option.format(**places) for option in options]

            ended = demo("postgresql://nobody@/none?host=/nowhere", *given)

        assert ended.returncode == 2
        assert words in ended.stderr

    def test_without_a_database_it_says_how_to_get_one(self) -> None:
        """The first thing a newcomer runs may be the demo itself."""
        ended = demo("")

        assert ended.returncode == 2
        assert "python -m partisan_async.embedded python -m example_site.demo" in ended.stderr

    def test_so_do_the_site_s_commands(self) -> None:
        """Or manage.py, whose last line is then the way out."""
        ended = manage("", "check")

        assert ended.returncode == 1
        assert "python -m partisan_async.embedded" in ended.stderr.splitlines()[-1]


def test_its_own_tests_pass(database: str) -> None:
    """They show readers how to test tasks."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "example_site/manage.py", "test", "example_site"],
        cwd=CHECKOUT,
        env=os.environ
        | {
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "example_site.settings",
            "PYTHONPATH": str(CHECKOUT),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ended.returncode == 0, ended.stderr
    assert "Ran 6 tests" in ended.stderr
