"""The testing kit: what a test of an application can rely on."""

import datetime
import traceback

import freezegun
import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from partisan_async.exceptions import MaxPostponesReached
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
from partisan_async.testing.pending import MOST_MORE
from tests.conftest import marks
from tests.test_docs import read
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    Add,
    AsyncAdd,
    AsyncFail,
    AsyncSleep,
    AtomicWrite,
    Die,
    Durable,
    Enqueue,
    EnqueueItself,
    Fail,
    FailOnCommit,
    GiveUp,
    Heal,
    OnCommit,
    OnCommits,
    Postpone,
    PostponeByDefault,
    PutOff,
    Retry,
    RetryByHand,
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


class Moved:
    """The clock of a test: both packages that people move it with."""

    def __init__(self, package, seconds):
        self._moved = {
            "time_machine": lambda: time_machine.travel(soon(seconds=seconds), tick=False),
            "freezegun": lambda: freezegun.freeze_time(soon(seconds=seconds)),
        }[package]()

    def __enter__(self):
        self._moved.__enter__()

    def __exit__(self, *error):
        self._moved.__exit__(*error)


@pytest.mark.django_db
@pytest.mark.parametrize("package", ["time_machine", "freezegun"])
class TestTheClock:
    def test_what_is_scheduled_is_due_by_it(self, package):
        Write("tomorrow").delay(execute_after=soon(hours=24))

        with Moved(package, 23 * 3600):
            assert run_pending() == []
        with Moved(package, 25 * 3600):
            assert len(run_pending()) == 1

    def test_what_is_new_runs_whatever_it_says(self, package):
        """A test may stand at any date."""
        with Moved(package, -365 * 24 * 3600):
            Write("a year ago").delay()

            assert len(run_pending()) == 1

    def test_pauses_count_from_it(self, package):
        """Also where it stands far ahead, or behind: by the database's clock they were over."""
        for seconds in (-30 * 24 * 3600, 30 * 24 * 3600):
            Postpone(f"at {seconds}", 1, 600).delay()
            with Moved(package, seconds):
                (ran,) = run_pending()
                assert ran.task.execute_after == timezone.now() + datetime.timedelta(seconds=600)
                assert run_pending() == []
            with Moved(package, seconds + 660):
                (ran,) = run_pending()
                assert isinstance(ran.decision, Finished)

    def test_so_does_a_processor_that_nobody_knows(self, package):
        """Each pause does: a deferred task, too."""
        Write().delay()
        Task.objects.update(processor_class="Nowhere")
        with Moved(package, 3600):
            (ran,) = run_pending()

            assert ran.task.execute_after - timezone.now() == ran.decision.pause

    def test_until_goes_on_from_it(self, package):
        Postpone("one", 9, 25 * 60).delay()

        with Moved(package, 24 * 3600):
            ran = run_pending(until=soon(minutes=60))
            due = soon(minutes=75)

        assert len(ran) == 3
        assert Task.objects.get().execute_after == due

    @pytest.mark.parametrize("processor", [Write, AtomicWrite])
    def test_rows_have_its_times(self, package, processor):
        """What compares them with the time that it asks for would be wrong by a day."""
        processor("one").delay()
        with Moved(package, 24 * 3600):
            (ran,) = run_pending()

            task = ran.task
            assert abs(timezone.now() - task.started_at) < datetime.timedelta(minutes=1)
            assert task.finished_at == timezone.now()

    def test_it_gives_up_after_a_day(self, package):
        """By the time that its first run was begun, that its row has."""
        give_up = GiveUp(24 * 3600).delay()
        for seconds in (3600, 12 * 3600, 24 * 3600):
            with Moved(package, seconds):
                (ran,) = run_pending()
                assert isinstance(ran.decision, Postponed)
        with Moved(package, 26 * 3600), pytest.raises(ExceptionGroup) as raised:
            run_pending()

        assert raised.group_contains(TimeoutError, match="^given up")
        give_up.refresh_from_db()
        assert give_up.status == "error"


@pytest.mark.django_db
class TestErrors:
    def test_those_of_tasks_that_ended_in_error_rise_together(self):
        """When all have run: one failure hides no other."""
        first = Fail("ValueError", "first").delay()
        Write("between").delay()
        AsyncFail().delay()

        with pytest.raises(ExceptionGroup, match="2 tasks ended in error") as raised:
            run_pending()

        assert marks() == ["between"]
        value, lookup = raised.value.exceptions
        assert (type(value), str(value)) == (ValueError, "first")
        assert value.__notes__ == [f"Raised by Fail #{first.pk} (error)."]
        assert type(lookup) is LookupError
        assert [frame.name for frame in traceback.extract_tb(value.__traceback__)][-1] == "run"
        assert not Supervisor.objects.exists()

    def test_kept_they_are_on_the_rows(self):
        Fail("ValueError", "first").delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["message"] == "first"

    def test_another_word_is_refused(self):
        with pytest.raises(ValueError, match=r"errors='ignore': pass \"raise\" or \"keep\"\.$"):
            run_pending(errors="ignore")

    def test_tries_that_run_again_are_none(self):
        PutOff("error").delay()
        Retry("one", 2).delay()

        ran = run_pending(until=timezone.now() + datetime.timedelta(minutes=5))

        assert [type(each.decision) for each in ran] == [Retried, Retried, Retried, Finished]

    def test_the_last_try_is_one(self):
        Retry("one", 99).delay()

        with pytest.raises(ExceptionGroup) as raised:
            run_pending(until=timezone.now() + HOUR)

        (error,) = raised.value.exceptions
        assert isinstance(error, TimeoutError)

    def test_too_many_postpones_are_one(self, settings):
        """Nobody raised it: it is what the row says."""
        settings.DEFAULT_POSTPONES_COUNT = 1
        PostponeByDefault("one", 9, 0).delay()

        with pytest.raises(ExceptionGroup) as raised:
            run_pending()

        (error,) = raised.value.exceptions
        assert isinstance(error, MaxPostponesReached)
        assert "Maximum postpones (1) reached" in str(error)

    def test_what_somebody_ran_again_and_finished_is_none(self):
        """In the end it is not in error."""
        RetryByHand().delay()
        Heal().delay()

        assert len(run_pending()) == 3

    def test_what_ends_a_process_ends_a_task(self):
        """And is in the group, which is no ExceptionGroup then."""
        Die("SystemExit").delay()

        with pytest.raises(BaseExceptionGroup) as raised:
            run_pending()

        assert isinstance(raised.value.exceptions[0], SystemExit)

    async def test_in_async_code(self):
        await AsyncFail().adelay()

        with pytest.raises(ExceptionGroup):
            await arun_pending()
        await sync_to_async(Task.objects.all().delete)()

    def test_the_lines_are_a_supervisors(self, caplog):
        Fail("ValueError", "first").delay()
        Retry("one", 1).delay()

        with caplog.at_level("INFO", "partisan_async"):
            run_pending(until=timezone.now() + HOUR, errors="keep")

        told = [record.event for record in caplog.records]
        assert told == ["failed", "retried", "done"]
        assert isinstance(caplog.records[0].exc_info[1], Exception)

    def test_perform_keeps_them(self):
        """Its decision is what one looks at."""
        assert isinstance(perform(Fail, ["ValueError"]).decision, Failed)


@pytest.mark.django_db
class TestWithoutEnd:
    @pytest.mark.parametrize("processor", [EnqueueItself(), PostponeByDefault("one", 999, 0)])
    def test_it_is_told_who_has_none(self, processor, settings):
        settings.DEFAULT_POSTPONES_COUNT = None
        processor.delay()

        name = type(processor).__name__
        with pytest.raises(RuntimeError, match=rf"more than 30 tasks.* the last was {name} #"):
            run_pending(most_more=30)

        assert not Supervisor.objects.exists()

    def test_hundreds_that_each_enqueue_one_have_one(self):
        """As many wait after each of them as before."""
        Enqueue.bulk_delay([Enqueue(number) for number in range(300)])

        assert len(run_pending(most_more=300)) == 600

    def test_neither_what_waits_for_later_nor_other_queues_count(self):
        Write.bulk_delay([Write(number) for number in range(40)])
        Write.bulk_delay([Write(number) for number in range(40)], execute_after=soon(hours=1))
        WriteElsewhere.bulk_delay([WriteElsewhere(number) for number in range(40)])

        assert len(run_pending(queue_name="default", most_more=0)) == 40

    @pytest.mark.parametrize("value", [-1, 1.5, None, True])
    def test_what_is_no_number_of_runs_is_refused(self, value):
        with pytest.raises(ValueError, match=f"most_more={value!r}: pass a number"):
            run_pending(most_more=value)

    def test_the_page_tells_how_many(self):
        assert f"{MOST_MORE:,} runs that came of other runs" in read("docs/howto/test.md")

    def test_many_have_one(self):
        """Also those that another one enqueues."""
        Write.bulk_delay([Write(number) for number in range(15)])
        Enqueue(*range(30)).delay()

        assert len(run_pending(most_more=30)) == 46

    def test_pauses_have_one(self, settings):
        settings.DEFAULT_POSTPONES_COUNT = None
        PostponeByDefault("one", 999, 60).delay()

        assert len(run_pending(until=soon(minutes=14.5), most_more=1)) == 15


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

        (ran,) = run_pending(errors="keep")

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

        assert [type(each.decision) for each in run_pending(errors="keep")] == [Failed, Finished]
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

        assert [type(each.decision) for each in run_pending(errors="keep")] == [Finished, Failed]
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
