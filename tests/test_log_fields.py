"""Each line of a supervisor says to programs what it is, and whose."""

import json
import logging
import signal

import pytest

from partisan_async import steering
from partisan_async.context import CurrentTask, current_task
from partisan_async.logs import fields
from partisan_async.models import Supervisor
from tests.conftest import ended, marks, wait_until
from tests.process import ROOT, partisan
from tests.testapp.partisan_tasks import Die, Fail, Postpone, Retry, Sleep, Write

SETTINGS = """
import json, logging
from tests.settings import *

WORKERS_COUNT = 1


class Json(logging.Formatter):
    def format(self, record):
        known = {name: getattr(record, name, "missing")
                 for name in ("event", "queue_name", "supervisor_id")}
        return json.dumps(known | {"line": record.getMessage(), "logger": record.name})


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": Json}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
"""


@pytest.mark.django_db(transaction=True)
def test_a_life_of_a_supervisor_has_all_fields_in_each_line(tmp_path):
    """Who looks for a queue's lines is to find all of them."""
    (tmp_path / "json_settings.py").write_text(SETTINGS)
    env = {"DJANGO_SETTINGS_MODULE": "json_settings", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    started = '"event": "started"'
    with partisan("--async", "--health-port", "0", words=started, **env) as supervisor:
        me = str(Supervisor.objects.get().id)
        steering.pause("default")
        wait_until(lambda: '"event": "paused"' in supervisor.output)
        steering.resume("default")
        tasks = [each.delay() for each in (Write(1), Fail("ValueError"), Die("SIGKILL"))]
        tasks += [Retry("one", 1).delay(), Postpone("two", 1, 0).delay()]
        wait_until(lambda: ended(*tasks))
        Sleep(60, "long").delay()
        wait_until(lambda: "start long" in marks())
        supervisor.signal(signal.SIGTERM)
        supervisor.wait_for('"event": "stopping"')
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
        output = supervisor.output

    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    ours = [line for line in lines if line["logger"].startswith("partisan_async")]
    assert {line["event"] for line in ours} >= {
        *("health", "started", "paused", "resumed", "claimed", "done", "failed", "lost"),
        *("retried", "postponed", "stopping", "interrupted", "given back", "stopped"),
    }
    assert [line for line in ours if line["event"] in ("missing", "", None)] == []
    assert [line for line in ours if line["queue_name"] != "default"] == []
    owners = {line["supervisor_id"] for line in ours if line["event"] != "health"}
    assert owners == {me}


@pytest.mark.parametrize(
    ("template", "event"),
    [
        ("deleted %d old rows of queue %r", "deleted old rows of queue"),
        ("listening: queue %r is woken by NOTIFY", "listening"),
        ("%s failed, trying again: %s", "failed, trying again"),
        ("%s Trying again.", "Trying again"),
        ("stopped: queue %r", "stopped"),
        ("%s", "said"),
    ],
)
def test_a_line_that_names_no_event_has_what_it_begins_with(template, event):
    assert fields._event(template) == event


def line(**more):
    record = logging.LogRecord("partisan_async", logging.INFO, "", 0, "done %s", (1,), None)
    vars(record).update(more)
    fields.LineFilter().filter(record)
    return record.event, record.queue_name, record.supervisor_id


class TestWhose:
    @pytest.fixture(autouse=True)
    def _process(self):
        fields.serve_here("the process's", "p")
        yield
        fields.serve_here(None, None)

    def test_the_process_says_where_nothing_else_does(self):
        """A thread has no context."""
        assert line() == ("done", "the process's", "p")

    def test_of_several_the_context_says(self):
        token = fields.serving.set(fields.Serving("one of them", "s"))
        try:
            assert line() == ("done", "one of them", "s")
        finally:
            fields.serving.reset(token)

    def test_in_a_run_it_is_the_tasks_queue(self):
        token = current_task.set(CurrentTask(1, 1, "Write", "the task's", "w"))
        try:
            assert line() == ("done", "the task's", "p")
        finally:
            current_task.reset(token)

    def test_what_a_line_says_itself_stays(self):
        assert line(event="own", queue_name="own") == ("own", "own", "p")
