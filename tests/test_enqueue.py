"""delay() and adelay(): the row, the caller's transaction, and the wake-up after it."""

import asyncio
import datetime
import threading

import psycopg
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg import sql

from partisan_async import store
from partisan_async.enqueue import insert
from partisan_async.enqueue import wake as waking
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.store import Statement
from partisan_async.worker.loading import load
from tests.conftest import DEADLINE_SECONDS, state
from tests.testapp.partisan_tasks import Nothing, Write, WriteElsewhere, WriteFirst, WriteUnique


@pytest.fixture
def ears(transactional_db):
    """Return a function that tells which queues were notified since it was last called."""
    params = connection.get_connection_params()
    params.pop("cursor_factory"), params.pop("context")
    with psycopg.connect(**params, autocommit=True) as listener:
        names = {store.channel(name): name for name in ("default", "elsewhere")}
        for channel in names:
            listener.execute(f'LISTEN "{channel}"')

        def heard():
            # What was sent before comes before the end mark.
            with psycopg.connect(**params, autocommit=True) as other:
                other.execute("NOTIFY \"partisan_async.default\", 'end'")
            notes = []
            for note in listener.notifies(timeout=DEADLINE_SECONDS):
                if note.payload == "end":
                    return notes
                notes.append(names[note.channel])
            raise AssertionError("the end mark did not come")

        yield heard


@pytest.mark.django_db
class TestRow:
    def test_it_holds_what_was_called(self):
        task = Write(1, ["two"], three={"four": 5}).delay()

        row = Task.objects.get(pk=task.pk)
        assert row.processor_class == "Write"
        assert row.queue_name == "default"
        assert row.args == [1, ["two"]]
        assert row.kwargs == {"three": {"four": 5}}
        assert row.priority == 10
        assert row.status == "new"
        assert (row.tries, row.postpones, row.lost, row.claim_seq) == (0, 0, 0, 0)
        assert task == row
        assert task.created_at == row.created_at

    def test_the_queue_is_stored(self):
        """The ancestor looked for it on the class and stored none."""
        assert WriteElsewhere().delay().queue_name == "elsewhere"

    def test_priority_is_the_classes_own_unless_given(self):
        assert WriteFirst().delay().priority == 1
        assert WriteFirst().delay(priority=0).priority == 1
        assert WriteFirst().delay(priority=7).priority == 7
        assert WriteFirst().delay(priority=-7).priority == -7

    def test_a_future_time_schedules_it(self):
        moment = timezone.now() + datetime.timedelta(hours=1)

        task = Write().delay(execute_after=moment)

        assert task.status == "scheduled"
        assert Task.objects.get().execute_after == moment

    def test_a_time_far_from_greenwich_is_understood(self):
        """PostgreSQL refuses offsets of over 15:59; Python knows them up to a day."""
        far = datetime.timezone(datetime.timedelta(hours=23))
        moment = datetime.datetime.now(far) + datetime.timedelta(hours=1)

        task = Write().delay(execute_after=moment)

        assert Task.objects.get() == task
        assert Task.objects.get().execute_after == moment

    def test_a_past_time_is_at_once(self):
        past = datetime.datetime(1971, 1, 1, tzinfo=datetime.UTC)

        assert Write().delay(execute_after=past).status == "new"

    @pytest.mark.django_db(transaction=True)
    async def test_adelay_does_the_same(self):
        task = await Write("a").adelay(priority=3)

        assert await Task.objects.values_list("priority", "status").aget(pk=task.pk) == (3, "new")


@pytest.mark.django_db
class TestUnique:
    def test_an_identical_call_that_waits_is_not_added_twice(self):
        first, second = WriteUnique(1, a=2).delay(), WriteUnique(1, a=2).delay()

        assert second == first
        assert Task.objects.count() == 1

    def test_a_scheduled_one_counts_as_waiting(self):
        later = timezone.now() + datetime.timedelta(hours=1)
        first = WriteUnique(1).delay(execute_after=later)

        assert WriteUnique(1).delay() == first

    def test_other_arguments_or_another_processor_are_another_call(self):
        WriteUnique(1).delay()
        WriteUnique(2).delay()
        WriteUnique(1, a=1).delay()
        Write(1).delay()
        Write(1).delay()

        assert Task.objects.count() == 5

    @pytest.mark.parametrize("status", ["in_process", "finished", "error"])
    def test_a_call_that_started_does_not_count(self, status):
        """It may have read the old state."""
        first = WriteUnique(1).delay()
        Task.objects.update(**state(status))

        assert WriteUnique(1).delay() != first


class TestRefused:
    def test_arguments_that_are_not_json(self):
        with pytest.raises(TypeError, match=r"args\[0\] is of type object"):
            Write(object()).delay()

    @pytest.mark.parametrize(
        ("moment", "error", "words"),
        [
            (datetime.datetime(2030, 1, 1), ValueError, "naive"),
            (datetime.datetime(9001, 1, 1, tzinfo=datetime.UTC), ValueError, "out of reach"),
            (datetime.datetime.min.replace(tzinfo=datetime.UTC), ValueError, "out of reach"),
            (datetime.date(2030, 1, 1), TypeError, "must be a datetime"),
            (60, TypeError, "must be a datetime"),
        ],
    )
    def test_a_time_that_cannot_be_meant(self, moment, error, words):
        with pytest.raises(error, match=words):
            Write().delay(execute_after=moment)

    @pytest.mark.parametrize("priority", [2**31, -(2**31) - 1, "1", 1.5])
    def test_a_priority_that_does_not_fit(self, priority):
        with pytest.raises(ValueError, match="priority="):
            Write().delay(priority=priority)

    def test_a_processor_that_is_not_registered(self):
        """No worker would know it, and the task would wait in vain."""

        class Stray(BaseTaskProcessor):
            def run(self):
                pass

        with pytest.raises(ProcessorClassNotFound, match="'Stray' is not registered"):
            Stray().delay()

    @pytest.mark.parametrize("name", ["", None, 5, "q" * 256, "a\x00b", "\udc80"])
    def test_a_queue_name_that_cannot_be(self, monkeypatch, name):
        monkeypatch.setattr(Write, "QUEUE_NAME", name)

        with pytest.raises(ValueError, match="QUEUE_NAME is"):
            Write().delay()

    def test_a_processor_without_run(self):
        class Idle(BaseTaskProcessor):
            pass

        with pytest.raises(TypeError, match="abstract"):
            Idle()

    def test_a_processor_that_runs_a_task_itself(self):
        processor = load(Write, {"args": [], "kwargs": {}}, Task)

        with pytest.raises(TypeError, match="make a new one"):
            processor.delay()


class TestNaiveTime:
    @pytest.mark.django_db
    @override_settings(USE_TZ=False)
    def test_it_is_local_time_without_use_tz(self):
        soon = datetime.datetime.now() + datetime.timedelta(hours=1)

        assert Write().delay(execute_after=soon).status == "scheduled"


class TestWake:
    def test_a_call_wakes_its_queue(self, ears):
        Write().delay()
        WriteElsewhere().delay()

        assert ears() == ["default", "elsewhere"]

    def test_it_wakes_after_the_commit_and_each_queue_once(self, ears):
        with transaction.atomic():
            for _ in range(3):
                Write().delay()
            WriteElsewhere().delay()
            assert ears() == []

        assert sorted(ears()) == ["default", "elsewhere"]

    def test_a_rolled_back_call_leaves_no_row_and_no_wake(self, ears):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Write().delay()
            raise ZeroDivisionError

        assert not Task.objects.exists()
        assert ears() == []

    def test_the_next_call_after_a_rollback_wakes(self, ears):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Write().delay()
            raise ZeroDivisionError

        Write().delay()

        assert ears() == ["default"]

    def test_a_call_rolled_back_to_a_savepoint_leaves_no_row_and_no_wake(self, ears):
        with transaction.atomic(), pytest.raises(ZeroDivisionError), transaction.atomic():
            Write().delay()
            raise ZeroDivisionError

        assert not Task.objects.exists()
        assert ears() == []

    def test_a_rolled_back_savepoint_does_not_mute_the_calls_beside_it(self, ears):
        """Notifications that are deduplicated when they are registered do."""
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Write("gone").delay()
                raise ZeroDivisionError
            Write("stays").delay()
        assert ears() == ["default"]

        with transaction.atomic():
            Write("stays too").delay()
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Write("gone").delay()
                raise ZeroDivisionError
        assert ears() == ["default"]

        assert sorted(task.args[0] for task in Task.objects.all()) == ["stays", "stays too"]

    def test_a_call_from_an_on_commit_hook_wakes(self, ears):
        with transaction.atomic():
            transaction.on_commit(lambda: Write("hook").delay())
            Write("body").delay()

        assert ears().count("default") >= 1
        assert Task.objects.count() == 2

    def test_an_ignored_call_wakes_too(self, ears):
        """Its twin may have been committed by a process that died before it could notify."""
        WriteUnique(1).delay()
        ears()

        WriteUnique(1).delay()

        assert ears() == ["default"]

    def test_a_scheduled_call_wakes(self, ears):
        """An idle supervisor must learn of the earlier time."""
        Write().delay(execute_after=timezone.now() + datetime.timedelta(hours=1))

        assert ears() == ["default"]

    def test_with_autocommit_off_the_wake_is_the_transactions_own(self, ears):
        transaction.set_autocommit(False)
        try:
            Write().delay()
            assert ears() == []
            transaction.commit()
            assert ears() == ["default"]

            Write().delay()
            transaction.rollback()
            assert ears() == []
        finally:
            transaction.set_autocommit(True)
        assert Task.objects.count() == 1

    async def test_adelay_wakes(self, ears):
        await Write().adelay()

        assert await asyncio.to_thread(ears) == ["default"]

    @pytest.mark.parametrize("name", ['a"b', "100%", "%s", "a'b", "ж", "a\\b", "Q" * 255])
    def test_any_queue_name_is_woken(self, transactional_db, monkeypatch, name):
        monkeypatch.setattr(Write, "QUEUE_NAME", name)
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params, autocommit=True) as listener:
            listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(store.channel(name))))

            Write().delay()

            notes = list(listener.notifies(timeout=DEADLINE_SECONDS, stop_after=1))
        assert [(note.channel, note.payload) for note in notes] == [(store.channel(name), "new")]

    def test_the_channel_of_a_long_queue_name_fits(self):
        """PostgreSQL refuses channel names of 64 bytes and more."""
        names = ["q" * 300, "q" * 299, "ж" * 40, "default"]

        channels = {store.channel(name) for name in names}

        assert len(channels) == 4
        assert all(len(channel.encode()) < 64 for channel in channels)


class TestQueries:
    def test_the_insert_is_all_that_is_counted(self, ears):
        """Neither with a twin nor without one: the wake-up is no business of who counts queries."""
        with CaptureQueriesContext(connection) as captured:
            Write().delay()

        assert [query["sql"].split()[:2] for query in captured] == [["INSERT", "INTO"]]
        assert ears() == ["default"]

    @pytest.mark.django_db(transaction=True)
    def test_a_notify_that_fails_is_logged_and_the_row_stays(self, monkeypatch, caplog):
        """It comes after the commit: an error would tell the caller that nothing was enqueued."""
        for module in (insert, waking):
            monkeypatch.setattr(module, "notify", lambda *_, **__: Statement("SELECT 1 / 0", {}))

        task = Write().delay()
        with transaction.atomic():
            other = Write().delay()

        assert set(Task.objects.all()) == {task, other}
        assert caplog.text.count("division by zero") >= 2

    @pytest.mark.django_db(transaction=True)
    def test_a_connection_lost_after_the_commit_is_opened_again(self, caplog):
        with transaction.atomic():
            transaction.on_commit(connection.close)
            task = Write().delay()

        assert Task.objects.get() == task
        assert not caplog.records

    @pytest.mark.django_db(transaction=True)
    def test_a_number_that_a_row_has_by_hand_is_passed_over_or_told(self):
        """Restored without its sequence, a table has rows where the next ones belong."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval(pg_get_serial_sequence('partisan_async_task', 'id'))")
            (last,) = cursor.fetchone()
        holders = [{"id": last + n, "processor_class": "Gone"} for n in range(1, 11)]
        common = {"queue_name": "none", "arguments": {}, "priority": 1}
        moment = timezone.now()
        Task.objects.bulk_create(Task(**common, **each, execute_after=moment) for each in holders)

        with pytest.raises(IntegrityError):
            WriteUnique(1).delay()

        assert WriteUnique(1).delay().pk > last + 10


class TestInTestCase(TestCase):
    """In Django's TestCase the row is there, and the hooks wait to be captured."""

    def test_the_row_is_there_and_the_wake_waits(self):
        with self.captureOnCommitCallbacks() as callbacks:
            Write().delay()

        assert Task.objects.count() == 1
        assert len(callbacks) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "second"])
class TestSecondDatabase:
    def test_the_router_chooses_the_database(self, settings):
        """Row, uniqueness and wake all go to the alias that the router names for writing."""
        settings.DATABASE_ROUTERS = ["tests.test_enqueue.ToSecond"]

        task = WriteUnique(1).delay()
        with transaction.atomic(using="second"):
            assert WriteUnique(1).delay() == task
        # A transaction on the default database is not the task's.
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="default"):
            other = Nothing(1).delay()
            raise ZeroDivisionError

        assert task._state.db == "second"
        assert Task.objects.using("second").filter(pk__in=[task.pk, other.pk]).count() == 2


class ToSecond:
    def db_for_write(self, model, **hints):
        return "second" if model is Task else None


class TestConcurrently:
    def test_identical_calls_in_parallel_make_one_row(self, transactional_db):
        barrier = threading.Barrier(4)
        tasks = []

        def call():
            barrier.wait()
            tasks.extend([WriteUnique(number).delay() for number in range(25)])
            connections.close_all()

        threads = [threading.Thread(target=call) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

        assert len(tasks) == 100
        assert Task.objects.count() == 25


@pytest.mark.django_db
class TestNoCall:
    """The class stands in the place of a call."""

    def test_delay_on_the_class_says_what_to_write(self):
        with pytest.raises(TypeError, match=r"Make a call first.*Processor\(…\)\.delay\(\)"):
            Write.delay(5)

    async def test_so_does_adelay(self):
        with pytest.raises(TypeError, match=r"Make a call first.*Processor\(…\)\.adelay\(\)"):
            await Write.adelay("a")

    def test_so_does_bulk_delay(self):
        told = r"and got a value of type int\. Make calls first: Write\.bulk_delay\(\[Write\(…\), "
        with pytest.raises(TypeError, match=told):
            Write.bulk_delay(5)

    @pytest.mark.parametrize("method", ["delay", "bulk_delay"])
    @pytest.mark.parametrize("given", ["correct horse", 271828182, ["correct horse"], [271828182]])
    def test_what_was_given_is_not_told(self, method, given):
        """It may be a secret, and errors are kept and sent on."""
        with pytest.raises(TypeError) as refused:
            getattr(Write, method)(given)

        assert "correct" not in str(refused.value)
        assert "271828182" not in str(refused.value)

    def test_many_calls_that_are_one_are_refused(self):
        with pytest.raises(TypeError, match=r"Write\.bulk_delay\(\) takes a list of calls"):
            Write.bulk_delay(Write(1))

    def test_one_without_arguments_is_refused(self):
        """Its own __init__() has kept them to itself."""

        class Forgetful(Write):
            def __init__(self, name):
                self.name = name

        with pytest.raises(TypeError, match=r"must call super\(\).__init__"):
            Forgetful("a").delay()

    def test_another_attribute_error_is_its_own(self):
        class Odd(Write):
            @property
            def QUEUE_NAME(self):
                raise AttributeError("mine")

        with pytest.raises(AttributeError, match="mine"):
            Odd().delay()
