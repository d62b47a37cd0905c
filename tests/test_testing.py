"""The testing kit: what a test of an application can rely on."""

import datetime

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from partisan_async.models import Supervisor, Task
from partisan_async.policy import Failed, Finished, Postponed, Retried
from partisan_async.testing import (
    aassert_enqueued,
    aassert_not_enqueued,
    aperform,
    arun_pending,
    assert_enqueued,
    assert_not_enqueued,
    await_until_ended,
    live_supervisor,
    perform,
    run_pending,
    wait_until_ended,
)
from tests.conftest import marks
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    Add,
    AsyncAdd,
    AsyncSleep,
    AtomicWrite,
    Durable,
    Enqueue,
    EnqueueItself,
    Fail,
    FailOnCommit,
    OnCommit,
    OnCommits,
    Postpone,
    PostponeByDefault,
    Retry,
    Write,
    WriteElsewhere,
    WriteUnique,
)

HOUR = datetime.timedelta(hours=1)


def soon(**delta):
    return timezone.now() + datetime.timedelta(**delta)


@pytest.mark.django_db
class TestUntil:
    def test_what_is_due_by_then_runs_in_the_order_of_its_time(self):
        Write("third").delay(execute_after=soon(minutes=50))
        Write("second").delay(execute_after=soon(minutes=10))
        Write("too late").delay(execute_after=soon(minutes=70))
        Write("first").delay()

        run_pending(until=timezone.now() + HOUR)

        assert marks() == ["first", "second", "third"]
        assert Task.objects.get(status="scheduled").args == ["too late"]

    def test_pauses_count_from_the_run_before(self):
        """Postponed by 25 minutes each time, it runs at 10, 35 and 60 minutes, and not at 85."""
        Postpone("one", 9, 25 * 60).delay(execute_after=soon(minutes=10))

        ran = run_pending(until=soon(minutes=70))

        assert [type(each.decision) for each in ran] == [Postponed] * 3
        due = Task.objects.get().execute_after
        assert abs(due - soon(minutes=85)) < datetime.timedelta(minutes=1)

    def test_retries_run_to_their_end(self):
        Retry("one", 2).delay()

        ran = run_pending(until=timezone.now() + HOUR)

        assert [type(each.decision) for each in ran] == [Retried, Retried, Finished]

    def test_one_queue_alone(self):
        WriteElsewhere("elsewhere").delay(execute_after=soon(minutes=1))
        Write("here").delay(execute_after=soon(minutes=1))

        run_pending(queue_name="elsewhere", until=timezone.now() + HOUR)

        assert marks() == ["elsewhere"]

    def test_a_naive_time_is_refused(self):
        with pytest.raises(ValueError, match=r"until=.* is naive, though USE_TZ is on"):
            run_pending(until=datetime.datetime(2030, 1, 1))

    def test_what_is_no_time_is_refused(self):
        with pytest.raises(TypeError, match=r"until=.* must be a datetime"):
            run_pending(until=HOUR)


@pytest.mark.django_db
class TestWithoutEnd:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch):
        monkeypatch.setattr("partisan_async.testing.pending.RUNS_BETWEEN_COUNTS", 10)

    @pytest.mark.parametrize("processor", [EnqueueItself(), PostponeByDefault("one", 999, 0)])
    def test_it_is_told_who_has_none(self, processor, settings):
        settings.DEFAULT_POSTPONES_COUNT = None
        processor.delay()

        name = type(processor).__name__
        with pytest.raises(RuntimeError, match=rf"has run 30 tasks.* the last was {name} #"):
            run_pending()

        assert not Supervisor.objects.exists()

    def test_many_have_one(self):
        """Also those that another one enqueues."""
        Write.bulk_delay([Write(number) for number in range(15)])
        Enqueue(*range(30)).delay()

        assert len(run_pending()) == 46

    def test_pauses_have_one(self, settings):
        settings.DEFAULT_POSTPONES_COUNT = None
        PostponeByDefault("one", 999, 60).delay()

        assert len(run_pending(until=soon(minutes=14.5))) == 15


class InATestCase(TestCase):
    def test_on_commit_is_called_as_it_would_be(self):
        OnCommit().delay()

        run_pending()

        assert marks() == ["inside", "committed"]

    def test_on_commit_is_called_when_it_would_be(self):
        OnCommits().delay()

        run_pending()

        assert marks() == ["at once", "in the block", "first", "second", "after the block"]

    def test_an_on_commit_that_raises_fails_the_task_and_not_the_test(self):
        FailOnCommit().delay()

        (ran,) = run_pending()

        assert ran.task.errors[0]["message"] == "on_commit"
        assert marks() == ["committed"]

    def test_a_robust_one_fails_nothing(self):
        FailOnCommit(robust=True).delay()

        with self.assertLogs("partisan_async", "ERROR"):
            (ran,) = run_pending()

        assert ran.decision == Finished()
        assert marks() == ["committed", "the next"]

    def test_what_the_test_captures_is_its_own(self):
        def enqueue():
            OnCommits().delay()

        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(enqueue)
        with self.captureOnCommitCallbacks() as calls:
            run_pending()

        assert calls == []
        assert "after the block" in marks()

    def test_a_durable_block_is_one(self):
        Durable().delay()

        (ran,) = run_pending()

        assert ran.decision == Finished()

    def test_the_tests_own_on_commit_is_left_to_the_test(self):
        called = []
        transaction.on_commit(lambda: called.append("the test's"))
        Write().delay()

        run_pending()

        assert called == []

    def test_a_failed_atomic_run_leaves_the_transaction_usable(self):
        Fail("ValueError").delay()
        AtomicWrite("kept").delay()

        assert [type(each.decision) for each in run_pending()] == [Failed, Finished]
        assert marks() == ["kept"]

    async def test_async_code(self):
        await AsyncAdd(1, 2).adelay()

        await aassert_enqueued(AsyncAdd, args=[1, 2])
        (ran,) = await arun_pending()
        await aassert_not_enqueued(AsyncAdd)

        assert ran.task.result == {"sum": 3}

    def test_a_supervisor_would_see_nothing_of_it(self):
        with (
            pytest.raises(TransactionManagementError, match="sees only what is committed"),
            live_supervisor(),
        ):
            pass

    async def test_perform_in_async_code(self):
        ran = await aperform(AsyncAdd, [1])

        assert ran.task.result == {"sum": 1}


class InATransactionTestCase(TransactionTestCase):
    def test_it_runs_too(self):
        OnCommits().delay()
        FailOnCommit().delay()

        assert [type(each.decision) for each in run_pending()] == [Finished, Failed]
        assert marks() == [
            *("at once", "in the block", "first", "second", "after the block"),
            "committed",
        ]

    def test_nothing_is_left_open(self):
        Write().delay()
        run_pending()

        assert not connection.in_atomic_block
        assert not Supervisor.objects.exists()


@pytest.mark.django_db
class TestPerform:
    def test_one_run_and_its_outcome(self):
        ran = perform(Add, [1, 2])

        assert ran.decision == Finished("3")
        assert (ran.task.result, ran.task.status) == (3, "finished")

    def test_keyword_arguments(self):
        perform(Write, kwargs={"text": "by name"})

        assert marks() == ["by name"]

    def test_an_error_is_an_outcome(self):
        ran = perform(Fail, ["ValueError", "bad"])

        assert isinstance(ran.decision, Failed)
        assert ran.decision.failure.message == "bad"

    def test_it_runs_once(self):
        assert isinstance(perform(Retry, ["one", 1]).decision, Retried)
        assert marks() == ["try one"]

    def test_it_leaves_no_row_and_touches_no_other(self):
        waiting = WriteUnique().delay()

        perform(WriteUnique)

        assert list(Task.objects.values_list("pk", "status")) == [(waiting.pk, "new")]
        assert not Supervisor.objects.exists()

    def test_what_it_enqueues_waits(self):
        perform(Enqueue, ["next"])

        assert Task.objects.count() == 1
        assert_not_enqueued(Enqueue)

    def test_what_is_no_task_is_refused(self):
        with pytest.raises(TypeError, match="neither a processor class nor a task"):
            perform(Write("instance"))


@pytest.mark.django_db
class TestAssertions:
    def test_the_task_is_returned(self):
        task = Write("a", text="b").delay()

        assert assert_enqueued(Write) == task
        assert assert_enqueued(Write, args=["a"], kwargs={"text": "b"}, queue="default") == task

    def test_tuples_are_lists(self):
        Write((1, 2)).delay()

        assert_enqueued(Write, args=((1, 2),))

    def test_a_naive_time_is_refused(self):
        with pytest.raises(ValueError, match=r"execute_after=.* is naive, though USE_TZ is on"):
            assert_enqueued(Write, execute_after=datetime.datetime(2030, 1, 1))

    def test_time_is_compared_to_the_second(self):
        moment = soon(hours=1)
        Write().delay(execute_after=moment)

        assert_enqueued(Write, execute_after=moment + datetime.timedelta(seconds=0.5))
        assert_not_enqueued(Write, execute_after=moment + datetime.timedelta(seconds=2))

    @pytest.mark.parametrize(
        "wanted", [{"args": ["b"]}, {"kwargs": {"a": 1}}, {"queue": "elsewhere"}]
    )
    def test_what_waits_otherwise_is_told(self, wanted):
        Write("a").delay()

        with pytest.raises(AssertionError) as error:
            assert_enqueued(Write, **wanted)

        assert "No task waits that is Write, " in str(error.value)
        assert "  Write, args=['a'], kwargs={}, queue_name='default'" in str(error.value)

    def test_that_nothing_waits_is_told(self):
        with pytest.raises(
            AssertionError, match=r"^No task waits that is Write\. Nothing waits\.$"
        ):
            assert_enqueued(Write)

    def test_long_lists_are_cut(self):
        Write.bulk_delay([Write(number) for number in range(25)])

        with pytest.raises(AssertionError, match=r"and 5 more$"):
            assert_enqueued(Add)

    def test_what_should_not_wait_is_told(self):
        Write("a").delay()

        with pytest.raises(AssertionError, match="A task waits that is Write, args="):
            assert_not_enqueued(Write, args=["a"])

    def test_what_has_run_does_not_wait(self):
        Write().delay()
        run_pending()

        assert_not_enqueued(Write)


def test_fixtures_are_there(run_pending, assert_enqueued, assert_not_enqueued):
    Write("by fixture").delay()

    assert_enqueued(Write, args=["by fixture"])
    run_pending()
    assert_not_enqueued(Write)

    assert marks() == ["by fixture"]


def test_one_run_by_fixture(perform):
    assert perform(Add, [1, 2]).decision == Finished("3")


async def test_async_fixtures_are_there(
    arun_pending, aassert_enqueued, aassert_not_enqueued, aperform
):
    await AsyncAdd(1, 2).adelay()

    await aassert_enqueued(AsyncAdd, args=[1, 2])
    (ran,) = await arun_pending()
    await aassert_not_enqueued(AsyncAdd)

    assert ran.task.result == {"sum": 3}
    assert (await aperform(AsyncAdd, [1])).decision == Finished('{"sum":1}')


def test_a_supervisor_is_there(live_supervisor):
    task = AsyncSleep(0, "by fixture").delay()

    wait_until_ended(task)

    assert task.status == "finished"
    assert Mark.objects.count() == 2


@pytest.mark.django_db(transaction=True)
class TestWaitUntilEnded:
    def test_for_all_there_are(self):
        Write.bulk_delay([Write(number) for number in range(5)])

        with live_supervisor(WORKERS_COUNT=1):
            wait_until_ended()

        assert Task.objects.filter(status="finished").count() == 5

    def test_what_is_deleted_at_its_end_has_ended(self):
        with live_supervisor(WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=True):
            wait_until_ended(Write().delay())

        assert not Task.objects.exists()

    async def test_in_async_code(self):
        with live_supervisor(WORKERS_COUNT=1):
            task = await Write().adelay()
            await await_until_ended(task)

        assert task.status == "finished"

    def test_what_has_not_ended_is_told(self):
        task = Write().delay()

        with pytest.raises(
            AssertionError, match=rf"^Not ended within 0\.1 s: Write #{task.pk} \(new\)\.$"
        ):
            wait_until_ended(timeout_seconds=0.1)
