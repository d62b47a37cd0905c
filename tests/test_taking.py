"""Callers whose transactions meet: none waits for another's, and none deadlocks."""

import random
import threading
import time
from contextlib import ExitStack

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from partisan_async import steering
from partisan_async.enqueue.taking import TAKEN_AT_MOST, taken_by
from partisan_async.models import Task
from partisan_async.steering.tasks import ACTIONS
from tests.conftest import state
from tests.testapp.partisan_tasks import Write, WriteUnique

pytestmark = pytest.mark.django_db(transaction=True)

LONG_SECONDS = 20


class Elsewhere:
    """Runs steps in a thread, on a connection of its own, each when it is told to."""

    def __init__(self):
        self._steps, self._done = [], threading.Semaphore(0)
        self._more = threading.Semaphore(0)
        self.results, self.error = [], None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, step, wait=True):
        self._steps.append(step)
        self._more.release()
        if wait:
            self.join()

    def join(self):
        """Wait for the step; one that waits for another's transaction does not come to its end."""
        assert self._done.acquire(timeout=LONG_SECONDS), "it waits for somebody"
        if self.error is not None:
            raise self.error

    def close(self):
        self.do(None, wait=False)
        self._thread.join(LONG_SECONDS)

    def _run(self):
        while True:
            self._more.acquire()
            step = self._steps.pop(0)
            if step is None:
                break
            try:
                self.results.append(step())
            except BaseException as error:
                self.error = error
            self._done.release()
        connections.close_all()


@pytest.fixture
def elsewhere():
    thread = Elsewhere()
    yield thread
    thread.close()


class Begun:
    """A transaction that is open in another thread."""

    def __init__(self, thread):
        self.thread = thread
        self._atomic = transaction.atomic()

    def __enter__(self):
        self.thread.do(self._atomic.__enter__)
        return self

    def __exit__(self, *_):
        self.thread.do(lambda: self._atomic.__exit__(None, None, None))


def rows(*args):
    return list(Task.objects.filter(arguments__args=list(args)).order_by("pk"))


def test_an_identical_call_in_an_open_transaction_is_not_waited_for(elsewhere):
    """Nor known: it may be rolled back. So there are two rows rather than a wait."""
    with Begun(elsewhere):
        elsewhere.do(lambda: WriteUnique(1).delay())

        mine = WriteUnique(1).delay()

        assert not mine.is_twin
        assert rows(1) == [mine]
    assert len(rows(1)) == 2


def test_a_call_of_a_moment_ago_is_found(elsewhere):
    """Whoever commits at once is waited for, as long as that takes."""
    with Begun(elsewhere):
        elsewhere.do(lambda: WriteUnique(1).delay())
        told = []
        mine = threading.Thread(
            target=lambda: (told.append(WriteUnique(1).delay()), connections.close_all())
        )
        mine.start()
    mine.join()

    assert len(rows(1)) in (1, 2)  # by who was first
    assert told[0] in rows(1)


def test_two_calls_in_opposite_orders(elsewhere):
    with transaction.atomic(), Begun(elsewhere):
        WriteUnique(1).delay()
        elsewhere.do(lambda: WriteUnique(2).delay())
        WriteUnique(2).delay()
        elsewhere.do(lambda: WriteUnique(1).delay())

    assert (len(rows(1)), len(rows(2))) == (2, 2)


def test_one_call_and_a_row_of_the_sites(elsewhere):
    """No order of digests would help here."""
    row = Write("a row").delay()

    def change():
        Task.objects.filter(pk=row.pk).update(priority=5)

    with transaction.atomic():
        WriteUnique(1).delay()
        with Begun(elsewhere):
            elsewhere.do(change)
            elsewhere.do(lambda: WriteUnique(1).delay())
        change()

    assert len(rows(1)) == 2


def test_many_calls_in_opposite_orders(elsewhere):
    def calls(numbers):
        return [WriteUnique(n) for n in numbers]

    with transaction.atomic(), Begun(elsewhere):
        WriteUnique.bulk_delay(calls([1, 2]))
        elsewhere.do(lambda: WriteUnique.bulk_delay(calls([3, 4])))
        tasks = WriteUnique.bulk_delay(calls([5, 4, 3]))
        elsewhere.do(lambda: WriteUnique.bulk_delay(calls([2, 1])))

    assert [task.args for task in tasks] == [[5], [4], [3]]
    assert [len(rows(n)) for n in range(1, 6)] == [2, 2, 2, 2, 1]


def test_a_twin_that_is_cancelled_in_an_open_transaction_is_not_waited_for(elsewhere):
    twin = WriteUnique(1).delay()
    with Begun(elsewhere):
        elsewhere.do(lambda: steering.cancel([twin.pk]))

        mine = WriteUnique(1).delay()

    assert not mine.is_twin
    assert [task.status for task in rows(1)] == ["error", "new"]


def test_two_who_found_the_same_twin_both_return_it(elsewhere):
    twin = WriteUnique(1).delay()
    with Begun(elsewhere):
        elsewhere.do(lambda: WriteUnique(1).delay())

        assert WriteUnique(1).delay() == twin
    assert elsewhere.results[1] == twin


def advisory_locks():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        return cursor.fetchone()[0]


class TestHowMany:
    """The server has one table of locks for all its sessions."""

    def test_a_transaction_takes_no_more_than_so_many(self):
        with transaction.atomic():
            for n in range(TAKEN_AT_MOST + 10):
                WriteUnique(n).delay()

            assert advisory_locks() == TAKEN_AT_MOST
        assert advisory_locks() == 0

    def test_many_calls_at_once_take_none(self):
        with transaction.atomic():
            WriteUnique.bulk_delay([WriteUnique(n) for n in range(TAKEN_AT_MOST + 1)])

            assert advisory_locks() == 0

    def test_the_next_transaction_begins_anew(self):
        for end in ("commit", "rollback"):
            with transaction.atomic():
                for n in range(TAKEN_AT_MOST):
                    WriteUnique(end, n).delay()
                if end == "rollback":
                    transaction.set_rollback(True)

        with transaction.atomic():
            WriteUnique("next").delay()

            assert advisory_locks() == 1

    def test_what_somebody_keeps_of_an_ended_transaction_counts_no_more(self):
        """As whoever stores an exception keeps the frames that it came through."""
        with transaction.atomic():
            for n in range(TAKEN_AT_MOST):
                WriteUnique("kept", n).delay()
            kept = taken_by(connections["default"])

        with transaction.atomic():
            WriteUnique("anew").delay()

            assert advisory_locks() == 1
        assert kept.count == TAKEN_AT_MOST

    def test_calls_that_need_not_be_unique_take_none(self):
        with transaction.atomic():
            Write(1).delay()
            Write.bulk_delay([Write(2)])

            assert advisory_locks() == 0

    def test_where_nobody_knows_when_the_transaction_ends_none_is_taken(self):
        transaction.set_autocommit(False)
        try:
            WriteUnique(1).delay()
            taken = advisory_locks()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

        assert taken == 0


def test_a_storm_of_callers_ends_without_a_deadlock():
    """Four callers, five calls of ten in a random order, in transactions that stay open a while."""
    errors = []

    def call(seed):
        drawn = random.Random(seed)
        try:
            for _ in range(25):
                with transaction.atomic():
                    for n in drawn.sample(range(10), 5):
                        WriteUnique(n).delay()
                        time.sleep(0.001)
        except (psycopg.Error, Exception) as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert errors == []
    assert Task.objects.values("arguments").distinct().count() == 10


class TestSteering:
    """What another transaction has locked is left out, and told of."""

    @pytest.mark.parametrize("action", list(ACTIONS))
    def test_a_locked_row_is_not_waited_for(self, elsewhere, action):
        do, statuses = ACTIONS[action]
        free, locked = Write(1).delay(), Write(2).delay()
        Task.objects.update(**state(statuses[0]))
        with Begun(elsewhere):
            elsewhere.do(lambda: list(Task.objects.select_for_update().filter(pk=locked.pk)))

            assert do([free.pk, locked.pk]) == [free.pk]
        assert do([locked.pk]) == [locked.pk]

    @pytest.mark.parametrize("action", list(ACTIONS))
    def test_a_row_whose_lock_goes_between_two_statements_is_steered(self, elsewhere, action):
        """A supervisor's statement has it for a moment: nobody is to be told that it is locked."""
        do, statuses = ACTIONS[action]
        free, locked = Write(1).delay(), Write(2).delay()
        Task.objects.update(**state(statuses[0]))
        with ExitStack() as other:
            other.enter_context(Begun(elsewhere))
            elsewhere.do(lambda: list(Task.objects.select_for_update().filter(pk=locked.pk)))

            def let_go_after_the_first(execute, sql, *rest):
                try:
                    return execute(sql, *rest)
                finally:
                    if "SKIP LOCKED" in sql:
                        other.close()

            with connection.execute_wrapper(let_go_after_the_first):
                assert do([free.pk, locked.pk]) == [free.pk, locked.pk]

    def test_the_command_says_so(self, elsewhere):
        task = Write(1).delay()
        with Begun(elsewhere):
            elsewhere.do(lambda: list(Task.objects.select_for_update()))

            with pytest.raises(CommandError, match=f"has locked them: {task.pk}"):
                call_command("partisan", "cancel", task.pk)

    def test_many_in_one_transaction_take_none(self):
        tasks = WriteUnique.bulk_delay([WriteUnique(n) for n in range(TAKEN_AT_MOST + 1)])

        with transaction.atomic():
            assert len(steering.cancel([task.pk for task in tasks])) == TAKEN_AT_MOST + 1
            assert advisory_locks() == 0
