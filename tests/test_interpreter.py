"""Workers start as this interpreter did; without its options, where Python tells none."""

import subprocess

import pytest

from partisan_async.supervisor.workers import forkserver, interpreter
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import Write

LINE = "started without the options of this interpreter"


@pytest.fixture(autouse=True)
def _another_forkserver():
    forkserver.stop()
    interpreter._warn_of_missing_options.cache_clear()
    yield
    forkserver.stop()
    interpreter._warn_of_missing_options.cache_clear()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("preload", [True, False], ids=["forked", "cold"])
@pytest.mark.parametrize("change", ["gone", "another shape"])
def test_without_the_inside_that_tells_options_workers_start(monkeypatch, caplog, preload, change):
    """It is undocumented: a release of Python may take it away. Said once, for all workers."""
    if change == "gone":
        monkeypatch.delattr(subprocess, "_args_from_interpreter_flags")
    else:
        monkeypatch.setattr(subprocess, "_args_from_interpreter_flags", lambda: [("-W", "error")])

    with live_supervisor(WORKERS_COUNT=2, PRELOAD=preload):
        task = Write("x").delay()
        wait_until(lambda: ended(task))

    task.refresh_from_db()
    assert task.status == "finished"
    (record,) = [each for each in caplog.records if LINE in each.getMessage()]
    assert record.event == "workers"


def test_options_are_those_of_this_interpreter(caplog):
    assert interpreter._options() == subprocess._args_from_interpreter_flags()
    assert LINE not in caplog.text
