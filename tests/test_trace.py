"""Spans, and the way of their context from who enqueues to who runs."""

import json
import re
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from opentelemetry import trace as otel
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from partisan_async import registry
from partisan_async.enqueue import spans as trace
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import run_pending
from partisan_async.text.masked import MASK
from tests.conftest import ended, wait_until
from tests.process import ROOT, environment, partisan
from tests.test_docs import blocks, code, tables
from tests.testapp import tasks as django_tasks
from tests.testapp.partisan_tasks import Card


class Spans:
    """What was recorded in this process."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def take(self):
        """Return the spans that have ended since, in that order."""
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        return spans


@pytest.fixture
def spans(monkeypatch):
    spans = Spans()
    # Not by set_tracer_provider(), which a process can call once.
    monkeypatch.setattr(otel, "_TRACER_PROVIDER", spans.provider)
    monkeypatch.setattr(trace, "_tracer", spans.provider.get_tracer("test"))
    return spans


def context_of(span):
    """Return the traceparent that names a span."""
    own = span.get_span_context()
    return f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{own.trace_flags:02x}"


def process(**args):
    return registry.get("Nothing")(**args)


@pytest.mark.django_db
class TestEnqueue:
    def test_the_call_is_a_producer_span_and_its_context_on_the_row(self, spans):
        """The worker needs to know nothing else."""
        with spans.provider.get_tracer("site").start_as_current_span("request") as request:
            task = process().delay()

        call, _ = spans.take()
        assert (call.name, call.kind) == ("enqueue Nothing", SpanKind.PRODUCER)
        assert call.parent == request.get_span_context()
        assert task.traceparent == Task.objects.get().traceparent == context_of(call)
        assert dict(call.attributes) == {
            "messaging.system": "partisan_async",
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "send",
            "messaging.destination.name": "default",
            "messaging.message.id": str(task.pk),
            "partisan.processor": "Nothing",
        }

    def test_it_is_no_part_of_what_makes_calls_identical(self, spans):
        """Each request has a trace of its own: nothing would be unique any more."""
        unique = registry.get("WriteUnique")

        first, second = unique("x").delay(), unique("x").delay()

        assert (second.pk, second.is_twin) == (first.pk, True)
        assert second.traceparent == context_of(spans.take()[0])
        assert "traceparent" not in json.dumps(first.arguments)

    def test_a_bulk_is_one_span(self, spans):
        """A thousand calls in one statement are one thing that happened."""
        tasks = registry.get("Nothing").bulk_delay([process(n=n) for n in range(1500)])

        (call,) = spans.take()
        assert {task.traceparent for task in tasks} == {context_of(call)}
        assert set(Task.objects.values_list("traceparent", flat=True)) == {context_of(call)}
        assert call.attributes["messaging.batch.message_count"] == 1500

    def test_so_is_one_of_several_processors_without_their_names(self, spans):
        """The queue is told where it is the same for all."""
        calls = [process(), registry.get("Write")(), registry.get("WriteElsewhere")()]
        tasks = BaseTaskProcessor.bulk_delay(calls)
        BaseTaskProcessor.bulk_delay(calls, queue_name="mail")

        first, second = spans.take()
        assert {task.traceparent for task in tasks} == {context_of(first)}
        assert (first.name, second.name) == ("enqueue", "enqueue")
        assert dict(first.attributes) == {
            "messaging.system": "partisan_async",
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": 3,
        }
        assert second.attributes["messaging.destination.name"] == "mail"
        assert Task.objects.filter(traceparent=context_of(second)).count() == 3

    def test_an_error_is_on_the_span(self, spans):
        """The row is not there, and the trace says why."""
        with pytest.raises(DatabaseError), transaction.atomic():
            with connection.cursor() as cursor, suppress(DatabaseError):
                cursor.execute("SELECT 1 / 0")
            process().delay()

        (call,) = spans.take()
        assert call.status.status_code == StatusCode.ERROR

    def test_outside_a_trace_and_without_an_sdk_nothing_is_stored(self):
        """As for most projects: the package may be there by chance."""
        task = process().delay()

        assert task.traceparent is None

    def test_without_an_sdk_a_context_is_passed_on(self):
        """As the API promises: a service between two that trace must not tear the trace."""
        carried = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        token = attach(trace._w3c.extract({"traceparent": carried}))
        try:
            task = process().delay()
        finally:
            detach(token)

        assert task.traceparent == carried

    def test_django_s_tasks_have_it_too(self, spans):
        """They go by the same statement."""
        django_tasks.write.enqueue("x")

        (call,) = spans.take()
        assert Task.objects.get().traceparent == context_of(call)
        assert call.name == "enqueue tests.testapp.tasks.write"


@pytest.mark.django_db
class TestRun:
    def test_a_run_is_a_consumer_span_and_the_call_s_child(self, spans):
        """So the trace reads from the request to the end."""
        task = process().delay()
        run_pending()

        call, run = spans.take()
        assert (run.name, run.kind) == ("run Nothing", SpanKind.CONSUMER)
        assert context_of(call)[:52] == context_of(run)[:36] + format_span_id(run.parent.span_id)
        assert run.status.status_code == StatusCode.UNSET
        assert dict(run.attributes) == {
            "messaging.system": "partisan_async",
            "messaging.operation.name": "run",
            "messaging.operation.type": "process",
            "messaging.destination.name": "default",
            "messaging.message.id": str(task.pk),
            "partisan.processor": "Nothing",
            "partisan.claim_seq": 1,
            "partisan.tries": 0,
        }

    @pytest.mark.parametrize(
        ("name", "error"), [("Fail", "ValueError"), ("AsyncFail", "LookupError")]
    )
    def test_an_error_is_recorded(self, spans, name, error):
        """With its traceback, where one looks for it."""
        registry.get(name)("ValueError", "no").delay()
        run_pending(errors="keep")

        _, run = spans.take()
        (event,) = run.events
        assert run.status.status_code == StatusCode.ERROR
        assert run.attributes["error.type"] == f"builtins.{error}"
        assert event.name == "exception"
        assert f"\n{error}: " in event.attributes["exception.stacktrace"]

    @pytest.mark.parametrize("name", ["Login", "AsyncLogin"])
    def test_an_error_is_recorded_without_what_is_sensitive(self, spans, name):
        """Spans are sent on, and kept by others."""
        secret, card = "correct horse", Card("4242424242424242", 123456)
        registry.get(name)("ann", secret, card=card).delay()
        run_pending(errors="keep")

        _, run = spans.take()
        (event,) = run.events
        told = event.attributes["exception.stacktrace"]
        assert event.attributes["exception.message"] == run.status.description
        assert run.status.description.startswith(f"ann cannot log in with {MASK} and Card(")
        assert told.count(MASK) >= 4
        for each in (secret, "4242424242424242", "123456"):
            assert each not in run.to_json()

    def test_an_error_whose_secrets_cannot_be_told_is_masked_as_a_whole(self, spans):
        task = registry.get("Login")("ann", "correct horse").delay()
        with connection.cursor() as cursor:  # more digits than Python makes a number of
            cursor.execute(
                "UPDATE partisan_async_task SET arguments = %s WHERE id = %s",
                ['{"args": ["ann", "correct horse", 1e5000], "kwargs": {}}', task.pk],
            )
        run_pending(errors="keep")

        _, run = spans.take()
        (event,) = run.events
        assert run.status.description == MASK
        assert run.attributes["error.type"] == "builtins.ValueError"
        assert event.attributes["exception.message"] == MASK
        assert event.attributes["exception.stacktrace"] == MASK

    def test_an_error_that_cannot_be_told_ends_the_task_all_the_same(self, spans):
        """Its __str__ raises, in the SDK too."""
        task = registry.get("RaiseUnprintable")().delay()
        run_pending(errors="keep")

        task.refresh_from_db()
        assert task.status == "error"
        assert spans.take()[-1].status.status_code == StatusCode.ERROR

    def test_retries_are_in_the_same_trace(self, spans):
        """Which of them it was, the attributes say."""
        registry.get("Retry")("x", 2).delay()
        run_pending(until=timezone.now() + timedelta(days=1))

        call, *runs = spans.take()
        assert len(runs) == 3
        assert {run.parent.span_id for run in runs} == {call.get_span_context().span_id}
        assert [run.attributes["partisan.tries"] for run in runs] == [*range(len(runs))]

    def test_to_postpone_is_no_error(self, spans):
        """It is what the task asked for."""
        registry.get("Postpone")("x", 1, 0).delay()
        run_pending()

        run = spans.take()[1]
        assert [event.name for event in run.events] == ["postponed"]
        assert run.status.status_code == StatusCode.UNSET

    def test_to_cancel_oneself_is_no_error(self, spans):
        """Likewise."""
        registry.get("CancelItself")("void").delay()
        run_pending()

        run = spans.take()[1]
        assert [event.name for event in run.events] == ["cancelled"]
        assert run.status.status_code == StatusCode.UNSET

    def test_what_a_task_enqueues_is_in_its_trace(self, spans):
        """A chain of tasks is one trace."""
        registry.get("Enqueue")("x").delay()
        run_pending()

        first, inner, outer, last = spans.take()
        assert inner.name.startswith("enqueue ")
        assert inner.parent.span_id == outer.get_span_context().span_id
        assert last.context.trace_id == first.context.trace_id

    @pytest.mark.parametrize("broken", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_a_row_with_a_broken_context_begins_a_trace(self, spans, broken):
        """It was changed by hand, or by something that knows no better."""
        task = process().delay()
        Task.objects.update(traceparent=broken)
        run_pending()

        task.refresh_from_db()
        assert task.status == "finished"
        assert spans.take()[-1].parent is None


BLOCK_OTEL = """
import importlib.machinery
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, *rest):
    return None if name == "opentelemetry" else real(name, *rest)
importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.mark.django_db(transaction=True)
class TestProcesses:
    def test_without_the_package_nothing_is_there_of_it(self):
        """It is an extra."""
        script = f"""{BLOCK_OTEL}
import django
django.setup()
from partisan_async import registry
from partisan_async.enqueue import spans as trace
from partisan_async.testing import run_pending
registry.autodiscover()
assert trace._tracer is None
assert registry.get("Nothing")().delay().traceparent is None
assert [each.task.status for each in run_pending()] == ["finished"]
trace.flush()
"""
        subprocess.run([sys.executable, "-c", script], check=True, env=environment(), cwd=ROOT)

    def test_forked_workers_send_all_their_spans(self, spans, tmp_path):
        """With the how-to's own code; also the last ones, of workers that come and go."""
        (block,) = (each for each in blocks("docs/howto/trace.md", "python"))
        app = tmp_path / "shop"
        app.mkdir()
        (app / "__init__.py").touch()
        (app / "apps.py").write_text(block.text)
        (tmp_path / "traced_settings.py").write_text(
            "from tests.settings import *\n"
            "INSTALLED_APPS = [*INSTALLED_APPS, 'shop.apps.ShopConfig']\n"
            "TASKS_PER_WORKER_INSTANCE = 4\n"
        )
        env = {
            "PYTHONPATH": f"{ROOT}:{tmp_path}",
            "DJANGO_SETTINGS_MODULE": "traced_settings",
        }
        with partisan("--async", **env) as running:
            tasks = [registry.get("Write")(str(number)).delay() for number in range(24)]
            tasks += [registry.get("AsyncSleep")(0.01, number).delay() for number in range(6)]
            failing = registry.get("AsyncFail")("ValueError", "no").delay()
            wait_until(lambda: ended(*tasks, failing), seconds=60)

            running.signal(signal.SIGTERM)
            assert running.wait() == 0
            running.wait_until_nothing_is_left()
            printed = printed_spans(running.output)

        by_task = {span["attributes"]["messaging.message.id"]: span for span in printed}
        assert len(by_task) == len(printed) == 31
        for task in [*tasks, failing]:
            span = by_task[str(task.pk)]
            _, trace_id, parent, _ = task.traceparent.split("-")
            assert span["context"]["trace_id"] == f"0x{trace_id}"
            assert span["parent_id"] == f"0x{parent}"
            assert span["kind"] == "SpanKind.CONSUMER"
            assert span["resource"]["attributes"]["service.name"] == "shop"
        assert by_task[str(failing.pk)]["status"]["status_code"] == "ERROR"
        assert not any(
            "service.name" in line and "unknown" in line for line in running_lines(printed)
        )


def running_lines(printed):
    return [json.dumps(each) for each in printed]


def printed_spans(output):
    """Return what a ConsoleSpanExporter printed, among other lines."""
    return [json.loads(text) for text in re.findall(r"(?ms)^\{$.*?^\}$", output)]


@pytest.mark.django_db
def test_the_docs_list_each_attribute(spans):
    """Who searches traces goes by them."""
    registry.get("Fail")("ValueError", "no").delay()
    run_pending(errors="keep")
    registry.get("Nothing").bulk_delay([process()])

    listed = {code(name) for name, *_ in tables("docs/howto/trace.md")["attribute"]}
    assert listed == set().union(*(span.attributes for span in spans.take()))
