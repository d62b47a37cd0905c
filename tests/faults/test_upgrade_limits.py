"""Releases that know nothing of limits, beside tasks that wait for them, on one database."""

import io
import tarfile
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from partisan_async.models import Supervisor, Task
from tests.before import WITHOUT_LIMITS, git
from tests.faults.test_upgrade import enqueue, row_of, supervisor
from tests.process import ROOT

LIMITED = {"status": "limited", "limit_name": "x", "limit_key": "k", "limit_rank": 10}


@pytest.fixture(scope="module", params=WITHOUT_LIMITS)
def release(request, tmp_path_factory):
    """Return the import path of a release without limits."""
    folder = tmp_path_factory.mktemp("without")
    packed = git("archive", request.param, "partisan_async")
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return f"{folder}:{ROOT}"


def counts():
    statuses = list(Task.objects.values_list("status", flat=True))
    return {each: statuses.count(each) for each in set(statuses)}


def test_it_runs_its_own_and_leaves_alone_what_waits_for_a_limit(site, release):
    waiting = [row_of("Pay", **LIMITED) for _ in range(3)]
    with supervisor(site, release):
        enqueue(site, release, 20)
        site.wait_until(lambda: counts() == {"finished": 20, "limited": 3})

    for task in waiting:
        task.refresh_from_db()
        assert (task.claim_seq, task.limit_name, task.limit_key) == (0, "x", "k")


def test_its_calls_whose_twins_wait_for_a_limit_are_not_lost(site, release):
    """The index tells it of a twin that it does not see: it inserts the call without a digest."""
    enqueue(site, release, 5)
    Task.objects.update(**LIMITED)

    enqueue(site, release, 5)

    assert counts() == {"limited": 5, "new": 5}
    assert not Task.objects.filter(status="new", digest__isnull=False).exists()
    with supervisor(site, release):
        site.wait_until(lambda: counts() == {"finished": 5, "limited": 5})


def test_this_release_knows_such_twins(site):
    enqueue(site, str(ROOT), 5)
    Task.objects.update(**LIMITED)

    enqueue(site, str(ROOT), 5)

    assert counts() == {"limited": 5}


def test_it_takes_over_and_ends_what_was_started_under_a_limit(site, release):
    """Beside it a limit may be overrun; but its slot is free when the task has ended."""
    long_ago = timezone.now() - timedelta(hours=1)
    dead = Supervisor.objects.create(
        id=uuid.uuid4(), hostname="gone", process={"pid": 1}, queue_name="default"
    )
    Supervisor.objects.update(started_at=long_ago, last_seen_at=long_ago)
    enqueue(site, release, 3)
    held = {"status": "in_process", "claimed_by": dead.pk, "claimed_at": long_ago}
    Task.objects.update(**LIMITED | held)

    with supervisor(site, release):
        site.wait_until(lambda: counts() == {"finished": 3})
