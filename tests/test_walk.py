"""A real row, a real processor, a real settle: what the policies make of it.

Most walk in this process; those of the running side have a supervisor with its workers beside them.
"""

import dataclasses
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import JSONField, Value
from django.utils import timezone

from partisan_async.models import Supervisor, Task
from partisan_async.supervisor.workers.room import OVERDUE_SECONDS
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncFail,
    AsyncSleep,
    Confuse,
    ConfuseAsync,
    Enqueue,
    Fail,
    ForgottenCoroutine,
    Generator,
    MisconfiguredPostpone,
    MisconfiguredRetry,
    Nothing,
    OpenTransaction,
    Postpone,
    PostponeByDefault,
    PostponeThenFail,
    RaiseUnprintable,
    ReportConnection,
    Retry,
    ReturnUnpicklable,
    Sleep,
    WhoAmI,
    Write,
    WriteElsewhere,
    WriteFirst,
    WriteUnique,
)


def make_due():
    """Let the pauses of scheduled rows be over."""
    Task.objects.filter(status="scheduled").update(execute_after=timezone.now())


@pytest.mark.django_db
class TestPolicies:
    def test_a_task_finishes(self):
        task = Write("hello", text="ignored").delay()

        (ran,) = run_pending()

        assert marks() == ["hello"]
        assert ran.task == task
        assert (ran.task.status, ran.task.tries) == ("finished", 1)
        assert ran.task.started_at <= ran.task.finished_at

    def test_an_error_ends_in_error_and_says_why(self):
        Fail("ValueError", "no such thing").delay()

        run_pending(errors="keep")

        task = Task.objects.get()
        (error,) = task.errors
        assert task.status == "error"
        assert error["exception_class"] == "builtins.ValueError"
        assert error["message"] == "no such thing"
        assert "raise getattr(builtins, self.args[0])" in error["traceback"]
        assert "partisan_async/worker/" not in error["traceback"]
        assert error["try"] == 1
        assert error["at"].startswith("20")

    def test_a_retried_task_waits_and_is_not_finished(self, monkeypatch):
        """The ancestor marked it finished after it had been scheduled anew."""
        slowly = dataclasses.replace(Retry.RETRY_ON_ERROR_CONFIG, retry_pause=60)
        monkeypatch.setattr(Retry, "RETRY_ON_ERROR_CONFIG", slowly)
        Retry("a", 1).delay()

        run_pending()

        task = Task.objects.get()
        assert (task.status, task.tries) == ("scheduled", 1)
        make_due()
        run_pending()
        task = Task.objects.get()
        assert (task.status, task.tries) == ("finished", 2)
        assert marks() == ["try a"] * 2

    def test_retries_end(self):
        Retry("a", 99).delay()

        for _ in range(6):
            run_pending(errors="keep")
            make_due()

        task = Task.objects.get()
        assert (task.status, task.tries) == ("error", 4)
        assert marks() == ["try a"] * 4
        assert [error["try"] for error in task.errors] == [1, 2, 3, 4]

    def test_a_postponed_task_waits_and_is_not_finished(self):
        """The ancestor marked it finished, silently."""
        Postpone("a", 1, 60).delay()

        run_pending()

        task = Task.objects.get()
        assert (task.status, task.postpones, task.tries) == ("scheduled", 1, 0)
        assert 58 < (task.execute_after - timezone.now()).total_seconds() <= 60
        make_due()
        run_pending()
        assert (Task.objects.get().status, len(marks())) == ("finished", 2)

    def test_one_postpone_above_the_processors_limit_is_an_error(self):
        Postpone("a", 99, 0).delay()

        run_pending(errors="keep")

        task = Task.objects.get()
        assert (task.status, task.postpones, task.tries) == ("error", 5, 1)
        assert len(marks()) == 6
        assert task.errors[-1]["exception_class"].endswith("MaxPostponesReached")

    def test_the_queues_limit_holds_where_the_processor_has_none(self, settings):
        settings.DEFAULT_POSTPONES_COUNT = 2
        PostponeByDefault("a", 99, 0).delay()

        run_pending(errors="keep")

        assert (Task.objects.get().status, len(marks())) == ("error", 3)

    def test_without_a_limit_it_may_postpone_for_ever(self, settings):
        settings.DEFAULT_POSTPONES_COUNT = None
        PostponeByDefault("a", 30, 0).delay()

        run_pending()

        assert (Task.objects.get().status, len(marks())) == ("finished", 31)

    def test_the_delay_is_the_tasks_own_queues(self, settings, monkeypatch):
        """The ancestor took the default queue's."""
        settings.PARTISAN_CONFIG = {"slow": {"DEFAULT_POSTPONE_DELAY_SECONDS": 500}}
        monkeypatch.setattr(PostponeByDefault, "QUEUE_NAME", "slow")
        PostponeByDefault("a", 1).delay()

        run_pending()

        left = (Task.objects.get().execute_after - timezone.now()).total_seconds()
        assert 490 < left <= 500

    def test_postpones_do_not_erase_the_tries(self):
        PostponeThenFail().delay()

        run_pending(errors="keep")

        task = Task.objects.get()
        assert (task.status, task.tries, task.postpones) == ("error", 3, 2)

    def test_uniqueness_holds_again_for_what_went_back_to_waiting(self):
        task = Write("x").delay()
        first = WriteUnique("a").delay()
        assert WriteUnique("a").delay() == first

        run_pending()

        assert WriteUnique("a").delay() not in (task, first)

    def test_what_postpones_while_its_twin_was_enqueued_waits_beside_it(self, monkeypatch):
        monkeypatch.setattr(Postpone, "UNIQUE_FOR_PARAMS", True)
        twins = []

        def run(self):
            from partisan_async.exceptions import PostponeTask

            if not twins:
                twins.append(Postpone("a", 1).delay())
                raise PostponeTask(60)

        monkeypatch.setattr(Postpone, "run", run)
        task = Postpone("a", 1).delay()

        ran = run_pending()[0]

        assert ran.task == task
        assert ran.task.status == "scheduled"
        assert twins[0] != task

    @pytest.mark.parametrize(
        ("processor", "words"),
        [
            (ForgottenCoroutine(), "returned a coroutine"),
            (RaiseUnprintable(), "__str__ raised"),
            (AsyncFail(), "nothing there"),
        ],
    )
    def test_odd_errors_are_told_too(self, processor, words):
        processor.delay()

        run_pending(errors="keep")

        task = Task.objects.get()
        assert task.status == "error"
        assert words in task.errors[0]["message"]

    def test_an_error_that_postgresql_cannot_hold_is_cleaned(self):
        Fail("ValueError", "x").delay()
        Task.objects.update(arguments={"args": ["UnicodeError", "a"], "kwargs": {}})
        from partisan_async.worker.failure import failure_of

        failure = failure_of(ValueError("a\x00b\ud800c"))

        assert failure.message == "a\ufffdb\ufffdc"

    def test_a_row_changed_by_hand_ends_in_error(self):
        Write().delay()
        Task.objects.update(arguments=[1, 2])

        run_pending(errors="keep")

        assert "changed them by hand" in Task.objects.get().errors[0]["message"]

    def test_the_wrong_number_of_arguments_ends_in_error(self, monkeypatch):
        def narrow(self, one):
            super(Write, self).__init__(one)

        monkeypatch.setattr(Write, "__init__", narrow)
        Write("x").delay()
        Task.objects.update(arguments={"args": [], "kwargs": {}})

        run_pending(errors="keep")

        assert "missing 1 required" in Task.objects.get().errors[0]["message"]

    def test_a_processor_that_is_not_known_here_is_left_for_newer_code(self):
        """In a rolling deploy old code meets the tasks of new code."""
        Write().delay()
        Task.objects.update(processor_class="OfNextRelease")

        run_pending()

        task = Task.objects.get()
        assert (task.status, task.unrecognised, task.tries) == ("scheduled", 1, 0)
        assert 55 < (task.execute_after - timezone.now()).total_seconds() <= 60
        Task.objects.update(processor_class="Write")
        make_due()
        run_pending()
        assert Task.objects.get().status == "finished"

    def test_a_processor_that_nobody_knows_ends_in_error_at_last(self):
        Write().delay()
        Task.objects.update(processor_class="Removed", unrecognised=15)

        run_pending(errors="keep")

        task = Task.objects.get()
        assert task.status == "error"
        assert "'Removed' is not registered" in task.errors[0]["message"]

    def test_it_is_told_what_its_row_knew(self):
        task = WhoAmI().delay()

        run_pending()

        assert marks() == [f"{task.pk} 1 0 {task.created_at.year}"]

    def test_a_task_may_enqueue_others(self):
        Enqueue("next").delay()

        assert [ran.task.processor_class for ran in run_pending()] == ["Enqueue", "Write"]

    def test_a_failed_query_does_not_spoil_the_tests_transaction(self, monkeypatch):
        def run(self):
            Mark.objects.create(text="before")
            Mark.objects.raw("SELECT nonsense")[0]

        monkeypatch.setattr(Nothing, "run", run)
        Nothing().delay()

        run_pending(errors="keep")

        assert Task.objects.get().status == "error"

    def test_one_queue_alone(self):
        Write("here").delay()
        WriteElsewhere("there").delay()

        run_pending(queue_name="elsewhere")

        assert marks() == ["there"]

    def test_nothing_is_left_of_run_pending(self):
        Write().delay()

        run_pending()

        assert not Supervisor.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestLive:
    """With worker processes."""

    def test_every_kind_of_end_at_once(self):
        with live_supervisor():
            good = [Write(n).delay() for n in range(5)]
            bad = Fail("ValueError", "bad").delay()
            worse = AsyncFail().delay()
            again = Retry("r", 2).delay()
            later = Postpone("p", 2, 0.1).delay()
            too_late = Postpone("q", 99, 0).delay()
            odd = ReturnUnpicklable().delay()
            unprintable = RaiseUnprintable().delay()
            wait_until(ended)

        def status(task):
            task.refresh_from_db()
            return task.status, task.tries, task.postpones

        assert [status(task) for task in good] == [("finished", 1, 0)] * 5
        assert status(bad) == status(worse) == ("error", 1, 0)
        assert status(again) == ("finished", 3, 0)
        assert status(later) == ("finished", 1, 2)
        assert status(too_late) == ("error", 1, 5)
        assert status(odd) == ("finished", 1, 0)
        assert status(unprintable) == ("error", 1, 0)
        assert not Supervisor.objects.exists()

    def test_the_worker_of_a_failed_task_lives_on(self):
        """In the ancestor an error ended it."""
        with live_supervisor(WORKERS_COUNT=1):
            Fail("ValueError").delay()
            wait_until(ended)
            Write("after").delay()
            wait_until(ended)

        workers = {worker for task in Task.objects.all() for worker in task.worker_ids}
        assert len(workers) == 1

    @pytest.mark.parametrize("listen", [True, False])
    def test_a_task_due_in_a_moment_starts_then_and_not_at_the_next_beat(self, listen):
        """Also the first of its kind, with the supervisor idle, and for one that only polls."""
        with live_supervisor(listen=listen, beat_seconds=5, SLEEP_DELAY_SECONDS=0.05):
            Write("warm").delay()
            wait_until(ended)
            began = timezone.now()
            dues = [began + timedelta(seconds=1.5 + number / 5) for number in range(4)]
            tasks = [Write(str(due)).delay(execute_after=due) for due in dues]
            wait_until(ended)

        late = [Task.objects.get(pk=t.pk).started_at - t.execute_after for t in tasks]
        assert min(late) >= timedelta(0)
        # The machine may be busy now and then; the next beat would come seconds later.
        assert sorted(late)[1] < timedelta(seconds=1)

    def test_an_earlier_time_that_comes_later_is_learnt(self):
        """Else it would start with the minute's, or at the next beat."""
        with live_supervisor(beat_seconds=60, ttl_seconds=300):
            Write("hour").delay(execute_after=timezone.now() + timedelta(hours=1))
            Write("minute").delay(execute_after=timezone.now() + timedelta(minutes=1))
            due = timezone.now() + timedelta(seconds=0.5)
            task = Write("soon").delay(execute_after=due)
            wait_until(lambda: ended(task))

        task.refresh_from_db()
        assert task.started_at >= due

    def test_lower_priority_numbers_start_first(self):
        [Write(f"later {n}").delay() for n in range(5)]
        WriteFirst("first").delay()
        Write("top").delay(priority=-5)

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)

        assert marks() == ["top", "first", *(f"later {n}" for n in range(5))]

    def test_finished_rows_are_deleted_where_asked(self):
        with live_supervisor(DELETE_TASKS_ON_COMPLETE=True):
            Write("gone").delay()
            failed = Fail("ValueError").delay()
            wait_until(lambda: list(Task.objects.filter(status="error")) == [failed])
            wait_until(lambda: Task.objects.count() == 1)

        assert marks() == ["gone"]

    def test_async_tasks_run_side_by_side_in_one_worker(self):
        """Each with the async ORM, and a connection of its own."""
        with live_supervisor(WORKERS_COUNT=1, ASYNC_CONCURRENCY=8):
            Nothing().delay()
            wait_until(ended)
            AsyncSleep.bulk_delay(AsyncSleep(2, number) for number in range(8))
            wait_until(ended)

        assert {text.split()[0] for text in marks()[:8]} == {"start"}
        assert {text.split()[0] for text in marks()[8:]} == {"end"}
        assert Mark.objects.values("pid").distinct().count() == 1

    def test_async_concurrency_is_a_limit(self):
        with live_supervisor(WORKERS_COUNT=1, ASYNC_CONCURRENCY=2):
            for number in range(6):
                AsyncSleep(0.1, number).delay()
            wait_until(ended)

        running = most = 0
        for text in marks():
            running += 1 if text.startswith("start") else -1
            most = max(most, running)
        assert most == 2

    def test_a_worker_keeps_its_connection(self):
        """To connect anew for each task costs several times what a small task does."""
        with live_supervisor(WORKERS_COUNT=1):
            for _ in range(3):
                ReportConnection().delay()
            wait_until(ended)

        assert len(marks()) == 3
        assert len(set(marks())) == 1

    def test_a_broken_connection_is_replaced_before_the_next_task(self):
        """After a server's restart the next task must not pay for it."""
        with live_supervisor(WORKERS_COUNT=1):
            ReportConnection().delay()
            wait_until(ended)
            backend = marks()[0].split()[1]
            from django.db import connection

            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
            ReportConnection().delay()
            wait_until(ended)

        assert not Task.objects.filter(status="error").exists()
        assert len(set(marks())) == 2

    @pytest.mark.parametrize("how", ["atomic", "begin", "autocommit"])
    def test_a_transaction_left_open_is_rolled_back_and_harms_no_other(self, how):
        with live_supervisor(WORKERS_COUNT=1):
            OpenTransaction(how).delay()
            Write("next").delay()
            wait_until(ended)

        assert not Task.objects.filter(status="error").exists()
        assert marks() == ["next"]

    def test_workers_are_replaced_after_their_count_of_tasks(self):
        with live_supervisor(WORKERS_COUNT=1, TASKS_PER_WORKER_INSTANCE=3):
            for number in range(10):
                Write(number).delay()
            wait_until(ended)

        per_worker = [
            Mark.objects.filter(pid=pid).count()
            for pid in Mark.objects.order_by("at").values_list("pid", flat=True)
        ]
        assert max(per_worker) == 3
        assert len(marks()) == 10
        assert not Task.objects.exclude(tries=1).exists()

    def test_a_slow_task_holds_up_nobody_of_its_batch(self):
        """Short tasks are sent in batches; one that turns out slow hands the others back.

        Within 50 ms: a task is overdue after so long, and the next look is a quarter of it away.
        """
        assert OVERDUE_SECONDS * 1.25 < 0.05
        with live_supervisor(WORKERS_COUNT=2, MAX_QUEUE_SIZE=100) as supervisor:
            for number in range(40):
                Sleep(0, f"short {number}").delay()
            wait_until(ended)
            supervisor.parts.dispatcher._pace._averages["Sleep"] = (
                0.0001  # as after thousands of short runs
            )
            supervisor.parts.dispatcher._pace._averages["Nothing"] = 0.0001
            with transaction.atomic():  # so that they are claimed together
                slow = Sleep(3, "slow").delay()
                others = Nothing.bulk_delay(Nothing(number) for number in range(60))
            wait_until(lambda: ended(*others))
            slow.refresh_from_db()
            assert slow.status == "in_process"

    def test_a_full_queue_is_not_waited_for(self):
        """The ancestor slept 2 s whenever more than MIN_QUEUE_SIZE tasks waited."""
        for number in range(60):
            Nothing(number).delay()

        with live_supervisor(beat_seconds=30, SLEEP_DELAY_SECONDS=30):
            wait_until(ended)

    def test_two_supervisors_share_a_queue_fairly_and_run_each_task_once(self):
        with live_supervisor(), live_supervisor():
            for number in range(200):
                Sleep(0.05, number).delay()
            wait_until(ended)

        assert sorted(marks()) == sorted(
            f"{word} {number}" for word in ("start", "end") for number in range(200)
        )
        per_worker = [
            Mark.objects.filter(pid=pid, text__startswith="end").count()
            for pid in set(Mark.objects.values_list("pid", flat=True))
        ]
        assert len(per_worker) == 4
        assert min(per_worker) >= 35

    def test_a_processor_of_the_next_release_harms_no_other(self):
        strange = Write("strange").delay()
        Task.objects.update(processor_class="OfNextRelease")

        with live_supervisor():
            known = [Write(number).delay() for number in range(5)]
            wait_until(lambda: ended(*known))
            wait_until(lambda: Task.objects.get(pk=strange.pk).status == "scheduled")

        strange.refresh_from_db()
        assert (strange.unrecognised, strange.tries) == (1, 0)

    @pytest.mark.parametrize(
        "damage",
        [
            {"errors": {"not": "a list"}, "worker_ids": "nor this"},
            {"tries": 2**31 - 1, "postpones": 2**31 - 1, "lost": 2**31 - 1},
            {"tries": -5, "lost": -5},
            {"claim_seq": 2**31 - 1},
            {"claim_seq": -5},
            {"arguments": None},
            {"arguments": {"args": [], "kwargs": {"text": "x", "": 1}}},
        ],
    )
    def test_a_row_that_was_broken_by_hand_harms_no_other(self, damage):
        broken = Fail("ValueError", "as it should").delay()
        damage = {
            name: Value(value, JSONField()) if isinstance(value, (str, dict, type(None))) else value
            for name, value in damage.items()
        }
        Task.objects.update(**damage)

        with live_supervisor():
            others = [Write(number).delay() for number in range(5)]
            wait_until(ended)

        broken.refresh_from_db()
        assert broken.status == "error"
        assert all(Task.objects.get(pk=task.pk).status == "finished" for task in others)

    @pytest.mark.parametrize(
        ("processor", "status"),
        [
            (Confuse("decimal"), "finished"),
            (Confuse("careless"), "error"),
            (ConfuseAsync("decimal"), "finished"),
            (ConfuseAsync("careless"), "error"),
            (ConfuseAsync("late cancel"), "finished"),
            (MisconfiguredRetry(), "error"),
            (MisconfiguredPostpone(), "error"),
            (Generator(), "error"),
        ],
    )
    def test_an_outcome_that_is_hard_to_tell_is_told_all_the_same(self, processor, status):
        """A run that is never reported would be held for as long as its supervisor lives."""
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=60, ttl_seconds=200):
            task = processor.delay()
            after = Write("after").delay()
            wait_until(ended)

        task.refresh_from_db(), after.refresh_from_db()
        assert (task.status, task.claim_seq <= 2, task.lost) == (status, True, 0)
        assert bool(task.errors) == (status == "error")
        assert after.status == "finished"

    @pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC"])
    def test_a_time_out_of_this_world_harms_no_other(self, moment):
        from django.db import connection

        Write("timeless").delay(execute_after=timezone.now() + timedelta(hours=1))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE partisan_async_task SET execute_after = %s", [moment])

        with live_supervisor():
            task = Write("x").delay(execute_after=timezone.now() + timedelta(seconds=0.2))
            wait_until(lambda: Task.objects.filter(pk=task.pk, status="finished").exists())

    def test_queues_have_their_own_supervisors(self):
        with live_supervisor("elsewhere"):
            here = Write("here").delay()
            WriteElsewhere("there").delay()
            wait_until(lambda: marks() == ["there"])

        here.refresh_from_db()
        assert here.status == "new"

    def test_to_wake_takes_no_poll(self):
        """With beats and polls too rare to matter."""
        with live_supervisor(beat_seconds=60, ttl_seconds=200, SLEEP_DELAY_SECONDS=60):
            for number in range(5):
                began = time.monotonic()
                task = Nothing(number).delay()
                wait_until(lambda task=task: ended(task))
                assert time.monotonic() - began < 10

    def test_no_beat_comes_after_the_leave(self):
        """One that did would write the row anew, of a supervisor that has ended."""
        with connection.cursor() as cursor:
            cursor.execute("""
                CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';
                CREATE TRIGGER linger AFTER DELETE ON partisan_async_supervisor
                    FOR EACH ROW EXECUTE FUNCTION linger();
            """)
            try:
                with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1):
                    assert Supervisor.objects.exists()
            finally:
                cursor.execute("DROP FUNCTION linger CASCADE")

        assert not Supervisor.objects.exists()

    def test_without_listen_it_polls(self):
        with live_supervisor(listen=False, SLEEP_DELAY_SECONDS=0.1, beat_seconds=60):
            Write("polled").delay()
            wait_until(ended)

        assert marks() == ["polled"]
