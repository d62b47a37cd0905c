"""Tasks that know that their supervisor is stopping, and make way for the next one."""

import asyncio
import io
import os
import signal
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from partisan_async import context, steering, store
from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Supervisor, Task
from partisan_async.operate import reasons
from partisan_async.operate.doctor import tasks as looks
from partisan_async.policy import Failed, Failure, GivenBack, Postponed, Retried
from partisan_async.settings import queue_settings
from partisan_async.signals import task_postponed
from partisan_async.supervisor.endings import Endings
from partisan_async.supervisor.report.counts import Counts
from partisan_async.testing import live_supervisor, perform, run_pending, stopping
from partisan_async.worker import stopping as worker
from tests.conftest import ended, marks, wait_until
from tests.process import DEADLINE_SECONDS
from tests.process import partisan as supervisor
from tests.test_dashboard import text_of
from tests.test_store import beat, claim, execute
from tests.testapp import tasks
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncMakeWay,
    AtomicMakeWay,
    MakeWay,
    MakeWayLate,
    Sleep,
    Told,
    WaitByItself,
    Write,
    has_told,
)

BOOM = Failure("builtins.ValueError", "boom")

COUNTS = ("tries", "postpones", "lost", "interrupted", "stops")


def counts(task):
    return {name: getattr(task, name) for name in COUNTS if getattr(task, name)}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "told")


def stop(running, *names, path):
    """Have a supervisor stop once these go on, and wait until it has ended in order."""
    wait_until(lambda: all(has_told(path, f"{name} goes on") for name in names))
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    running.wait_until_nothing_is_left()


@pytest.mark.django_db(transaction=True)
class TestWalk:
    """A real supervisor, SIGTERM, and the next one."""

    @pytest.mark.parametrize("settings", ["long_grace", "cold"])
    @pytest.mark.parametrize("processor", [MakeWay, AtomicMakeWay, AsyncMakeWay, WaitByItself])
    def test_it_makes_way_and_goes_on_with_the_next_one(self, path, processor, settings):
        """Its grace is ten minutes: without being told, the supervisor would take as long."""
        env = {"DJANGO_SETTINGS_MODULE": f"tests.settings_{settings}"}
        task = processor(path, "it").delay()
        with supervisor("--async", "--workers_count", "1", **env) as running:
            stop(running, "it", path=path)
            assert "given back" not in running.output
        task.refresh_from_db()
        assert (task.status, counts(task)) == ("new", {})
        # On a busy machine a claim may be given back, and made anew, before the run begins.
        assert (claims := task.claim_seq) >= 1
        assert [each.get("message") for each in task.errors] in (["checkpoint"], [""], [])

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, counts(task)) == ("finished", {"tries": 1})
        assert task.claim_seq > claims
        assert len(task.worker_ids) == 2
        if processor is AtomicMakeWay:
            assert marks() == ["second"]

    def test_several_on_one_loop_all_hear_of_it(self, path):
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
        AsyncMakeWay.bulk_delay([AsyncMakeWay(path, f"{n}") for n in range(5)])
        with supervisor("--async", "--workers_count", "1", **env) as running:
            stop(running, *map(str, range(5)), path=path)

        assert [counts(task) for task in Task.objects.filter(status="new")] == [{}] * 5

    @pytest.mark.parametrize("function", [tasks.make_way, tasks.amake_way])
    def test_a_function_of_djangos_asks_the_context(self, path, function):
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
        result = function.enqueue(path)
        with supervisor("--async", "--workers_count", "1", **env) as running:
            stop(running, "function", path=path)
        task = Task.objects.get()
        assert (task.status, counts(task)) == ("new", {})

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        result.refresh()
        assert result.return_value == "second"

    def test_a_drain_waits_and_a_stop_ends_that_wait(self, path):
        """Whoever drains wants that what runs ends by itself; the grace begins with the stop."""
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
        task = MakeWay(path, "it").delay()
        with supervisor("--async", "--workers_count", "1", **env) as running:
            wait_until(lambda: has_told(path, "it goes on"))
            steering.drain(Supervisor.objects.get().pk)
            running.wait_for("stopping: waiting for")
            # It would have heard by the time that the supervisor has written its next beat.
            seen = Supervisor.objects.get().last_seen_at
            wait_until(lambda: Supervisor.objects.get().last_seen_at > seen)
            assert not has_told(path, "it makes way")

            stop(running, "it", path=path)

        task.refresh_from_db()
        assert (task.status, counts(task)) == ("new", {})

    def test_a_pause_that_it_asks_for_counts_as_ever(self, path):
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
        task = MakeWayLate(path, "it").delay()
        with supervisor("--async", "--workers_count", "1", **env) as running:
            stop(running, "it", path=path)

        task.refresh_from_db()
        assert (task.status, counts(task)) == ("scheduled", {"postpones": 1})

    def test_a_worker_that_is_replaced_meanwhile_gets_no_task(self):
        env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
        with supervisor("--async", "--workers_count", "2", **env) as running:
            long = Sleep(600, "long").delay()
            wait_until(lambda: marks() == ["start long"])
            running.signal(signal.SIGTERM)
            running.wait_for("stopping: waiting for")
            before = {worker.pid for worker in running.workers()}
            for pid in before - {Mark.objects.get().pid}:
                os.kill(pid, signal.SIGKILL)
            later = Write().delay()
            wait_until(lambda: {worker.pid for worker in running.workers()} - before)
            running.signal(signal.SIGTERM)
            assert running.wait() == 0

        later.refresh_from_db()
        long.refresh_from_db()
        assert (later.status, later.claim_seq) == ("new", 0)
        assert counts(long) == {"stops": 1}

    def test_one_that_does_not_look_is_cut_off_and_that_is_told(self, admin_client):
        task = Sleep(600, "long").delay()
        for times in (1, 2):
            with supervisor(DJANGO_SETTINGS_MODULE="tests.settings_short_grace") as running:
                wait_until(lambda times=times: marks() == ["start long"] * times)
                running.signal(signal.SIGTERM)
                assert running.wait() == 0
                assert f"not done in time, given back: {task.pk} Sleep" in running.output
            task.refresh_from_db()
            assert (task.status, counts(task)) == ("new", {"stops": times})
            assert timezone.now() - task.stopped_at < timedelta(minutes=1)

        assert "A stop of its supervisor has cut it off 2 times in a row" in said_of(task)
        page = text_of(admin_client.get(page_of(task)))
        assert "cut it off 2 times in a row" in page
        assert "how often in a row a stop had cut it off then" in page

        Task.objects.update(arguments={"args": [0, "short"], "kwargs": {}})
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)
        task.refresh_from_db()
        assert (task.status, task.stops_in_a_row, task.stops) == ("finished", 0, 2)


def page_of(task):
    return reverse("admin:partisan_async_task_change", args=[task.pk])


def said_of(task):
    out = io.StringIO()
    call_command("partisan", "why", str(task.pk), stdout=out)
    return out.getvalue()


@pytest.fixture
def me(db):
    me = uuid.uuid4()
    beat(me)
    return me


def settle(me, decision, *, seconds=1.0, **more):
    """Claim the one task, and settle it."""
    (claimed,) = claim(me)
    attempt = None if seconds is None else Attempt(seconds, "host/7")
    execute(store.settle(me, [Settlement(claimed, decision, attempt, **more)]))
    Task.objects.update(status="new", execute_after=timezone.now(), finished_at=None)
    return Task.objects.get()


class TestTheRow:
    """A test's transaction would stop the clock of the rows, but not of statements."""

    def test_it_counts_stops_in_a_row(self, me):
        Write().delay()

        assert [settle(me, GivenBack(cut_off=True)).stops_in_a_row for _ in range(3)] == [1, 2, 3]

    def test_what_keeps_a_run_from_beginning_is_no_end_of_the_row(self, me):
        Write().delay()
        settle(me, GivenBack(cut_off=True))

        task = settle(me, GivenBack(), seconds=None)

        assert task.stops_in_a_row == 1
        assert settle(me, GivenBack(cut_off=True)).stops_in_a_row == 2

    @pytest.mark.parametrize(
        "decision",
        [Retried(timedelta(0), BOOM), Postponed(timedelta(0)), GivenBack(), Failed(BOOM)],
    )
    def test_a_run_that_ends_otherwise_ends_it(self, me, decision):
        """Whatever release writes it: none has to know of these columns."""
        Write().delay()
        settle(me, GivenBack(cut_off=True))
        before = settle(me, GivenBack(cut_off=True))

        after = settle(me, decision, seconds=0.0)

        assert (after.stops_in_a_row, after.stops) == (0, 2)
        assert after.stopped_at == before.stopped_at
        assert settle(me, GivenBack(cut_off=True), seconds=0.0).stops_in_a_row == 1

    def test_others_of_its_batch_are_written_as_ever(self, me):
        cut, retried, failed = (Write(n).delay() for n in range(3))
        claims = claim(me, 3)
        decisions = GivenBack(cut_off=True), Retried(timedelta(0), BOOM, timed=True), Failed(BOOM)
        call = Told._call_on_error()

        execute(
            store.settle(
                me,
                [
                    Settlement(claimed, decision, Attempt(1.0, "host/7"), on_error=call)
                    for claimed, decision in zip(claims, decisions, strict=True)
                ],
            )
        )

        for task in (cut, retried, failed):
            task.refresh_from_db()
        assert [task.status for task in (cut, retried, failed)] == ["new", "new", "error"]
        assert [counts(task) for task in (cut, retried, failed)] == [
            {"stops": 1},
            {"tries": 1},
            {"tries": 1},
        ]
        assert retried.first_tried_at
        assert Task.objects.get(processor_class="Told").args == [failed.pk]

    @pytest.mark.parametrize(
        ("stops", "stopped_at", "after"),
        [(2**31 - 1, timezone.now(), 2**31 - 1), (-7, timezone.now(), 1), (7, None, 1)],
    )
    def test_odd_values_end_no_batch(self, me, stops, stopped_at, after):
        Write().delay()
        Task.objects.update(stops=stops, stopped_at=stopped_at, last_attempted_at=stopped_at)

        assert settle(me, GivenBack(cut_off=True)).stops == after

    def test_other_outcomes_are_written_by_a_statement_that_knows_nothing_of_it(self, me):
        """What a project does not use costs it nothing."""
        Write().delay()
        (claimed,) = claim(me)

        def written(decision):
            return store.settle(me, [Settlement(claimed, decision, Attempt(1.0, "host/7"))]).sql

        assert "stops" in written(GivenBack(cut_off=True))
        for decision in (GivenBack(), Postponed(timedelta(0), counted=False)):
            assert "stop" not in written(decision)
            assert "cut_off" not in written(decision)

    def test_a_reason_to_make_way_replaces_the_last_one(self, me):
        """Else some deploys would push the errors off the row."""
        Write().delay()
        settle(me, Retried(timedelta(0), BOOM))
        for reason in ("first", "second"):
            why = Failure("partisan_async.exceptions.PostponeTask", reason)
            task = settle(me, Postponed(timedelta(0), why, counted=False))

        assert [error["message"] for error in task.errors] == ["boom", "second"]
        assert task.postpones == 0

    def test_an_operators_retry_forgets_it(self, me):
        task = Write().delay()
        settle(me, GivenBack(cut_off=True))
        steering.cancel([task.pk])

        steering.retry([task.pk])

        task.refresh_from_db()
        assert (task.stops, task.stopped_at, task.stops_in_a_row) == (None, None, 0)


def test_a_task_that_had_not_started_is_not_cut_off(me):
    """It is given back late, where its worker was killed for another one."""
    added = []
    endings = Endings(
        queue_settings("default"), SimpleNamespace(add=added.append), Counts(with_spreads=False)
    )
    Write.bulk_delay([Write(n) for n in range(2)])
    unstarted, started = claim(me, 2)
    endings.give_back([started], Attempt(1.0, "host/7"))
    endings.cuts_off = True

    endings.give_back([unstarted])
    endings.give_back([started], Attempt(1.0, "host/7"))

    assert [each.decision.cut_off for each in added] == [False, False, True]


@pytest.mark.django_db
class TestTold:
    def cut_off(self, times, **more):
        task = Write().delay()
        now = timezone.now()
        columns = {"stops": times, "stopped_at": now, "last_attempted_at": now}
        Task.objects.update(**columns | more)
        task.refresh_from_db()
        return task

    def test_doctor_warns_from_the_tenth_on(self):
        def found():
            return [said for well, said in looks.interrupted_tasks() if not well]

        task = self.cut_off(9)
        assert not found()
        Task.objects.update(stops=10)

        (said,) = found()

        assert (
            f"10 times in a row or more: {task.pk} Write. Let run() look at self.stopping" in said
        )
        assert "raise SHUTDOWN_GRACE_SECONDS" in said
        assert f"manage.py partisan why {task.pk}" in said
        Task.objects.update(last_attempted_at=timezone.now() + timedelta(seconds=1))
        assert not found()

    def test_why_says_nothing_of_a_row_that_is_over(self):
        task = self.cut_off(3, stopped_at=timezone.now() - timedelta(hours=1))

        assert "A stop of its supervisor" not in " ".join(reasons.why(task))

    def test_whoever_may_see_the_task_sees_it_in_the_admin(self, client):
        client.force_login(User.objects.create_superuser("ada"))

        page = text_of(client.get(page_of(self.cut_off(3))))

        assert "cut it off 3 times in a row" in page


class TestContext:
    def test_nothing_stops_outside_a_worker(self):
        assert not context.stopping()
        assert not MakeWay("path", "it").stopping

    def test_who_waits_in_whatever_loop_is_woken(self):
        """And one whose loop is closed, or that was cancelled, keeps nobody from it."""
        woken = []

        async def wait():
            waiting = [asyncio.ensure_future(context.until_stopping()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            assert len(context._waiting) == 2 + len(closed)
            await asyncio.to_thread(worker.tell)
            await asyncio.gather(*waiting[1:])
            woken.extend(waiting[1:])

        loop = asyncio.new_event_loop()
        closed = [loop.create_future()]
        loop.close()
        context._waiting.update(closed)
        try:
            asyncio.run(wait())
            asyncio.run(asyncio.wait_for(context.until_stopping(), DEADLINE_SECONDS))  # at once
        finally:
            worker.tell(False)
            context._waiting.difference_update(closed)

        assert len(woken) == 2
        assert context._waiting == set()

    def test_a_processor_may_have_an_attribute_of_that_name(self):
        """One of before need not be changed to run."""
        task = MakeWay("path", "it")
        task.stopping = "mine"

        assert task.stopping == "mine"
        assert MakeWay("path", "it").stopping is False


@pytest.mark.django_db
class TestKit:
    def test_in_a_test_nothing_stops_unless_it_says_so(self, path):
        with stopping():
            ran = perform(MakeWay, [path, "it"])

        assert ran.decision == Postponed(timedelta(0), ran.decision.failure, counted=False)
        assert has_told(path, "it goes on and stops")
        assert not MakeWay(path, "it").stopping
        assert perform(MakeWay, [path, "it"]).task.status == "finished"

    @pytest.mark.parametrize("processor", [MakeWay, AtomicMakeWay, AsyncMakeWay])
    def test_one_that_makes_way_is_left_to_the_next_run_pending(self, path, processor):
        task = processor(path, "it").delay()
        heard = []
        task_postponed.connect(receiver := lambda task, **_: heard.append(task.pk))
        with stopping():
            ran = run_pending()
        task_postponed.disconnect(receiver)
        task.refresh_from_db()
        assert (len(ran), task.status, counts(task)) == (1, "new", {})
        assert heard == [task.pk]

        run_pending()

        task.refresh_from_db()
        assert (task.status, counts(task)) == ("finished", {"tries": 1})

    def test_what_does_not_stop_waits_for_it(self, path, settings):
        """An ``async def run()`` that waits for it alone is ended by its time limit, say."""

        async def run():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(AsyncMakeWay(path, "it").until_stopping(), 0.01)

        asyncio.run(run())

    def test_it_costs_no_statement(self, path):
        Write().delay()
        with CaptureQueriesContext(connection) as before:
            run_pending()
        Write().delay()
        with stopping(), CaptureQueriesContext(connection) as after:
            run_pending()

        assert len(before) == len(after)
