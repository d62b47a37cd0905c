"""bulk_delay() and abulk_delay(): as many rows as calls, in their order, and one wake-up."""

import datetime
import random
import threading

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async.enqueue import bulk, keyed
from partisan_async.enqueue.bulk import INSERTED_AT_ONCE
from partisan_async.enqueue.taking import TAKEN_AT_MOST, attempts
from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.unique import Unique
from tests.conftest import DEADLINE_SECONDS, ended, marks, wait_until
from tests.test_enqueue import ears  # noqa: F401
from tests.test_taking import Begun, elsewhere  # noqa: F401
from tests.testapp.partisan_tasks import Nothing, Write, WriteElsewhere, WriteFirst, WriteUnique


def in_opposite_orders(bulk_delay, calls, times=3):
    """Enqueue these by two callers at once, and return what each bulk_delay() has returned."""
    together = threading.Barrier(2)
    found, failed = [], []

    def enqueue(calls):
        try:
            together.wait()
            found.extend(bulk_delay(calls) for _ in range(times))
        except OperationalError as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=enqueue, args=[each]) for each in (calls, calls[::-1])]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []
    return found


def many_at_once(bulk_delay, some, *, times):
    """Have four callers enqueue some calls by random numbers, so often; return what was raised."""
    failed = []

    def enqueue(seed):
        numbers = random.Random(seed)
        try:
            for _ in range(times):
                bulk_delay(some(numbers))
        except OperationalError as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=enqueue, args=[seed]) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return failed


def statements(captured):
    """Return the statements that were sent, without those around a transaction."""
    around = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    return [query["sql"] for query in captured if not query["sql"].startswith(around)]


@pytest.mark.django_db
class TestRows:
    @pytest.mark.parametrize("kind", [Write, WriteUnique])
    @pytest.mark.parametrize("count", [1, 1000, 2500])
    def test_they_come_in_the_order_of_the_calls(self, kind, count):
        """The ids too: they decide which one starts first."""
        tasks = kind.bulk_delay(kind(number) for number in range(count))

        assert [task.args for task in tasks] == [[number] for number in range(count)]
        assert [task.pk for task in tasks] == sorted(task.pk for task in tasks)
        assert Task.objects.count() == count

    @pytest.mark.parametrize("kind", [WriteUnique, WriteElsewhere, WriteFirst])
    @pytest.mark.parametrize("hours", [None, 1])
    def test_each_is_what_the_database_holds(self, kind, hours):
        """Not all of it was sent back."""
        later = hours and timezone.now() + datetime.timedelta(hours=hours)

        for task in kind.bulk_delay([kind(1, ("two",), x={"y": 3}), kind()], execute_after=later):
            row = Task.objects.get(pk=task.pk)
            for field in Task._meta.concrete_fields:
                held, told = getattr(row, field.attname), getattr(task, field.attname)
                held = bytes(held) if isinstance(held, memoryview) else held
                assert (told, type(told)) == (held, type(held)), field.attname

    def test_each_is_as_delay_makes_it(self):
        one = Write("x", y=1).delay(priority=3)
        (two,) = Write.bulk_delay([Write("x", y=1)], priority=3)

        for field in Task._meta.concrete_fields:
            if field.attname not in ("id", "created_at", "execute_after"):
                assert getattr(one, field.attname) == getattr(two, field.attname), field.attname

    def test_a_thousand_take_one_statement_and_one_wake(self, ears):  # noqa: F811
        with CaptureQueriesContext(connection) as captured:
            WriteUnique.bulk_delay(WriteUnique(number) for number in range(1000))

        (insert,) = statements(captured)
        assert "INSERT" in insert
        assert ears() == ["default"]

    def test_none_take_no_statement(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert Write.bulk_delay([]) == []

    def test_run_pending_runs_them(self):
        Write.bulk_delay([Write("a"), Write("b")])

        run_pending()

        assert marks() == ["a", "b"]


@pytest.mark.django_db
class TestUnique:
    def test_identical_calls_in_the_list_share_a_row(self):
        tasks = WriteUnique.bulk_delay([WriteUnique(n) for n in (1, 2, 1, 3, 2)])

        assert [task.args[0] for task in tasks] == [1, 2, 1, 3, 2]
        assert tasks[0].pk == tasks[2].pk
        assert tasks[1].pk == tasks[4].pk
        assert Task.objects.count() == 3

    def test_identical_calls_share_a_row_across_statements(self):
        tasks = WriteUnique.bulk_delay([WriteUnique(n % 1500) for n in range(3000)])

        assert [task.pk for task in tasks[:1500]] == [task.pk for task in tasks[1500:]]
        assert Task.objects.count() == 1500

    @pytest.mark.parametrize("status", ["new", "scheduled"])
    def test_a_call_that_waits_is_not_added_twice(self, status):
        waiting = WriteUnique(1).delay()
        Task.objects.update(status=status)

        zero, one, two = WriteUnique.bulk_delay([WriteUnique(n) for n in range(3)])

        assert one == waiting
        assert one.status == status
        assert Task.objects.count() == 3
        assert zero.pk < two.pk

    def test_a_call_that_ended_does_not_count(self):
        over = WriteUnique(1).delay()
        Task.objects.update(status="finished", finished_at=timezone.now())

        (again,) = WriteUnique.bulk_delay([WriteUnique(1)])

        assert again.pk != over.pk

    def test_calls_that_need_not_be_unique_are_all_added(self):
        tasks = Write.bulk_delay([Write(1), Write(1)])

        assert len({task.pk for task in tasks}) == 2


@pytest.mark.django_db
class TestRefused:
    def test_what_is_wrong_with_one_is_told_and_none_is_added(self):
        calls = [*(Write(number) for number in range(1500)), Write(object())]

        with pytest.raises(TypeError, match=r"Call 1500: args\[0\] is of type object"):
            Write.bulk_delay(calls)

        assert not Task.objects.exists()

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            pytest.param(Nothing(1), "which is no Write", id="another processor"),
            pytest.param((1,), "Call 1 is a value of type tuple", id="arguments alone"),
            pytest.param(Write, "is the class Write, which is no Write", id="the class itself"),
        ],
    )
    def test_what_is_no_call_of_this_processor(self, wrong, words):
        with pytest.raises(TypeError, match=words):
            Write.bulk_delay([Write(1), wrong])

        assert not Task.objects.exists()

    def test_a_priority_and_a_time_are_checked_too(self):
        with pytest.raises(ValueError, match="Call 0: priority='high'"):
            Write.bulk_delay([Write()], priority="high")
        with pytest.raises(TypeError, match="Call 0: execute_after=60"):
            Write.bulk_delay([Write()], execute_after=60)


@pytest.mark.django_db(transaction=True)
class TestTransaction:
    def test_it_wakes_once_after_the_commit(self, ears):  # noqa: F811
        with transaction.atomic():
            Write.bulk_delay(Write(number) for number in range(2500))
            assert ears() == []

        assert ears() == ["default"]

    def test_rolled_back_it_leaves_no_row_and_no_wake(self, ears):  # noqa: F811
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Write.bulk_delay([Write(1), Write(2)])
            raise ZeroDivisionError

        assert ears() == []
        assert not Task.objects.exists()

    def test_a_rolled_back_savepoint_does_not_mute_the_calls_beside_it(self, ears):  # noqa: F811
        with transaction.atomic():
            Write.bulk_delay([Write("kept")])
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Write.bulk_delay([Write("gone")])
                raise ZeroDivisionError

        assert ears() == ["default"]
        assert Task.objects.get().args == ["kept"]

    def test_all_or_none_are_added(self):
        """The second statement fails, and takes the first one's rows along."""
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE partisan_async_task ADD CONSTRAINT no_1700"
                ' CHECK (arguments <> \'{"args": [1700], "kwargs": {}}\')'
            )
        try:
            with pytest.raises(IntegrityError, match="no_1700"):
                Write.bulk_delay(Write(number) for number in range(2000))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE partisan_async_task DROP CONSTRAINT no_1700")

        assert not Task.objects.exists()
        Write("after").delay()
        assert Task.objects.count() == 1

    def test_opposite_orders_do_not_deadlock(self):
        """Neither within a statement nor across the statements of one call."""
        calls = [WriteUnique(n) for n in range(2500)]

        lists = in_opposite_orders(WriteUnique.bulk_delay, calls)

        assert len(lists) == 6
        assert Task.objects.count() == 2500
        for tasks in lists:
            assert {task.args[0]: task.pk for task in tasks} == dict(
                Task.objects.values_list("arguments__args__0", "pk")
            )

    def test_a_twin_is_not_claimed_before_the_caller_commits(self):
        """It would run on the state from before the caller's changes."""
        WriteUnique(1).delay()
        locked = threading.Event()
        done = threading.Event()

        def enqueue():
            with transaction.atomic():
                WriteUnique.bulk_delay([WriteUnique(1), WriteUnique(2)])
                locked.set()
                done.wait()
            connections.close_all()

        thread = threading.Thread(target=enqueue)
        thread.start()
        locked.wait()
        with transaction.atomic():
            free = list(Task.objects.select_for_update(skip_locked=True))
        done.set()
        thread.join()

        assert free == []

    def test_a_supervisor_runs_them_in_their_order(self):
        """Of so many that it takes two statements to add them, some of each and where they meet."""
        seam = range(INSERTED_AT_ONCE - 20, INSERTED_AT_ONCE + 20)
        run = sorted({*range(0, INSERTED_AT_ONCE + 200, 25), *seam})
        with live_supervisor(WORKERS_COUNT=1):
            with transaction.atomic():
                WriteUnique.bulk_delay(WriteUnique(n) for n in range(INSERTED_AT_ONCE + 200))
                Task.objects.exclude(arguments__args__0__in=run).delete()
            wait_until(ended)

        assert [int(mark) for mark in marks()] == run

    @pytest.mark.asyncio
    async def test_async_code_enqueues_too(self):
        tasks = await Write.abulk_delay([Write(1), Write(2)])

        assert [task.args async for task in Task.objects.order_by("id")] == [[1], [2]]
        assert [task.args for task in tasks] == [[1], [2]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "rule",
    [None, Unique(on_twin="replace"), Unique(while_running=True), Unique(within_seconds=0.1)],
)
def test_many_at_once_of_the_same_calls_meet_no_deadlock(rule, monkeypatch):
    """While twins are claimed, a call may be inserted below those that its transaction holds."""
    monkeypatch.setattr(WriteUnique, "UNIQUE", rule)

    def some(numbers):
        return [WriteUnique(numbers.randrange(4000)) for _ in range(900)]

    with live_supervisor(WORKERS_COUNT=1):
        assert many_at_once(WriteUnique.bulk_delay, some, times=6) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rule", [None, Unique(on_twin="replace"), Unique(while_running=True)])
def test_a_call_that_comes_late_does_not_wait_for_one_who_waits_for_us(
    rule, monkeypatch, elsewhere,  # noqa: F811
):  # fmt: skip
    """Its twin is locked when it is its turn, and has run when it is looked for again."""
    monkeypatch.setattr(WriteUnique, "UNIQUE", rule)
    monkeypatch.setattr(bulk, "DEADLOCK_ATTEMPTS", 1)
    twins = [WriteUnique(name).delay() for name in "ab"]
    low, high = sorted(twins, key=lambda task: bytes(task.digest or task.unique_key))
    Task.objects.filter(pk=high.pk).delete()
    with connection.cursor() as cursor:
        cursor.execute("SET deadlock_timeout = '5s'")
    met = []

    def attempted():
        first, met[:] = not met, [True]
        if first:
            yield True
            run_the_twin.set()
            claimer.join()
            elsewhere.do(lambda: WriteUnique(*low.args).delay())
            elsewhere.do(lambda: WriteUnique(*high.args).delay(), wait=False)
            wait_until(lambda: waiting() == 1)
        yield from attempts()

    def claim():
        with transaction.atomic():
            list(Task.objects.select_for_update().filter(pk=low.pk))
            locked.set()
            assert run_the_twin.wait(DEADLINE_SECONDS)
            Task.objects.filter(pk=low.pk).delete()
        connection.close()

    locked, run_the_twin = threading.Event(), threading.Event()
    claimer = threading.Thread(target=claim)
    claimer.start()
    assert locked.wait(DEADLINE_SECONDS)
    monkeypatch.setattr(bulk, "attempts", attempted)
    monkeypatch.setattr(keyed, "attempts", attempted)
    with Begun(elsewhere):
        elsewhere.do(be_slow_to_find_a_deadlock)
        others = [WriteUnique(n) for n in range(TAKEN_AT_MOST)]

        mine, *_ = WriteUnique.bulk_delay(
            [WriteUnique(*low.args), WriteUnique(*high.args), *others]
        )
        elsewhere.join()

    assert not mine.is_twin
    assert (mine.digest, mine.unique_key) == (None, None)
    connection.close()


def waiting():
    """Return how many wait for a lock, as seen from outside of any transaction."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params) as other:
        ((count,),) = other.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return count


def be_slow_to_find_a_deadlock():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL deadlock_timeout = '60s'")


@pytest.mark.django_db(transaction=True)
class TestDeadlock:
    """With a transaction that holds the higher of two digests, and goes on to the lower.

    It is met by more calls than a transaction takes the digests of.
    """

    @pytest.fixture
    def calls(self):
        low, high = sorted((WriteUnique(n).delay() for n in "ab"), key=lambda t: bytes(t.digest))
        Task.objects.all().delete()
        # It is this one that is to find the deadlock, and to be ended for it.
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '2s'")
        holding = threading.Event()

        def hold():
            with transaction.atomic():
                be_slow_to_find_a_deadlock()
                WriteUnique(*high.args).delay()
                holding.set()
                wait_until(lambda: waiting() == 1)
                WriteUnique(*low.args).delay()
            connection.close()

        other = threading.Thread(target=hold)
        other.start()
        assert holding.wait(DEADLINE_SECONDS)
        many = [WriteUnique(n) for n in range(TAKEN_AT_MOST)]
        yield [WriteUnique(*low.args), WriteUnique(*high.args), *many]
        other.join()
        connection.close()

    def test_it_is_tried_again(self, calls):
        tasks = WriteUnique.bulk_delay(calls)

        assert [task.is_twin for task in tasks[:3]] == [True, True, False]
        assert Task.objects.count() == 2 + TAKEN_AT_MOST

    def test_a_transaction_of_the_callers_is_the_callers_to_begin_again(self, calls):
        with pytest.raises(OperationalError, match="deadlock"), transaction.atomic():
            WriteUnique.bulk_delay(calls)

    def test_without_autocommit_too(self, calls):
        """What was done before it is gone with it."""
        transaction.set_autocommit(False)
        try:
            Task.objects.exists()
            with pytest.raises(OperationalError, match="deadlock"):
                WriteUnique.bulk_delay(calls)
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
