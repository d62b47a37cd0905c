"""What ``run()`` returned, and waiting for it."""

import asyncio
import json
import threading
import time

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.utils import timezone

from partisan_async import store
from partisan_async.ends.listening import _listeners
from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import (
    Add,
    AsyncAdd,
    FailWithResult,
    Nothing,
    ReturnObject,
    Sleep,
    Write,
)


class NoReplica:
    """Nobody is to read tasks from anywhere else than where they are written."""

    def db_for_read(self, model, **hints):
        raise AssertionError(f"{model.__name__} is read from a replica")


def listening():
    """How many connections listen for ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%ended%%'"
            " AND datname = current_database()"
        )
        return cursor.fetchone()[0]


def listeners():
    """The names of the connections that listen for ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%%ended%%' AND datname = current_database()"
        )
        return {name for (name,) in cursor.fetchall()}


def tell(task):
    """Tell a task's end, as a supervisor does; and whether anybody listens."""
    with connection.cursor() as cursor:
        cursor.execute(*store.announce([task.pk]))
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%%ended%%'"
            " AND datname = current_database()"
        )
        return not cursor.fetchall()


@pytest.mark.django_db
class TestStored:
    def test_what_run_returned_is_on_the_row(self):
        Add(1, 2).delay()

        (ran,) = run_pending()

        assert ran.task.result == 3
        assert ran.decision.result == "3"

    def test_what_an_async_run_returned_is_too(self):
        AsyncAdd(1, 2).delay()

        (ran,) = run_pending()

        assert ran.task.result == {"sum": 3}

    def test_without_store_result_nothing_is(self):
        Write().delay()

        (ran,) = run_pending()

        assert ran.task.result is None

    def test_what_is_no_json_is_an_error_that_says_where(self):
        ReturnObject().delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.status == "error"
        assert "what run() returned['at'][0] is of type object" in ran.task.errors[0]["message"]


@pytest.mark.django_db(transaction=True)
class TestWaiting:
    def test_it_ends_as_soon_as_the_task_does(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = Add(2, 2).delay()

            assert task.wait(timeout_seconds=60) is task

        assert (task.status, task.result) == ("finished", 4)

    def test_a_failure_ends_it_too(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = FailWithResult("ValueError").delay().wait(timeout_seconds=60)

        assert task.status == "error"

    def test_it_is_woken_by_notify_and_not_by_its_own_look(self, monkeypatch):
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 1000)
        with live_supervisor(WORKERS_COUNT=1):
            Sleep(0.5, "before").delay()  # it is no race: the wait begins before the end
            task = Add(1).delay().wait(timeout_seconds=60)

        assert task.result == 1

    def test_a_lost_notify_costs_some_seconds_and_no_more(self, monkeypatch):
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 0.1)
        task = Add(1).delay()

        def end_it():
            time.sleep(0.3)
            Task.objects.filter(pk=task.pk).update(status="finished", finished_at=timezone.now())
            connection.close()

        thread = threading.Thread(target=end_it)
        thread.start()
        task.wait(timeout_seconds=60)
        thread.join()

        assert task.status == "finished"

    @pytest.fixture
    def listens(self):
        """Ends those who listen, each once, and returns how many there were."""
        sql = (
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%%ended%%' AND datname = current_database()"
            " AND pid <> ALL(%s)"
        )
        ended: list[int] = []  # one that was told to end is still seen for a moment

        def end_them():
            with connections["default"].cursor() as cursor:
                cursor.execute(sql, [ended])
                pids = [pid for pid, _ in cursor.fetchall()]
            ended.extend(pids)
            return len(pids)

        return end_them

    def in_a_thread(self, *steps):
        def run():
            for step in steps:
                step()
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    async def all_end(self, tasks, end_them):
        waiting = asyncio.gather(*(task.await_end(timeout_seconds=60) for task in tasks))
        thread = self.in_a_thread(end_them)
        await waiting
        await asyncio.to_thread(thread.join)

    def test_it_listens_anew_when_its_connection_is_lost(self, listens, monkeypatch, caplog):
        """And hears of the end then: it does not have to look for it."""
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 1000)
        monkeypatch.setattr("partisan_async.ends.waiting.LISTEN_AGAIN_SECONDS", 0.1)
        task = Add(3).delay()
        thread = self.in_a_thread(
            lambda: wait_until(listens),
            lambda: wait_until(listens),
            lambda: run_pending(),
            lambda: wait_until(lambda: tell(task)),
        )

        task.wait(timeout_seconds=60)
        thread.join()

        assert task.result == 3
        assert caplog.text.count(f"task {task.pk} Add: lost the LISTEN connection") == 2

    async def test_async_code_listens_anew_too(self, listens, monkeypatch):
        monkeypatch.setattr("partisan_async.ends.waiting.LISTEN_AGAIN_SECONDS", 0.1)
        task = await Add(3).adelay()
        thread = self.in_a_thread(lambda: wait_until(listens), lambda: run_pending())

        await task.await_end(timeout_seconds=60)
        thread.join()

        assert task.result == 3

    def test_it_gives_up_in_time_where_it_cannot_listen(self, settings, monkeypatch):
        settings.LISTEN_DSN = "host=127.0.0.1 port=1"
        monkeypatch.setattr("partisan_async.ends.waiting.LISTEN_AGAIN_SECONDS", 0.1)
        task = Add(3).delay()

        with pytest.raises(TimeoutError, match=r"has not ended within 0\.5 s"):
            task.wait(timeout_seconds=0.5)

    def test_a_row_that_is_deleted_meanwhile_is_said_to_be_gone(self, monkeypatch):
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 0.1)
        task = Add(1).delay()
        thread = self.in_a_thread(lambda: time.sleep(0.3), Task.objects.all().delete)

        with pytest.raises(Task.DoesNotExist, match=f"Task {task.pk} Add is gone: its row was"):
            task.wait(timeout_seconds=60)
        thread.join()

    def test_it_looks_where_tasks_are_written(self, settings):
        """A replica that lags would say that the row is gone."""
        settings.DATABASE_ROUTERS = ["tests.test_results.NoReplica"]
        task = Add(1).delay()
        thread = self.in_a_thread(lambda: run_pending(), lambda: wait_until(lambda: tell(task)))

        assert task.wait(timeout_seconds=60).result == 1
        thread.join()

    async def test_async_code_waits_too(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = await AsyncAdd(2, 3).adelay()

            assert await task.await_end(timeout_seconds=60) is task

        assert task.result == {"sum": 5}

    async def test_async_code_gives_up_in_time(self):
        task = await AsyncAdd(2, 3).adelay()

        with pytest.raises(TimeoutError, match=r"has not ended within 0\.1 s; it is 'New'"):
            await task.await_end(timeout_seconds=0.1)

    def test_it_gives_up_in_time(self):
        task = Add(1).delay()

        with pytest.raises(TimeoutError, match=rf"Task {task.pk} Add has not ended within 0.1 s"):
            task.wait(timeout_seconds=0.1)

    def test_of_a_task_whose_end_nobody_tells_it_is_refused(self):
        with pytest.raises(TypeError, match="set STORE_RESULT = True on Nothing"):
            Nothing().delay().wait()

    def test_in_a_transaction_it_is_refused(self):
        with (
            transaction.atomic(),
            pytest.raises(transaction.TransactionManagementError, match="waited for in vain"),
        ):
            Add(1).delay().wait()

    def test_a_row_with_a_result_is_kept_where_others_are_deleted(self):
        with live_supervisor(WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=True):
            Nothing().delay()
            task = Add(1).delay().wait(timeout_seconds=60)
            wait_until(ended)

        assert list(Task.objects.all()) == [task]

    def test_hundreds_of_ends_fit_in_their_payloads(self):
        tasks = Add.bulk_delay([Add(number) for number in range(1000)])

        with live_supervisor(WORKERS_COUNT=2, MAX_QUEUE_SIZE=1000):
            wait_until(lambda: ended(*tasks))

        assert sorted(Task.objects.values_list("result", flat=True)) == list(range(1000))

    async def test_a_hundred_of_a_loop_share_one_connection(self, monkeypatch):
        """A view that awaits ends would need a connection of the server's for each visitor."""
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 1000)
        tasks = await Add.abulk_delay([Add(number) for number in range(100)])
        seen = []

        def end_them():
            wait_until(lambda: seen.append(listening()) or seen[-1])
            run_pending()
            seen.append(listening())  # by now all of them wait
            for task in tasks:
                tell(task)

        await self.all_end(tasks, end_them)

        assert [task.result for task in tasks] == list(range(100))
        assert max(seen) == 1
        await sync_to_async(wait_until)(lambda: not listening())

    async def test_parameters_that_differ_each_time_make_no_more_of_them(
        self, listens, monkeypatch
    ):
        """As with a token for each connection, which is asked for when one is made."""
        made = []
        ask = type(connections["default"]).get_connection_params

        def with_token(wrapper):
            made.append(f"token {len(made)}")
            return ask(wrapper) | {"application_name": made[-1]}

        monkeypatch.setattr(type(connections["default"]), "get_connection_params", with_token)
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 1000)
        monkeypatch.setattr("partisan_async.ends.waiting.LISTEN_AGAIN_SECONDS", 0.1)
        loop = asyncio.get_running_loop()
        tasks = await Add.abulk_delay([Add(number) for number in range(10)])
        seen, ways = [], []

        def end_them():
            wait_until(lambda: listeners())
            run_pending()
            seen.append(listeners())  # by now all of them wait
            ways.extend(_listeners[loop])
            wait_until(listens)
            wait_until(lambda: listeners() - seen[0])
            for task in tasks:
                tell(task)

        await self.all_end(tasks, end_them)

        assert len(seen[0]) == 1
        assert ways == [("default", None)]
        assert not _listeners[loop]

    async def test_one_that_gives_up_takes_none_with_it(self, monkeypatch):
        monkeypatch.setattr("partisan_async.ends.waited.LOOK_EVERY_SECONDS", 1000)
        first, second = await Add.abulk_delay([Add(1), Add(2)])
        waiting = asyncio.ensure_future(second.await_end(timeout_seconds=60))

        with pytest.raises(TimeoutError):
            await first.await_end(timeout_seconds=0.5)
        thread = self.in_a_thread(lambda: run_pending(), lambda: tell(second))
        await waiting
        await asyncio.to_thread(thread.join)

        assert second.result == 2

    async def test_what_does_not_pass_is_raised_and_not_waited_for(self, monkeypatch):
        """As a channel that cannot be: it would be tried for ever."""
        monkeypatch.setattr("partisan_async.ends.listening.ENDS_CHANNEL", 'a"b')
        task = await Add(1).adelay()

        with pytest.raises(psycopg.errors.SyntaxError):
            await task.await_end(timeout_seconds=60)

    def test_it_leaves_no_connection(self):
        task = Add(1).delay()
        with pytest.raises(TimeoutError):
            task.wait(timeout_seconds=0.1)

        with connections["default"].cursor() as cursor:

            def count():
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%ended%%'"
                    " AND datname = current_database()"
                )
                return cursor.fetchone()[0]

            wait_until(lambda: count() == 0)


@pytest.mark.django_db
def test_signals_of_results_are_json(django_capture_on_commit_callbacks):
    from partisan_async.signals import task_finished

    heard = []

    def hear(sender, task, result, **kwargs):
        heard.append((sender, task.pk, json.loads(result)))

    task_finished.connect(hear)
    try:
        task = Add(1, 1).delay()
        run_pending()
    finally:
        task_finished.disconnect(hear)

    assert heard == [(Add, task.pk, 2)]
