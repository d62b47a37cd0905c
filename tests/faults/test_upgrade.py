"""This release and the one before it, side by side on one database."""

import io
import subprocess
import sys
import tarfile
import uuid
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from partisan_async import registry, schedules, steering
from partisan_async.models import Schedule, Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from tests.before import BEFORE, git
from tests.process import ROOT, Partisan, environment


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Return the import path of each release."""
    before = tmp_path_factory.mktemp("before")
    packed = git("archive", BEFORE, "partisan_async")
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(before, filter="data")
    return {"before": f"{before}:{ROOT}", "now": str(ROOT)}


@contextmanager
def supervisor(site, path, *options):
    options = ("--async", "--workers_count", "1", *options)
    partisan = Partisan(*options, cwd=site.logs, **settings_of(site, path))
    try:
        partisan.wait_for("started: queue")
        yield partisan
        partisan.process.terminate()
        assert partisan.wait(90) == 0, partisan.output
    finally:
        partisan.end()


def settings_of(site, path):
    module = "tests.releases.settings"
    return {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": module, "DATABASE_URL": site.url}


def enqueue(site, path, count):
    command = [sys.executable, "-m", "tests.releases.enqueue", str(count)]
    env = environment(**settings_of(site, path))
    subprocess.run(command, cwd=site.logs, env=env, check=True)


def results(site):
    """Return what each task returned, when all have ended."""
    site.wait_until(lambda: not Task.objects.exclude(status__in=("finished", "error")).exists())
    return [task.result for task in Task.objects.order_by("pk")]


def expected(by, count):
    at = "2026-11-28T07:30:00+02:00"
    return [
        [by, str(uuid.UUID(int=n)), {"amount": n / 4, "at": at, "note": "é"}] for n in range(count)
    ]


@pytest.mark.parametrize(("writer", "runner"), [("before", "now"), ("now", "before")])
def test_each_runs_the_rows_of_the_other(site, releases, writer, runner):
    enqueue(site, releases[writer], 20)

    with supervisor(site, releases[runner]):
        assert results(site) == expected(runner, 20)


def test_both_run_rows_of_both_at_once(site, releases):
    """A twin is a twin whoever writes it: the stored bytes are the same."""
    with supervisor(site, releases["before"]), supervisor(site, releases["now"]):
        for _ in range(5):
            for release in releases.values():
                enqueue(site, release, 40)
        found = results(site)

    values = [call for _, *call in expected("", 40)]
    assert all(each[1:] in values for each in found)
    assert len(found) >= 40


def row_of(processor, **more):
    """Return the row of a call that is due, without arguments."""
    call = {"args": [], "kwargs": {}}
    due = {"queue_name": "default", "priority": 10, "execute_after": timezone.now()}
    return Task.objects.create(processor_class=processor, arguments=call, **due, **more)


def test_twins_are_known_across_releases(site, releases):
    for release in [*releases.values()] * 2:
        enqueue(site, release, 20)

    assert Task.objects.count() == 20


def test_a_task_is_given_up_by_the_release_that_knows_how_to(site, releases):
    """What the one before has tried does not count, for it did not keep since when."""
    task = row_of("Try")
    with supervisor(site, releases["before"]):
        site.wait_until(lambda: Task.objects.get(pk=task.pk).tries >= 3)
    task.refresh_from_db()
    assert task.first_tried_at is None
    tried = task.tries

    with supervisor(site, releases["now"]):
        site.wait_until(lambda: Task.objects.get(pk=task.pk).status == "error")

    task.refresh_from_db()
    assert task.errors[-1]["rule"] == "RETRY_ON_ERROR_CONFIG: give_up_after_seconds=2"
    assert task.tries > tried + 2
    assert task.first_tried_at > task.started_at
    assert task.last_attempted_at - task.first_tried_at < timedelta(seconds=2.5)


def test_an_operator_of_the_release_before_retries_what_is_unique_while_it_runs(site, releases):
    """That release knows nothing of the key; a task that failed has given it up."""

    failed = row_of("Pay", unique_key=b"k" * 32)
    steering.cancel([failed.pk])
    row_of("Pay", unique_key=b"k" * 32)

    command = [sys.executable, "-m", "django", "partisan", "retry", str(failed.pk), "--yes"]
    env = environment(**settings_of(site, releases["before"]))
    done = subprocess.run(command, cwd=site.logs, env=env, text=True, capture_output=True)

    assert done.returncode == 0, done.stderr
    assert Task.objects.get(pk=failed.pk).status == "new"


def test_the_release_before_keeps_subjects_and_brings_back_nothing_that_is_erased(site, releases):
    """It knows of no subject; a row that is gone while it runs is a claim that it has lost."""
    enqueue(site, releases["now"], 20)
    Task.objects.update(subject="customer:ada")
    tried = row_of("Try", subject="customer:bob")
    with supervisor(site, releases["before"]):
        site.wait_until(lambda: Task.objects.get(pk=tried.pk).tries >= 3)
        assert steering.erase("customer:bob").tasks == 1
        site.wait_until(lambda: Task.objects.filter(status="finished").count() == 20)
        enqueue(site, releases["before"], 20)
        site.wait_until(lambda: Task.objects.filter(status="finished").count() == 40)

    assert not Task.objects.exclude(processor_class="Pay").exists()
    assert Task.objects.filter(subject="customer:ada").count() == 20
    assert Task.objects.filter(subject=None).count() == 20


class Ring(BaseTaskProcessor):
    """What the releases have, as a web process of this one enqueues it."""

    QUEUE_NAME = "rings"

    def run(self):
        pass


RINGS = ("--queue_name", "rings")

KEYS = {None: "Ring", "Ring:eu": "Ring:eu", ":acme": ":acme"}
"""What a task says of its schedule, and that one's key."""


def rung(site):
    """Return the ticks of each schedule."""
    found = {key: [] for key in KEYS.values()}
    for task in Task.objects.order_by("execute_after", "id"):
        found[KEYS[task.arguments.get("schedule")]].append(task.tick)
    return found


def test_the_release_before_leaves_the_schedules_alone_that_it_does_not_know(
    site, releases, monkeypatch
):
    """It ticks its own, runs the tasks of all, and what the others are stays what it was."""
    monkeypatch.setitem(registry._processors, "Ring", Ring)
    schedules.create("acme", Ring(region="acme"), Every(seconds=0.5, catch_up=True))
    with supervisor(site, releases["now"], *RINGS) as now:
        site.wait_until(lambda: min(map(len, rung(site).values())) > 3)
        with supervisor(site, releases["before"], *RINGS):
            before = Task.objects.count()
            site.wait_until(lambda: Task.objects.count() > before + 20)
            now.process.terminate()
            assert now.wait(90) == 0, now.output
            rows = Schedule.objects.exclude(pk="Ring").order_by("pk").values()
            left = list(rows)
            before = len(rung(site)["Ring"])
            site.wait_until(lambda: len(rung(site)["Ring"]) > before + 8)

            assert list(rows) == left
            assert [each["processor_class"] for each in left] == [":acme", "Ring:eu"]
    with supervisor(site, releases["now"], *RINGS):
        before = Task.objects.count()
        site.wait_until(lambda: Task.objects.count() > before + 20)

    for key, ticks in rung(site).items():
        assert {after - before for before, after in pairwise(ticks)} == {timedelta(seconds=0.5)}, (
            key
        )
