"""adelay() from a real async view, under a real ASGI server."""

import json
import subprocess
import sys
import time
import urllib.request

import pytest

from partisan_async.models import Task
from partisan_async.testing import live_supervisor
from tests.conftest import ended, marks, wait_until
from tests.process import ends_with_tests, environment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(tmp_path):
    """The URL of uvicorn serving the tests' site on the test's database."""
    log = tmp_path / "uvicorn.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tests.testapp.asgi:application", "--port", "0"],
            stderr=output,
            env=environment(),
            preexec_fn=ends_with_tests(),
        )
    try:
        deadline = time.monotonic() + 20
        while "running on http" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield next(word for word in log.read_text().split() if word.startswith("http://"))
    finally:
        server.kill()
        server.wait()


def test_an_async_view_enqueues_and_the_task_runs(site):
    with live_supervisor():
        with urllib.request.urlopen(f"{site}/enqueue/?text=from+afar") as response:
            (pk,) = json.load(response)
        wait_until(ended)

    assert Task.objects.get().pk == pk
    assert marks() == ["from afar"]


def test_many_at_once_from_one_view(site):
    with urllib.request.urlopen(f"{site}/enqueue/?text=x&times=20") as response:
        pks = json.load(response)

    assert len(set(pks)) == 20
    assert Task.objects.filter(pk__in=pks, status="new").count() == 20
