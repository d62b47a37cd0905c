"""What the demo does and says, once the site's code can be imported."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Max, Q, QuerySet

from example_site import drawings, report
from example_site.children import Children
from example_site.gallery import intake
from partisan_async.embedded import OWN_URL
from partisan_async.models import Task
from partisan_async.settings import configured_queues

POLL_SECONDS = 0.1
SAY_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
PATIENCE_SECONDS_PER_FILE = 10.0
NAME = PASSWORD = "demo"


class Tour:
    """One demo.

    :param children: the supervisors and the site, once they are started.
    :param check_stop: raises where the demo is to stop.
    """

    def __init__(self, children: Children, check_stop: Callable[[], None]) -> None:
        self._children = children
        self._check_stop = check_stop
        self._last_before = 0
        self._taken_in: set[int] = set()
        self._said, self._say_from = "", 0.0

    def prepare_database(self) -> None:
        """Migrate, and note which tasks were there before."""
        call_command("migrate", verbosity=0)
        self._last_before = Task.objects.aggregate(last=Max("pk", default=0))["last"]
        say("The database is ready.")

    def start_supervisors(self, *options: str) -> None:
        """Start one for each queue, in one process with these options."""
        command = ("example_site/manage.py", "start_partisan", "--async", "--all_queues")
        self._start("process of the supervisors", *command, *options)
        queues = " and ".join(configured_queues())
        say(f"One process runs the queues {queues}. Logs: {self._children.logs}/*.log")

    def start_site(self, host: str, port: int) -> None:
        """Start the site, and return when it answers."""
        user = _user()
        command = ("-m", "example_site.serve", "--host", host, "--port", str(port))
        self._start("site", *command)
        while not _answers(host, port):
            self._pause(POLL_SECONDS)
        site = f"http://{host}:{port}/"
        say(f"The site is at {site}")
        say(f"Pictures and tasks are at {site}admin/ for {user}.")

    def draw(self, folder: Path) -> list[Path]:
        """Draw a folder of pictures and return its files."""
        say("Drawing pictures, since --pictures names no folder of yours.")
        return drawings.draw_folder(folder / "Drawings")

    def take_in(self, files: Sequence[Path]) -> None:
        """Take a folder's files in: all of them in one transaction."""
        folder = files[0].parent.name
        self._taken_in = {task.pk for task in intake.take_in(self._until_stop(files), folder)}
        say(f"{_count(len(files), 'file')} taken in: {_count(len(self._taken_in), 'task')}.")
        if twice := len(files) - len(self._taken_in):
            say(f"{_count(twice, 'file')} came twice: while a task waits, the same call adds none.")

    def tell_until_stopped(self) -> NoReturn:
        """Say what happens, whenever something does."""
        told: set[int] = set()
        while True:
            tasks = self._tasks()
            expected, unexpected = report.failures(tasks)
            for task in (*expected, *unexpected):
                if task.pk not in told:
                    told.add(task.pk)
                    should = "as it should" if task in expected else "and should not have"
                    say(f"Failed, {should}: {report.described(task)}")
            if self._say_progress() and not report.unended(tasks).exists():
                say("All tasks have ended. Ctrl-C ends the demo.")
            self._pause(SAY_SECONDS)

    def wait_for_end(self) -> int:
        """Wait until all tasks have ended, tell about them, and return the exit code."""
        seconds = PATIENCE_SECONDS + PATIENCE_SECONDS_PER_FILE * len(self._taken_in)
        began = time.monotonic()
        tasks = self._tasks()
        # A picture of which a task failed is never published: there is no end to wait for.
        while report.unended(tasks).exists() and not report.failures(tasks)[1]:
            if time.monotonic() > began + seconds:
                break
            self._say_progress()
            self._pause(POLL_SECONDS)
        say("", report.table(tasks), "")
        return self._verdict(time.monotonic() - began)

    def _say_progress(self) -> bool:
        """Say how many tasks are in which state, if it is time and that is news; tell whether."""
        now = time.monotonic()
        if now < self._say_from:
            return False
        self._say_from = now + SAY_SECONDS
        before, self._said = self._said, report.progress(self._tasks())
        if self._said != before:
            say(f"Tasks: {self._said}.")
        return self._said != before

    def _verdict(self, seconds: float) -> int:
        tasks = self._tasks()
        expected, unexpected = report.failures(tasks)
        if unexpected:
            lines = [report.described(task) for task in unexpected]
            say(f"{_count(len(lines), 'task')} failed and should not have:", report.listed(lines))
            return 1
        if unended := report.progress(report.unended(tasks)):
            say(f"Not all tasks ended in {seconds:.0f} seconds: {unended}.")
            return 1
        say(
            f"All {tasks.count()} tasks ended, within {seconds:.1f} seconds.", report.detours(tasks)
        )
        if expected:
            lines = [report.described(task) for task in expected]
            say(f"Files that are no pictures: {len(lines)}. Their tasks failed, as they should:")
            say(report.listed(lines))
        say("No task failed that should not have.")
        return 0

    def _tasks(self) -> QuerySet[Task]:
        # A task that waited before, left by a demo that was stopped, is ours if we called for it.
        return Task.objects.filter(Q(pk__gt=self._last_before) | Q(pk__in=self._taken_in))

    def _start(self, name: str, *arguments: str) -> None:
        self._check_stop()  # one that starts after Ctrl-C would not have heard it
        self._children.start(name, *arguments)

    def _until_stop(self, files: Sequence[Path]) -> Iterator[Path]:
        for file in files:
            self._check_stop()
            yield file

    def _pause(self, seconds: float) -> None:
        """Wait that long, unless the demo is to stop, or a child ends."""
        deadline = time.monotonic() + seconds
        while True:
            self._check_stop()
            self._children.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))


def say(*lines: str) -> None:
    """Print lines at once, also into a pipe."""
    print(*lines, sep="\n", flush=True)


def _user() -> str:
    """Make a user whose password everybody knows where nobody else comes; say who may sign in."""
    if os.environ["DATABASE_URL"] == os.environ.get(OWN_URL):
        if not User.objects.filter(username=NAME).exists():
            User.objects.create_superuser(NAME, password=PASSWORD)
        return f"user {NAME}, password {PASSWORD}"
    return (
        "a user of yours. In a database that is not the demo's own it makes none: run `python"
        " example_site/manage.py createsuperuser`"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _answers(host: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0
