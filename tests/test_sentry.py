"""What Sentry gets of tasks, by its own SDK, over HTTP, set up as the page says."""

import gzip
import json
import logging
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from partisan_async.models import Task
from tests.conftest import ended, wait_until
from tests.process import ROOT, partisan
from tests.test_docs import blocks
from tests.testapp.partisan_tasks import Die, Fail, Retry, Tell

pytestmark = pytest.mark.django_db(transaction=True)


class Sentry(ThreadingHTTPServer):
    """A server that takes events as Sentry's does."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = []

    @property
    def dsn(self):
        return f"http://key@127.0.0.1:{self.server_address[1]}/1"

    def of(self, processor):
        return [each for each in self.events if each.get("tags", {}).get("processor") == processor]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = iter(body.split(b"\n")[1:])
        for header in lines:
            if header and json.loads(header).get("type") == "event":
                self.server.events.append(json.loads(next(lines)))
            else:
                next(lines, None)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args):
        pass


@pytest.fixture
def sentry():
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def supervised(tmp_path, sentry):
    """Run tasks by a supervisor of a project that is set up as the page says, to its end."""
    (block,) = blocks("docs/howto/sentry.md", "python")
    (tmp_path / "sentry_settings.py").write_text(f"from tests.settings import *\n{block.text}")
    env = {
        "DJANGO_SETTINGS_MODULE": "sentry_settings",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "SENTRY_DSN": sentry.dsn,
    }

    @contextmanager
    def run(*calls):
        tasks = [call.delay() for call in calls]
        with partisan("--async", **env) as supervisor:
            wait_until(lambda: ended(*tasks))
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait(60) == 0
        yield tasks

    return run


def exception(event):
    return event["exception"]["values"][-1]


def grouped_by(event):
    """What Sentry groups an event by, where it has frames: not the message."""
    own = exception(event)
    frames = own["stacktrace"]["frames"]
    places = [(each["module"], each["function"], each["context_line"]) for each in frames]
    return own["module"], own["type"], places


def test_each_final_failure_is_one_event_grouped_by_its_place(sentry, supervised):
    with supervised(Fail("ValueError", "card 1"), Fail("ValueError", "card 2"), Fail("KeyError")):
        pass

    assert len(sentry.events) == 3
    by_value = {exception(each)["value"]: each for each in sentry.events}
    first, second, other = by_value["card 1"], by_value["card 2"], by_value[""]
    assert grouped_by(first) == grouped_by(second) != grouped_by(other)
    module, kind, places = grouped_by(first)
    assert module in ("builtins", None)
    assert kind == "ValueError"
    assert places[-1] == (
        "tests.testapp.partisan_tasks",
        "run",
        "        raise getattr(builtins, self.args[0])(*self.args[1:])",
    )
    assert "fingerprint" not in first


def test_it_names_the_task(sentry, supervised):
    with supervised(Fail("ValueError")) as (task,):
        pass

    (event,) = sentry.events
    assert event["tags"] == {"task_id": str(task.pk), "processor": "Fail", "queue": "default"}
    assert event["extra"]["exception"] == "builtins.ValueError"


@pytest.mark.parametrize(
    "more", [{}, {"exception": "builtins.ValueError"}, {"processor_class": "Pay"}]
)
def test_the_hook_takes_a_record_that_lacks_something(more):
    """What a hook raises costs the event."""
    (block,) = blocks("docs/howto/sentry.md", "python")
    page = {}
    exec(block.text.partition("sentry_sdk.init(")[0], page)
    record = logging.makeLogRecord({"task_id": 7, "exc_info": None} | more)

    event = page["name_task"]({}, {"log_record": record})

    assert event["tags"]["task_id"] == "7"
    assert event["tags"]["processor"] == more.get("processor_class")
    assert ("fingerprint" in event) == ("exception" in more)


def test_a_try_that_runs_again_is_none(sentry, supervised):
    """It is a breadcrumb of what follows."""
    with supervised(Retry("one", 2)) as (task,):
        pass

    task.refresh_from_db()
    assert (task.status, task.tries) == ("finished", 3)
    assert sentry.events == []


def test_what_nobody_saw_raised_is_grouped_by_processor_and_class(sentry, supervised):
    """It has no frames, and Sentry would group by its text."""
    with supervised(Die("SIGKILL")):
        pass

    (event,) = sentry.of("Die")
    assert event["fingerprint"] == ["Die", "partisan_async.exceptions.WorkerLost"]


def test_what_a_task_sends_itself_comes_before_its_worker_ends(sentry, supervised):
    """The SDK sends in a thread; at the end it waits for that by atexit."""
    code = "import sentry_sdk\nanswer = sentry_sdk.capture_message('from the task')"
    with supervised(*(Tell(f"{code}  # {number}") for number in range(6))) as tasks:
        pass

    sent = [each for each in sentry.events if each.get("message") == "from the task"]
    assert {each["tags"]["task_id"] for each in sent} == {str(task.pk) for task in tasks}
    assert {each["tags"]["processor"] for each in sent} == {"Tell"}
    assert Task.objects.filter(status="finished").count() == 6
