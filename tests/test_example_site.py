"""The example site: the demo as a process, its tables, its ends, and its site over HTTP."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from PIL import Image

from example_site import children
from tests.demo import (
    CHECKOUT,
    DEADLINE_SECONDS,
    Site,
    command,
    environment,
    new_database,
    query,
    running_site,
    wait_until,
)

DEMO_SECONDS = 280
"""Far more than a whole demo takes, on a machine that is busy with other things."""

pytestmark = pytest.mark.timeout(DEMO_SECONDS + 20)


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty database, for one test alone."""
    with new_database() as url:
        yield url


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a picture in it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.linear_gradient("L").resize((300, 200)).save(folder / "gradient.jpg")
    return folder


@pytest.fixture
def site(database: str, tmp_path: Path, pictures: Path) -> Iterator[Site]:
    """A demo whose first tasks have all ended."""
    with running_site(database, tmp_path, pictures) as site:
        yield site


def demo(database: str, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        cwd=CHECKOUT,
        env=environment(database),
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
    )


def manage(database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "example_site/manage.py", *arguments],
        cwd=CHECKOUT,
        env=environment(database),
        capture_output=True,
        text=True,
    )


def get(site: Site, path: str) -> Any:
    with urllib.request.urlopen(site.url + path) as response:
        return response.read()


def post(site: Site, name: str, content: bytes) -> tuple[int, Any]:
    """Send a file, with the token that the page's form has."""
    with urllib.request.urlopen(site.url) as response:
        cookie = response.headers["Set-Cookie"].partition(";")[0]
    head = f'--cut\r\nContent-Disposition: form-data; name="pictures"; filename="{name}"\r\n\r\n'
    request = urllib.request.Request(
        f"{site.url}/uploads/",
        data=head.encode() + content + b"\r\n--cut--\r\n",
        headers={
            "Accept": "application/json",
            "Content-Type": "multipart/form-data; boundary=cut",
            "Cookie": cookie,
            "X-CSRFToken": cookie.partition("=")[2],
        },
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
        assert ended.stdout.count("\nTasks: ") >= 2, "it is not silent while they run"
        assert lines[-1] == children.STOPPING
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
        """``adelay()`` over real ASGI: the answer does not wait for the task."""
        file = io.BytesIO()
        Image.new("RGB", (30, 20), "#ff8800").save(file, "PNG")

        status, answer = post(site, "orange.png", file.getvalue())

        assert status == 202
        picture = (
            "SELECT name, announced_at IS NOT NULL FROM gallery_picture"
            " JOIN gallery_upload_pictures link ON link.picture_id = gallery_picture.id"
            f" WHERE upload_id = {answer['upload']}"
        )
        wait_until(lambda: query(database, picture) == [("orange.png", True)])
        assert b"orange.png" in get(site, "/")

    def test_in_a_database_of_yours_it_makes_no_user(self, site: Site, database: str) -> None:
        """One whose password is in a public repository would stay there, with all rights."""
        assert query(database, "SELECT count(*) FROM auth_user") == [(0,)]
        assert "run `python example_site/manage.py createsuperuser`" in site.printed
        assert "password demo" not in site.printed

    def test_in_one_of_its_own_it_does_and_says_so(self, tmp_path: Path, pictures: Path) -> None:
        """What the README's one command runs, and it is gone with the demo."""
        launcher = [sys.executable, "-m", "partisan_async.embedded"]
        with running_site("", tmp_path, pictures, launcher) as site:
            assert "/admin/ for user demo, password demo." in site.printed
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            page = opener.open(f"{site.url}/admin/login/?next=/admin/").read().decode()
            (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
            form = {"csrfmiddlewaretoken": token, "username": "demo", "password": "demo"}
            answer = opener.open(f"{site.url}/admin/login/?next=/admin/", urlencode(form).encode())
            assert b"Site administration" in answer.read()

    def test_the_admin_has_its_style_sheet(self, site: Site) -> None:
        """Without the static files the admin is there, and looks broken."""
        assert b"Django administration" in get(site, "/admin/login/")
        assert b"--primary" in get(site, "/static/admin/css/base.css")

    def test_ctrl_c_leaves_no_process(self, site: Site) -> None:
        """Ctrl-C comes to the whole group; the demo waits for its children and is silent."""
        names = {name for process in site.group() for name in process.cmdline()}
        assert {"start_partisan", "example_site.serve"} <= names

        os.killpg(site.process.pid, signal.SIGINT)

        assert site.process.wait(DEADLINE_SECONDS) == 0
        assert site.printed.endswith(f"{children.STOPPING}\n")
        wait_until(lambda: not site.group())

    def test_whoever_edits_its_tasks_sees_it(
        self, database: str, tmp_path: Path, pictures: Path
    ) -> None:
        """In a copy: others run this code, too."""
        copy = tmp_path / "checkout"
        unused = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "example_site", copy / "example_site", ignore=unused)
        tasks = copy / "example_site/gallery/partisan_tasks.py"
        widths = "SELECT width FROM gallery_rendition WHERE kind = 'thumbnail' ORDER BY id"
        with running_site(database, tmp_path, pictures, checkout=copy) as site:
            assert query(database, widths) == [(160,)]

            code = tasks.read_text()
            tasks.write_text(code.replace("Kind.THUMBNAIL: 160", "Kind.THUMBNAIL: 80"))

            numbers = itertools.count(2)

            def is_seen() -> bool:
                file, number = io.BytesIO(), next(numbers)
                Image.new("RGB", (300, 200), f"#{number:06x}").save(file, "PNG")
                post(site, f"{number}.png", file.getvalue())
                wait_until(lambda: len(query(database, widths)) == number)
                return query(database, widths)[-1] == (80,)

            wait_until(is_seen)

    def test_ctrl_c_ends_what_an_open_page_is_told(self, site: Site) -> None:
        """A server waits for its answers to end, and this one never would; nor is it cut off."""
        with urllib.request.urlopen(f"{site.url}/events/") as page:
            assert page.readline() == b"event: part\n"

            os.killpg(site.process.pid, signal.SIGINT)

            page.read()  # raises IncompleteRead where it is cut off
        assert site.process.wait(DEADLINE_SECONDS) == 0

    def test_a_supervisor_that_dies_ends_it_by_name(self, site: Site) -> None:
        """Never half a demo, in which tasks wait and nobody says why."""
        supervisors = [
            process
            for process in psutil.Process(site.process.pid).children()
            if "start_partisan" in process.cmdline()
        ]

        supervisors[0].kill()

        assert site.process.wait(DEADLINE_SECONDS) == 1
        died = "The process of the supervisors ended unexpectedly, by signal 9."
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

    @pytest.mark.parametrize("url", ["localhost/gallery", "mysql://localhost/gallery"])
    def test_a_malformed_database_url_is_said_in_a_sentence(self, url: str) -> None:
        """Without a traceback, and without a part of it, which may be a password."""
        ended = demo(url)

        assert ended.returncode == 2
        assert "DATABASE_URL must be a libpq connection string" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert "gallery'" not in ended.stderr

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
        timeout=DEMO_SECONDS,
    )

    assert ended.returncode == 0, ended.stderr
    assert "Ran 27 tests" in ended.stderr
