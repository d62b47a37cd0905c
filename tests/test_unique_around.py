"""Calls with a ``UNIQUE`` in what stands around: tests, ticks, Django's own tasks, ``why``."""

import asyncio
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import schedules, signals, steering, store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Schedule, Task, UniqueWindow
from partisan_async.operate import reasons
from partisan_async.policy import Finished
from partisan_async.schedule import Every
from partisan_async.steering.timetable import run_once
from partisan_async.supervisor import pruner
from partisan_async.supervisor.ticker import Ticker
from partisan_async.tasks_backend import options
from partisan_async.testing import (
    assert_enqueued,
    assert_not_enqueued,
    live_supervisor,
    perform,
    run_pending,
)
from partisan_async.unique import Unique, has_windows
from tests import test_timetable
from tests.conftest import wait_until
from tests.test_taking import Begun
from tests.test_ticker import HOURLY, Host, late, only
from tests.test_unique import LATER, call, elsewhere, other, rows, unique, windows
from tests.testapp.partisan_tasks import Nothing, Sync, SyncUntyped
from tests.testapp.tasks import (
    unique_as_written,
    unique_below,
    unique_by_account,
    unique_by_both,
)

__all__ = ["elsewhere", "only", "other", "unique"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)


class TestKit:
    """What a project's tests do with such calls."""

    def test_assertions_find_what_waits_by_parameters(self, unique):
        unique(on_twin="replace", while_running=True)
        Sync("ada", "first").delay()
        Sync("ada", note="second").delay()

        assert assert_enqueued(Sync, account="ada", note="second").pk
        assert_not_enqueued(Sync, note="first")

    def test_run_pending_runs_what_a_run_of_others_enqueued_and_retries(self, unique):
        unique(while_running=True)
        Sync("ada", fails=True).delay()

        ran = run_pending(until=timezone.now() + 2 * LATER, errors="keep")

        assert [type(each.decision).__name__ for each in ran] == ["Retried", "Failed"]
        assert not Sync("ada").delay().is_twin

    @pytest.mark.parametrize("rule", [{}, {"while_running": True}, {"within_seconds": 60}])
    def test_perform_runs_beside_all_twins_and_begins_no_window(self, unique, rule):
        unique(**rule)
        twin = Sync("ada").delay()
        UniqueWindow.objects.all().delete()

        perform(Sync, ["ada"])

        assert rows() == [twin]
        assert windows() == []

    def test_in_a_tests_transaction_it_is_as_outside(self, unique):
        unique(while_running=True, within_seconds=60)
        with transaction.atomic():
            first = Sync("ada").delay()
            assert Sync("ada").delay() == first
            run_pending()
            assert Sync("ada").delay() == first
            transaction.set_rollback(True)
        assert not Sync("ada").delay().is_twin

    def test_from_async_code(self, unique):
        unique(on_twin="sooner", within_seconds=60)

        async def enqueue():
            first = await Sync("ada").adelay(execute_after=timezone.now() + LATER)
            again = await Sync("ada").adelay()
            (many,) = await Sync.abulk_delay([Sync("ada")])
            return first.pk, again, many

        pk, again, many = async_to_sync(enqueue)()
        assert (pk, pk) == (again.pk, many.pk)
        assert (again.is_twin, again.status) == (True, "new")

    def test_no_signal_tells_of_a_call_without_a_row(self, unique):
        told = []

        def hear(sender, task, **kwargs):
            told.append(call(task))

        signals.task_enqueued.connect(hear)
        try:
            for rule in ({"on_twin": "replace"}, {"on_twin": "sooner"}, {"while_running": True}):
                unique(**rule)
                Sync("ada", "first").delay()
                Sync("ada", "second").delay()
                Sync.bulk_delay([Sync("ada", "third"), Sync("bob")])
                Task.objects.all().delete()
        finally:
            signals.task_enqueued.disconnect(hear)

        assert told == [("ada", "first"), ("bob", "")] * 3


class TestReasons:
    @pytest.mark.parametrize("while_running", [False, True])
    def test_why_names_the_twin_and_what_a_task_stands_for(self, unique, while_running):
        unique(while_running=while_running)
        failed = Sync("ada").delay()
        Task.objects.update(status="error", finished_at=timezone.now())
        twin = Sync("ada").delay()
        steering.retry([failed.pk])

        told = " ".join(reasons.why(Task.objects.get(pk=failed.pk)))
        assert f"An identical call waits: {twin.pk}." in told
        told = " ".join(reasons.why(Task.objects.get(pk=twin.pk)))
        assert ("until it has ended" in told) == while_running
        assert "it stands for them" in told

    def test_why_names_the_twin_that_runs(self, unique, other):
        unique(while_running=True)
        twin = Sync("ada").delay()
        other.claim()
        failed = Sync("bob").delay()
        Task.objects.filter(pk=failed.pk).update(status="error", finished_at=timezone.now())
        steering.retry([failed.pk])
        Task.objects.filter(pk=failed.pk).update(arguments={"args": ["ada"], "kwargs": {}})

        told = " ".join(reasons.why(Task.objects.get(pk=failed.pk)))

        assert f"An identical call runs: {twin.pk}." in told

    def test_why_names_it_for_one_that_was_cancelled(self, unique):
        """It gave its key up, and who thinks of a retry wants to know."""
        unique(while_running=True)
        cancelled = Sync("ada").delay()
        steering.cancel([cancelled.pk])
        twin = Sync("ada").delay()

        told = " ".join(reasons.why(Task.objects.get(pk=cancelled.pk)))

        assert f"An identical call waits: {twin.pk}." in told


class TestTicks:
    """A tick is no ``delay()``: where a task like it is, it is ignored, and changes nothing."""

    @pytest.fixture
    def tick(self, only):
        (report,) = only(Report=Every(seconds=3600)).values()
        report.run = lambda self: None
        host = Host()
        host.turn()

        def tick(**rule):
            report.UNIQUE = Unique(**rule)
            late()
            host.ticker = Ticker(host.me, "default", host._connection, ttl=host.ticker._ttl)
            host.turn()
            return report

        return tick

    @pytest.mark.parametrize(
        ("rule", "added"),
        [
            ({}, True),
            ({"by": ()}, True),
            ({"while_running": True}, False),
            ({"by": (), "while_running": True, "on_twin": "replace"}, False),
        ],
    )
    def test_while_a_task_like_it_runs(self, tick, other, rule, added):
        tick(**rule)
        (claim,) = other.claim()

        tick(**rule)

        assert len(rows()) == 1 + added
        other.settle(claim, Finished())
        for task in rows():
            steering.cancel([task.pk])
        tick(**rule)
        assert len(rows()) == 2 + added

    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    @pytest.mark.parametrize("while_running", [False, True])
    def test_while_one_waits(self, tick, on_twin, while_running):
        rule = {"by": (), "while_running": while_running, "on_twin": on_twin}
        report = tick(**rule)
        Task.objects.all().delete()
        waiting = report().delay(execute_after=timezone.now() + LATER)

        tick(**rule)

        (row,) = rows()
        assert (row.pk, row.execute_after) == (waiting.pk, waiting.execute_after)

    def test_one_that_a_call_replaces_is_still_the_ticks(self, tick):
        """And what a call replaces that no tick has enqueued is none."""
        report = tick(by=(), on_twin="replace")
        (ticked,) = rows()

        replaced = report("mine").delay()

        assert (replaced.pk, replaced.is_twin, replaced.args) == (ticked.pk, True, ["mine"])
        assert replaced.tick == ticked.tick is not None
        run_pending()
        report("first").delay()
        assert report("second").delay().arguments == {"args": ["second"], "kwargs": {}}

    def test_it_asks_for_no_window_and_begins_none(self, tick):
        """Else one in each hour, by a window of an hour, would be ignored now and then."""
        report = tick(by=(), within_seconds=3600)
        assert (len(rows()), windows()) == (1, [])
        run_pending()
        called = report().delay()
        run_pending()

        tick(by=(), within_seconds=3600)

        assert len(rows()) == 3
        assert windows() == [called.pk]

    def test_catching_up_each_has_its_task(self, only):
        (report,) = only(Report=Every(seconds=60, catch_up=True)).values()
        report.UNIQUE = Unique(by=(), while_running=True, within_seconds=60)
        host = Host()
        host.turn()
        late(seconds=60 * 5 + 10)

        host.turn()

        assert len(rows()) == 6
        assert {task.unique_key for task in rows()} == {None}


class TestMadeAtRunTime:
    """A tick of such a schedule has the key of any other call of its processor."""

    def tick(self, name="acme", **since):
        test_timetable.late(name, **since)
        test_timetable.Host().turn()

    @pytest.mark.parametrize("rule", [{}, {"on_twin": "sooner"}, {"while_running": True}])
    def test_it_is_a_twin_of_calls_with_other_arguments(self, unique, rule):
        unique(**rule)
        schedules.create("acme", Sync("ada", "of the schedule"), HOURLY)

        self.tick()
        ticked = Sync(account="ada", note="of mine").delay()
        self.tick()

        assert ticked.is_twin
        (row,) = rows()
        assert (row.pk, call(row)) == (ticked.pk, ("ada", "of the schedule"))

    @pytest.mark.parametrize("while_running", [False, True])
    def test_while_one_runs(self, unique, other, while_running):
        unique(while_running=while_running)
        schedules.create("acme", Sync("ada", "of the schedule"), HOURLY)
        Sync("ada").delay()
        other.claim()

        self.tick()

        assert len(rows()) == (1 if while_running else 2)

    def test_what_it_skips_for_runs_by_the_same_key(self, unique, other):
        unique()
        skipping = Every(seconds=3600, skip_while_running=True)
        for account in ("ada", "bob"):
            schedules.create(account, Sync(account, "of the schedule"), skipping)
        Sync("ada", "of mine").delay()
        other.claim()

        self.tick("ada"), self.tick("bob")

        assert [call(row) for row in rows()] == [("ada", "of mine"), ("bob", "of the schedule")]

    def test_it_asks_for_no_window_and_begins_none_and_a_run_once_does(self, unique):
        """By a window of an hour, a tick in each hour would be ignored now and then."""
        unique(within_seconds=3600)
        made = schedules.create("acme", Sync("ada", "of the schedule"), HOURLY)
        self.tick()
        assert (len(rows()), windows()) == (1, [])
        run_pending()

        once = run_once(made)
        run_pending()
        again = run_once(made)
        self.tick()

        assert windows() == [once.pk]
        assert (again.pk, again.is_twin) == (once.pk, True)
        assert len(rows()) == 3

    def test_catching_up_each_has_its_task(self, unique):
        unique(while_running=True, within_seconds=60)
        schedules.create("acme", Sync("ada"), Every(seconds=60, catch_up=True))

        self.tick(seconds=60 * 5 + 10)

        assert [(row.digest, row.unique_key) for row in rows()] == [(None, None)] * 6

    @pytest.mark.parametrize("while_running", [False, True])
    def test_the_success_of_one_that_a_call_replaced_counts(self, unique, while_running):
        """The tick enqueues nothing more: without that, its schedule would be overdue for ever."""
        unique(on_twin="replace", while_running=while_running)
        schedules.create("acme", Sync("ada", "of the schedule"), HOURLY)
        self.tick()
        assert Sync("ada", "of mine").delay().is_twin

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Schedule.objects.get().last_success)

        (row,) = rows()
        assert (call(row), row.arguments["schedule"]) == (("ada", "of mine"), ":acme")

    def test_a_call_that_does_not_pass_what_it_is_by_is_refused(self, unique):
        unique(SyncUntyped)

        with pytest.raises(TypeError, match="and this call does not pass it"):
            schedules.create("acme", SyncUntyped(), HOURLY)

        assert not Schedule.objects.exists()

    def test_one_that_does_so_no_more_is_said_once_and_holds_up_no_other(self, unique, caplog):
        """The code has changed since it was made."""
        schedules.create("odd", SyncUntyped(), HOURLY)
        schedules.create("sound", SyncUntyped(account="sound"), HOURLY)
        unique(SyncUntyped)
        host = test_timetable.Host()
        for _ in range(2):
            test_timetable.late("odd"), test_timetable.late("sound")
            host.turn()

        assert [row.kwargs for row in rows()] == [{"account": "sound"}]
        (line,) = [line for line in caplog.messages if "not ticked here: schedule :odd" in line]
        assert "this call does not pass it" in line


class TestDjangosTasks:
    """By the parameters of the function."""

    def test_however_they_are_passed(self):
        first = unique_by_account.enqueue("ada", "note")

        assert unique_by_account.enqueue(account="ada").id == first.id
        assert unique_by_account.using(priority=5).enqueue("ada").id == first.id
        assert unique_by_account.enqueue("bob").id != first.id

    def test_a_default_that_is_passed_is_the_one_that_is_left_out(self):
        first = unique_by_both.enqueue("ada")

        assert unique_by_both.enqueue("ada", note="").id == first.id
        assert unique_by_both.enqueue("ada", note="n").id != first.id

    def test_below_a_decorator_by_what_is_named(self):
        """It may pass arguments itself: nothing tells which one is for which parameter."""
        first = unique_below.enqueue(account="acme", reason="r1")
        other = unique_below.enqueue(account="acme2", reason="r1")

        assert unique_below.enqueue(account="acme", reason="r2").id == first.id
        assert other.id != first.id
        with pytest.raises(TypeError, match="which argument is its account: pass account=…"):
            unique_below.enqueue("acme", "r1")

    def test_as_they_are_written_where_it_does_not_say_by_what(self):
        """Their time and their backend do not count."""
        first = unique_as_written.enqueue("ada")

        later = unique_as_written.using(run_after=timezone.now() + LATER)
        assert later.enqueue("ada").id == first.id
        assert unique_as_written.enqueue(account="ada").id != first.id

    def test_a_result_is_that_of_the_task_that_stands_for_it(self):
        first = unique_by_account.enqueue("ada")
        Task.objects.all().delete()

        again = unique_by_account.enqueue("ada")

        assert (again.id, again.status.name) == (first.id, "SUCCESSFUL")

    def test_one_that_failed_is_given_other_arguments(self):
        failed = unique_by_both.enqueue("ada")
        Task.objects.update(status="error", finished_at=timezone.now())

        steering.retry([int(failed.id)], arguments={"args": ["bob"], "kwargs": {}})

        assert unique_by_both.enqueue("bob").id == failed.id

    def test_by_what_is_no_parameter_is_refused(self):
        def sync(account): ...

        with pytest.raises(TypeError, match=r"by 'acount', which is no parameter of sync\(acco"):
            options(unique=Unique(by=("acount",)))(sync)
        with pytest.raises(TypeError, match=r"unique=5.*must be Unique"):
            options(unique=5)(sync)

    def test_supervisors_know_of_their_windows(self):
        """No registered processor tells: it is made when a row is to be run."""
        assert has_windows()


class TestPruner:
    def run(self, over, count, keep_seconds=None):
        statements = []

        class Stop(BaseException): ...

        class Statements:
            async def execute(self, statement):
                statements.append(statement.sql)
                return [(1,)] * min(1000, count - 1000 * (len(statements) - 1))

            async def close(self):
                raise Stop

        given = pruner.Pruner("default", keep_seconds, Statements())
        with suppress(Stop):
            asyncio.run(pruner.prune_for_ever(lambda: [given], Statements(), over=lambda: over))
        return statements

    def test_without_windows_there_is_no_statement(self):
        assert self.run(over=[], count=0) == []

    def test_many_are_deleted_a_thousand_at_a_time(self):
        told = self.run(over=[store.WINDOWS], count=2500)

        assert len(told) == 3
        assert all("partisan_async_uniquewindow" in each for each in told)

    def test_those_that_somebody_has_locked_are_left(self, unique, elsewhere):
        unique(within_seconds=60)
        Sync.bulk_delay([Sync("ada"), Sync("bob")])
        UniqueWindow.objects.update(until=timezone.now())
        last = UniqueWindow.objects.order_by("task_id").last()
        with Begun(elsewhere):
            elsewhere.do(lambda: list(UniqueWindow.objects.select_for_update().filter(pk=last.pk)))

            assert fetch(*store.prune_over(store.WINDOWS)) == [(1,)]
        assert windows() == [last.task_id]


class TestPlans:
    """Among many rows, by indexes; and the new index costs who has no such processor nothing."""

    @pytest.fixture
    def crowd(self):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO partisan_async_task (queue_name, processor_class, arguments, status,
                    priority, execute_after, finished_at, digest, unique_key)
                SELECT 'default', 'Sync', '{"args": ["x"], "kwargs": {}}', s.status, 10, now(),
                    s.ended, CASE WHEN n % 2 = 0 THEN sha256(n::text::bytea) END,
                    CASE WHEN n % 2 = 1 THEN sha256(n::text::bytea) END
                FROM generate_series(1, 50000) n,
                    (VALUES ('new', NULL), ('finished', now())) AS s (status, ended)
                """
            )
            cursor.execute(
                "INSERT INTO partisan_async_uniquewindow SELECT sha256(n::text::bytea),"
                " now() + interval '1 h', n FROM generate_series(1, 50000) n"
            )
            cursor.execute("ANALYZE partisan_async_task, partisan_async_uniquewindow")

    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_none_reads_a_table_to_its_end(self, crowd, unique, on_twin, while_running):
        unique(on_twin=on_twin, while_running=while_running, within_seconds=60)
        plans = []

        def explain(execute, sql, params, *rest):
            if "partisan_async_task" in sql or "partisan_async_uniquewindow" in sql:
                with connection.cursor() as cursor:
                    cursor.cursor.execute(f"EXPLAIN {sql}", params)
                    plans.append("\n".join(row[0] for row in cursor.cursor.fetchall()))
            return execute(sql, params, *rest)

        with connection.execute_wrapper(explain):
            for _ in range(2):
                Sync("ada").delay(execute_after=timezone.now() + LATER)
            Task.objects.filter(status="scheduled").update(
                status="finished", finished_at=timezone.now()
            )
            assert Sync("ada").delay().is_twin

        assert len(plans) > 4
        for plan in plans:
            assert "Seq Scan on partisan_async" not in plan, plan

    def test_rows_without_a_key_are_in_no_index_of_it(self):
        with connection.cursor() as cursor:
            size = "SELECT pg_relation_size('partisan_async_one_unended')"
            cursor.execute(size)
            before = cursor.fetchone()
            Nothing.bulk_delay([Nothing(n) for n in range(2000)])
            cursor.execute(size)
            assert cursor.fetchone() == before
