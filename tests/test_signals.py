"""What an application hears about its tasks, and what its log lines know of them."""

import dataclasses
import logging
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from partisan_async import signals
from partisan_async.context import TaskFilter, current_task
from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.testapp import tasks as django_tasks
from tests.testapp.partisan_tasks import (
    AsyncAdd,
    AsyncFail,
    AsyncSayWhoRuns,
    Die,
    Fail,
    Listen,
    Nothing,
    Postpone,
    Retry,
    SayWhoRuns,
    Write,
    WriteUnique,
)


@pytest.fixture
def heard():
    """What is heard in this process: the signal's name, the sender, and what came with it."""
    news = []

    def listener(name):
        def hear(sender, task, **more):
            more.pop("signal")
            news.append((name, sender, task.pk, more, sys.exc_info()[0]))

        return hear

    listeners = {
        name: listener(name)
        for name in ("enqueued", "started", "finished", "failed", "retried", "postponed", "lost")
    }
    for name, hear in listeners.items():
        getattr(signals, f"task_{name}").connect(hear)
    yield news
    for name, hear in listeners.items():
        getattr(signals, f"task_{name}").disconnect(hear)


def names(heard):
    return [name for name, *_ in heard]


@pytest.mark.django_db
class TestHere:
    def test_one_that_goes_well(self, heard):
        task = Write().delay()
        run_pending()

        assert heard == [
            ("enqueued", Write, task.pk, {}, None),
            ("started", Write, task.pk, {}, None),
            ("finished", Write, task.pk, {"result": None}, None),
        ]

    def test_an_ignored_call_is_not_enqueued(self, heard):
        first, second = WriteUnique().delay(), WriteUnique().delay()

        assert names(heard) == ["enqueued"]
        assert (first.is_twin, second.is_twin) == (False, True)

    def test_bulk(self, heard):
        tasks = WriteUnique.bulk_delay([WriteUnique(1), WriteUnique(2), WriteUnique(1)])

        assert [pk for _, _, pk, _, _ in heard] == [tasks[0].pk, tasks[1].pk]

    @pytest.mark.parametrize("processor", [Fail("ValueError", "bad"), AsyncFail()])
    def test_a_failure_is_told_in_its_context(self, heard, processor):
        processor.delay()
        run_pending(errors="keep")

        *_, (name, sender, _, more, error) = heard
        assert (name, sender) == ("failed", type(processor))
        assert more["failure"].exception_class in ("builtins.ValueError", "builtins.LookupError")
        assert error in (ValueError, LookupError)

    def test_a_retry_is_no_failure(self, heard, monkeypatch):
        later = dataclasses.replace(Retry.RETRY_ON_ERROR_CONFIG, retry_pause=600)
        monkeypatch.setattr(Retry, "RETRY_ON_ERROR_CONFIG", later)
        Retry("one", 1).delay()
        run_pending()

        *_, (name, _, _, more, error) = heard
        assert names(heard) == ["enqueued", "started", "retried"]
        assert (name, more["pause_seconds"], error) == ("retried", 600, TimeoutError)

    def test_a_postpone(self, heard):
        Postpone("one", 1, 7).delay()
        run_pending()

        assert names(heard) == ["enqueued", "started", "postponed"]
        assert heard[-1][3] == {"failure": None, "pause_seconds": 7.0}

    def test_a_receiver_that_raises_changes_nothing(self):
        def receiver(**kwargs):
            raise RuntimeError("receiver")

        signals.task_started.connect(receiver)
        try:
            Write("ran").delay()
            (ran,) = run_pending()
        finally:
            signals.task_started.disconnect(receiver)

        assert ran.task.status == "finished"
        assert marks() == ["ran"]

    def test_the_row_costs_nothing_where_nobody_listens(self, django_assert_num_queries):
        Write().delay()
        with django_assert_num_queries(0):
            Write(1)._tell_start()


@pytest.mark.django_db(transaction=True)
class TestFromARunningSupervisor:
    def test_workers_send_theirs(self, heard):
        with live_supervisor(WORKERS_COUNT=1):
            Listen().delay()
            wait_until(ended)
            Nothing().delay()
            AsyncAdd(1).delay()
            AsyncFail().delay()
            wait_until(ended)

        assert sorted(marks()) == [
            "failed AsyncFail",
            "finished AsyncAdd",
            "finished Listen",
            "finished Nothing",
            "started AsyncAdd",
            "started AsyncFail",
            "started Nothing",
        ]
        assert set(names(heard)) == {"enqueued"}

    def test_the_supervisor_tells_of_a_worker_that_died(self, heard):
        with live_supervisor(WORKERS_COUNT=1):
            task = Die("SIGKILL").delay()
            wait_until(lambda: ended(task))
            wait_until(lambda: "failed" in names(heard))

        assert names(heard) == ["enqueued", "lost", "lost", "lost", "failed"]
        assert "SIGKILL" in heard[-1][3]["failure"].message

    @pytest.mark.parametrize("processor", [SayWhoRuns, AsyncSayWhoRuns])
    def test_a_task_knows_which_it_is(self, processor):
        with live_supervisor(WORKERS_COUNT=1):
            task = processor().delay()
            wait_until(ended)

        task.refresh_from_db()
        assert marks() == [f"{task.pk} {task.claim_seq} {processor.__name__}"]

    def test_log_records_say_what_they_are_about(self, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        with live_supervisor(WORKERS_COUNT=1):
            good, bad = Write().delay(), Fail("ValueError").delay()
            wait_until(ended)

        records = {record.event: record for record in caplog.records if hasattr(record, "event")}
        assert {"started", "claimed", "done", "failed"} <= records.keys()
        done, failed = records["done"], records["failed"]
        assert (done.task_id, done.claim_seq, done.queue_name) == (good.pk, 1, "default")
        assert done.seconds >= 0
        assert (failed.task_id, failed.processor_class) == (bad.pk, "Fail")
        assert records["claimed"].task_ids[-1:] == [bad.pk]


@pytest.mark.django_db
def test_the_filter_marks_records_of_a_task(caplog):
    record = logging.makeLogRecord({"msg": "mine"})
    assert TaskFilter().filter(record)
    assert (record.task_id, record.worker_id) == (None, None)
    task = Write().delay()
    seen = []

    def look(**kwargs):
        record = logging.makeLogRecord({"msg": "mine"})
        TaskFilter().filter(record)
        seen.append((record.task_id, record.processor_class, record.worker_id))

    signals.task_started.connect(look)
    try:
        run_pending()
    finally:
        signals.task_started.disconnect(look)

    assert seen == [(task.pk, "Write", "run_pending")]
    assert current_task.get() is None
    assert Task.objects.get().worker_ids == ["run_pending"]


class TestMoments:
    """What a receiver subtracts must be of one kind: Django's."""

    @pytest.mark.django_db
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_a_task_has_djangos_kind_of_times_wherever_it_comes_from(self, settings, use_tz):
        """Aware in one place and naive in the other, they cannot be compared."""
        with database_times(settings, use_tz):
            rows = []

            def hear(sender, task, **kwargs):
                rows.append(task)

            signals.task_started.connect(hear)
            signals.task_finished.connect(hear)
            try:
                pk = Nothing().delay().pk
                run_pending()
            finally:
                signals.task_started.disconnect(hear)
                signals.task_finished.disconnect(hear)
            stored = Task.objects.get(pk=pk)

            for row in rows:
                assert row.created_at == stored.created_at
                assert row.created_at.tzinfo == stored.created_at.tzinfo
            assert abs(timezone.now() - stored.finished_at) < timedelta(minutes=5)
            stored.arguments["tick"] = "2026-07-01T12:00:00+00:00"
            tokyo = datetime(2026, 7, 1, 21, 0)
            assert stored.tick == (timezone.make_aware(tokyo) if use_tz else tokyo)

    @pytest.mark.django_db
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_so_has_a_django_task(self, settings, use_tz):
        """With takes_context."""
        with database_times(settings, use_tz):
            result = django_tasks.compares_times.enqueue()
            run_pending()
            result.refresh()

            assert result.return_value is True


@contextmanager
def database_times(settings, use_tz):
    settings.TIME_ZONE = "Asia/Tokyo"
    settings.USE_TZ = use_tz
    connection.ensure_timezone()
    try:
        yield
    finally:
        settings.USE_TZ, settings.TIME_ZONE = True, "UTC"
        connection.ensure_timezone()


@pytest.mark.django_db
def test_what_a_receiver_raises_is_logged_with_the_task(caplog):
    """Django tells it to a logger that few read, and not of which task."""

    def broken(**kwargs):
        raise TypeError("on purpose")

    signals.task_finished.connect(broken)
    try:
        task = Nothing().delay()
        run_pending()
    finally:
        signals.task_finished.disconnect(broken)

    (record,) = (each for each in caplog.records if getattr(each, "event", "") == "receiver failed")
    assert record.getMessage().startswith(f"receiver failed {task.pk} Nothing: ")
    assert (record.task_id, record.processor_class) == (task.pk, "Nothing")
    assert record.exc_info[0] is TypeError
