"""``ON_ERROR``: each end in ``error`` enqueues one call with the task's id, whatever the way there.

The supervisor decides, so the tests set the attribute in this process, of whatever processor.
"""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from partisan_async import registry, steering, store
from partisan_async.checks import check_processors
from partisan_async.claim import Attempt, Settlement
from partisan_async.declared import on_error_of
from partisan_async.enqueue.run import fetch
from partisan_async.models import Supervisor, Task
from partisan_async.policy import (
    RETURNED,
    Cancelled,
    Failed,
    Failure,
    Finished,
    Postponed,
    Retried,
)
from partisan_async.settings import QueueSettings
from partisan_async.task_processor import TaskProcessor
from partisan_async.tasks_backend import options
from partisan_async.testing import assert_enqueued, live_supervisor, perform, run_pending
from partisan_async.testing.bench import Bench
from partisan_async.verdict import Verdicts
from tests.claims import claim
from tests.conftest import ended, marks, wait_until
from tests.site_rules import constraint, refusal, role, trigger
from tests.testapp import partisan_tasks as processors
from tests.testapp import tasks
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AtomicFail,
    AtomicLostClaim,
    CancelItself,
    Die,
    Endless,
    Fail,
    Follow,
    Nothing,
    Pay,
    PostponeByDefault,
    Retry,
    Sleep,
    Told,
    ToldWhy,
    Write,
)


class Unregistered(TaskProcessor):
    def run(self, task_id: int) -> None:
        pass


class Misplaced(Unregistered):
    """Is registered, and may not be enqueued."""

    QUEUE_NAME = ""


class NothingAtAll(TaskProcessor):
    def run(self, *, more: int = 0) -> None:
        pass


class TwoNeeded(TaskProcessor):
    def run(self, a: int, b: int) -> None:
        pass


class OwnInit(TaskProcessor):
    def __init__(self, a, b):
        super().__init__(a, b)

    def run(self):
        pass


class Anything(TaskProcessor):
    def run(self, *args, task_id=None):
        pass


_KNOWN = (NothingAtAll, TwoNeeded, OwnInit, Anything)


@pytest.fixture
def known(monkeypatch):
    """These are registered."""
    found = {each.__name__: each for each in _KNOWN}
    monkeypatch.setattr(registry, "_processors", {**registry._processors, **found})


@pytest.fixture
def told_by(monkeypatch):
    """Sets the ON_ERROR of processors, by default ``Told``."""

    def set_it(*of, on_error=Told):
        for each in of:
            monkeypatch.setattr(each, "ON_ERROR", on_error)

    return set_it


UNHURRIED = {"beat_seconds": 600, "ttl_seconds": 1800, "SLEEP_DELAY_SECONDS": 600}
"""Neither a beat nor a poll comes while a test waits."""


def ending(task, me):
    """Claim a task, and return how it ends, told by ``Told``."""
    (claimed,) = store.claims(fetch(*store.claim_only(me, task.pk)))
    failed = Failed(Failure("a.B", "boom"))
    return Settlement(claimed, failed, Attempt(0.1, "w"), on_error=Told._call_on_error())


def calls(on_error=Told):
    """The ids of tasks that calls were enqueued with, as often as they were."""
    name, _ = registry.names_for_calls(on_error)
    rows = Task.objects.filter(processor_class=name).order_by("id")
    return [task_id for row in rows for task_id in row.arguments["args"]]


def enqueue(name, *args, **changed):
    """Enqueue a call, and change its row before anybody can claim it."""
    call = getattr(processors, name)(*args)
    with transaction.atomic():
        task = call.delay()
        Task.objects.filter(pk=task.pk).update(**changed)
    return task


def a_row_that_is_gone():
    mark = Mark.objects.create(text="gone")
    task = Follow(mark).delay()
    mark.delete()
    return task


WAYS = {
    "an error": lambda: enqueue("Fail", "LookupError"),
    "an error of an async run": lambda: enqueue("AsyncFail"),
    "an error of an atomic run": lambda: enqueue("AtomicFail", "no"),
    "what is no Exception": lambda: enqueue("Die", "SystemExit"),
    "tries used up": lambda: enqueue("Retry", "it", 99, tries=3),
    "postponed too often": lambda: enqueue("Postpone", "it", 99, 0, postpones=5),
    "a pause beyond all time": lambda: enqueue("PostponeTooFar"),
    "a result that cannot be kept": lambda: enqueue("ReturnObject"),
    "a time limit": lambda: enqueue("Endless", "sleep"),
    "a time limit of an async run": lambda: enqueue("EndlessAsync", "sleep"),
    "a time limit that it does not heed": lambda: enqueue("Endless", "C code"),
    "the third death of its worker": lambda: enqueue("Die", "SIGKILL", lost=2),
    "all three deaths": lambda: enqueue("Die", "exit"),
    "arguments that do not fit": lambda: enqueue(
        "NothingTyped", 1, arguments={"args": ["one"], "kwargs": {}}, unrecognised=15
    ),
    "arguments that are none": lambda: enqueue("NothingTyped", 1, arguments=[]),
    "a row that was passed and is gone": a_row_that_is_gone,
    "its session cut off": lambda: enqueue("AtomicCutOff", "ended", 99, interrupted=15),
    "a config that raises": lambda: enqueue("MisconfiguredPostpone"),
}


@pytest.mark.django_db(transaction=True)
class TestEachWay:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_is_enqueued_once(self, way, told_by, monkeypatch):
        """Also where the supervisor alone knows of the end."""
        told_by(*(each for each in registry.processors() if each is not Told))

        task = WAYS[way]()
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Task.objects.count() == 2 and ended())

        task.refresh_from_db()
        (call,) = Task.objects.exclude(pk=task.pk)
        assert (task.status, call.status) == ("error", "finished")
        assert (call.processor_class, call.queue_name) == ("Told", "default")
        assert call.arguments == {"args": [task.pk], "kwargs": {}}
        assert (call.priority, call.digest) == (Told.PRIORITY, None)
        assert f"told of {task.pk}" in marks()

    def test_nothing_else_is_told_of(self, told_by):
        """What has not ended in error, or was cancelled: that is no failure."""
        told_by(*(each for each in registry.processors() if each is not Told))
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1):
            running = Sleep(60, "it").delay()
            wait_until(lambda: "start it" in marks())
            steering.cancel([running.pk])
            others = [
                Write().delay(),
                CancelItself("void").delay(),
                Retry("it", 2).delay(),
                PostponeByDefault("this", 2, 0).delay(),
                enqueue("Pay", uuid.uuid4(), processor_class="NobodyKnowsIt", unrecognised=15),
            ]
            wait_until(lambda: ended(running, *others))

        assert Task.objects.filter(status="error").count() == 3
        assert calls() == []

    def test_after_an_operators_retry_its_next_end_is_told_of_too(self, told_by):
        """Though the first call still waits: an end is not the other."""
        told_by(Fail)
        task = Fail("LookupError").delay()
        steering.pause(processor="Told")
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1):
            wait_until(lambda: ended(task))
            steering.retry([task.pk])
            wait_until(lambda: len(calls()) == 2)

        assert calls() == [task.pk, task.pk]

    def test_a_rescued_run_that_is_the_last_one_is_told_of_by_who_ends_it(self, told_by):
        """The one that was silent is fenced: its own end is not written, and not told of."""
        told_by(Die)
        task = enqueue("Die", "SIGKILL", lost=2)
        gone = Supervisor.objects.create(
            id=uuid.uuid4(), hostname="elsewhere", process={}, queue_name="default"
        )
        Supervisor.objects.update(last_seen_at="2026-01-01T00:00:00Z")
        Task.objects.update(status="in_process", claimed_by=gone.pk, claim_seq=7)

        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1, ttl_seconds=1):
            wait_until(lambda: calls() and ended())

        late = Settlement(
            claim(id=task.pk, claim_seq=7),
            Failed(Failure("Late", "")),
            Attempt(1.0, "w"),
            on_error=Told._call_on_error(),
        )
        with connection.cursor() as cursor:
            cursor.execute(*store.settle(gone.pk, [late]))
            assert cursor.fetchall() == []
        assert calls() == [task.pk]

    def test_an_atomic_run_that_lost_its_claim_tells_nobody(self, told_by):
        """It was another's, and is that one's to tell of."""
        told_by(AtomicLostClaim)
        with live_supervisor(WORKERS_COUNT=1) as supervisor:
            AtomicLostClaim().delay()
            wait_until(lambda: supervisor.parts.settler.fenced)

        assert calls() == []

    def test_what_is_told_runs_at_once_in_its_own_queue(self, told_by):
        """By its priority, under its NAME; and a model's parameter gets the row of the task."""
        told_by(Fail, on_error=ToldWhy)
        with (
            live_supervisor(WORKERS_COUNT=1),
            live_supervisor("elsewhere", WORKERS_COUNT=1, **UNHURRIED) as other,
        ):
            wait_until(other.parts.wakeup.proven.is_set)
            Fail("LookupError", "the shop is closed").delay()
            wait_until(lambda: "told of the shop is closed" in marks())

        (call,) = Task.objects.filter(queue_name="elsewhere")
        assert (call.processor_class, call.priority) == ("testapp.told_why", 3)

    def test_in_its_own_queue_it_runs_at_once_though_nobody_listens(self, told_by):
        """Without --async a supervisor polls, and would come to its own call only then."""
        told_by(Fail)
        task = Fail("LookupError").delay()
        with live_supervisor(WORKERS_COUNT=1, listen=False, **UNHURRIED):
            wait_until(lambda: f"told of {task.pk}" in marks())

    def test_the_line_names_both(self, told_by, caplog):
        caplog.set_level("INFO")
        told_by(Fail)
        with live_supervisor(WORKERS_COUNT=1):
            task = Fail("LookupError").delay()
            wait_until(lambda: Task.objects.count() == 2 and ended())

        (line,) = (each for each in caplog.records if each.event == "on error")
        call = Task.objects.get(processor_class="Told")
        assert line.getMessage() == f"on error {task.pk} Fail: enqueued {call.pk} Told"
        assert (line.task_id, line.enqueued) == (task.pk, call.pk)

    def test_it_is_part_of_the_failed_tasks_trace(self, told_by):
        told_by(Fail)
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        task = enqueue("Fail", "LookupError", traceparent=parent)
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: Task.objects.count() == 2 and ended())

        call = Task.objects.exclude(pk=task.pk).get()
        assert call.traceparent == parent


@pytest.mark.django_db(transaction=True)
class TestRefused:
    """Whatever the database says to the call, the task itself has ended."""

    def test_a_call_that_it_refuses_is_left_out_and_named(self, told_by, caplog):
        told_by(Fail)
        with (
            refusal("NEW.processor_class = 'Told'", on="INSERT"),
            live_supervisor(WORKERS_COUNT=1),
        ):
            bad = Fail("LookupError", "all of it").delay()
            others = [Fail("LookupError").delay(), Write().delay()]
            wait_until(lambda: ended(bad, *others))

        bad.refresh_from_db()
        assert bad.errors[-1]["message"] == "all of it"
        assert "in run\n" in bad.errors[-1]["traceback"]
        assert calls() == []
        lines = [each for each in caplog.records if each.event == "no ON_ERROR"]
        assert {each.task_id for each in lines} == {bad.pk, others[0].pk}
        assert "the site refuses it" in lines[0].getMessage()

    def test_the_line_about_it_tells_no_row(self, told_by, caplog):
        """PostgreSQL's detail quotes the whole row that it refuses."""
        told_by(Fail)
        with constraint("processor_class <> 'Told'"), live_supervisor(WORKERS_COUNT=1):
            task = Fail("LookupError").delay()
            wait_until(lambda: ended(task))

        (line,) = (each for each in caplog.records if each.event == "no ON_ERROR")
        assert 'violates check constraint "site_rule"' in line.getMessage()
        assert "Failing row" not in caplog.text

    def test_a_text_that_it_refuses_costs_no_call(self, told_by):
        """The text is tried without first."""
        told_by(Fail)
        with (
            refusal("NEW.errors::text LIKE '%unheard of%'"),
            live_supervisor(WORKERS_COUNT=1),
        ):
            task = Fail("LookupError", "unheard of").delay()
            wait_until(lambda: ended(task) and calls())

        assert calls() == [task.pk]

    def test_without_the_right_to_insert_tasks_end_all_the_same(self, told_by, as_owner, caplog):
        told_by(Fail)
        with role() as name:
            task = Fail("LookupError").delay()
            as_owner(f"REVOKE INSERT ON partisan_async_task FROM {name}")
            with live_supervisor(WORKERS_COUNT=1):
                wait_until(lambda: ended(task))

        assert calls() == []
        assert "its ON_ERROR cannot be enqueued: permission denied" in caplog.text

    def test_what_may_pass_is_waited_for(self, told_by):
        """Such as a disk that is full: then both are written, or neither."""
        told_by(Fail)
        does = "RAISE EXCEPTION 'full' USING ERRCODE = '53100'"
        with live_supervisor(WORKERS_COUNT=1) as supervisor:
            with trigger(does, "NEW.processor_class = 'Told'", on="INSERT"):
                task = Fail("LookupError").delay()
                wait_until(lambda: supervisor.parts.settler._unwritten.refused.waiting)
                assert Task.objects.get(pk=task.pk).status == "in_process"
            wait_until(lambda: ended() and calls())

        assert calls() == [task.pk]

    def test_a_row_that_is_locked_is_told_of_when_it_is_written(self, told_by, as_owner, caplog):
        told_by(Endless)
        with live_supervisor(WORKERS_COUNT=1):
            task = Endless("sleep").delay()
            wait_until(lambda: Task.objects.filter(status="in_process").exists())
            with transaction.atomic():
                Task.objects.select_for_update().get(pk=task.pk)
                wait_until(lambda: f"locked {task.pk} " in caplog.text)
                assert as_owner("SELECT count(*) FROM partisan_async_task").fetchone() == (1,)
            wait_until(lambda: calls() and ended())

        assert calls() == [task.pk]

    def test_an_answer_that_is_lost_is_no_second_call(self, told_by):
        """The statement is sent again, and the claim is over."""
        told_by(Fail)
        task = Fail("LookupError").delay()
        me = uuid.uuid4()
        settlement = ending(task, me)

        first = fetch(*store.settle(me, [settlement]))
        again = fetch(*store.settle(me, [settlement]))
        gently = fetch(*store.settle(me, [settlement], gently=True))

        (call,) = Task.objects.exclude(pk=task.pk)
        assert (first, again, gently) == ([(task.pk, call.pk)], [], [])

    def test_of_two_that_end_a_claim_at_once_one_tells(self, told_by):
        """The other waits for the row, and then finds that it is not its own any more."""
        task = Fail("LookupError").delay()
        me = uuid.uuid4()
        statement = store.settle(me, [ending(task, me)])
        patient = statement._replace(params=statement.params | {"patience": "60s"})
        barrier = threading.Barrier(2)

        def end():
            try:
                barrier.wait(60)
                return fetch(*patient)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            rows = [each.result() for each in [pool.submit(end), pool.submit(end)]]

        assert sorted(map(len, rows)) == [0, 1]
        assert calls() == [task.pk]

    def test_a_batch_enqueues_those_of_its_failures(self, told_by):
        """In the order of their ids; what waits again beside them is written as ever."""
        me = uuid.uuid4()
        failed = [Fail("LookupError").delay() for _ in range(3)]
        others = [Write().delay() for _ in range(3)]
        settlements = [ending(task, me) for task in [*others, *failed]]
        decisions = [Finished(), Postponed(timedelta(0)), Cancelled(Failure("a.B", ""), "")]
        for place, decision in enumerate(decisions):
            settlements[place] = settlements[place]._replace(decision=decision)

        rows = dict(fetch(*store.settle(me, settlements)))

        assert calls() == [task.pk for task in failed]
        assert {pk for pk, told in rows.items() if told} == {task.pk for task in failed}
        assert [Task.objects.get(pk=each.pk).status for each in others] == [
            "finished",
            "new",
            "error",
        ]


class TestUnused:
    """A project that uses none of it makes the statements that it made."""

    def test_its_settles_are_the_same(self):
        failure = Failure("a.B", "boom")
        plain = [Retried(timedelta(1), failure), Failed(failure), Postponed(timedelta(1))]
        settlements = [
            Settlement(claim(id=n), each, Attempt(1, "w")) for n, each in enumerate(plain)
        ]
        call = Told._call_on_error()
        declared = [each._replace(on_error=call) for each in settlements]

        without = store.settle("me", settlements)
        unfailed = store.settle("me", [declared[0], settlements[1], declared[2]])
        told = store.settle("me", declared)

        assert "INSERT" not in without.sql
        assert "told_queue" not in without.params
        assert unfailed.sql == without.sql
        assert "INSERT" in told.sql
        assert told.params["told_queue"] == [None, "default", None]

    @pytest.mark.django_db
    def test_a_task_that_fails_makes_as_many_statements(self, told_by):
        """And with an ON_ERROR as many, too: the call is no statement of its own."""
        perform(Fail, ["LookupError"])  # what is asked once, is asked here
        counts = []
        for on_error in (None, Told):
            told_by(Fail, on_error=on_error)
            task = Fail("LookupError").delay()
            bench = Bench()
            (claimed,) = bench.claim_only(task)
            with CaptureQueriesContext(connection) as queries:
                bench.run(claimed, None)
            counts.append(len(queries))

        assert counts[0] == counts[1]
        assert calls() == [task.pk]

    def test_a_run_that_finished_is_not_asked_for_it(self, monkeypatch):
        """Most do, and pay nothing for those that fail."""
        monkeypatch.setattr("partisan_async.verdict.on_error_of", None)

        settled = Verdicts(QueueSettings()).settlement(claim(), RETURNED, Attempt(1, "w"))

        assert settled.on_error is None


@pytest.mark.django_db
class TestHere:
    def test_run_pending_enqueues_and_runs_it(self, told_by):
        told_by(Fail)
        task = Fail("LookupError").delay()

        first, second = run_pending(errors="keep")

        assert (first.task, second.task.processor_class) == (task, "Told")
        assert marks() == [f"told of {task.pk}"]

    def test_it_can_be_asserted_without_a_run_of_it(self, told_by):
        told_by(Fail, on_error=ToldWhy)
        task = Fail("LookupError").delay()
        run_pending(queue_name="default", errors="keep")

        assert_enqueued(ToldWhy, args=[task])

    def test_perform_leaves_nothing(self, told_by):
        told_by(Fail)
        perform(Fail, ["LookupError"])

        assert not Task.objects.exists()

    def test_its_own_failure_is_told_to_nobody(self, told_by):
        """It may have what all have, from a common base."""
        told_by(Fail, on_error=Fail)
        Fail("LookupError").delay()

        (ran,) = run_pending(errors="keep", most_more=20)

        assert isinstance(ran.decision, Failed)

    def test_one_that_fails_may_have_another(self, told_by):
        """As a letter, where the message does not get through."""
        told_by(Fail, on_error=AtomicFail)
        told_by(AtomicFail, on_error=Told)
        Fail("LookupError").delay()

        ran = run_pending(errors="keep")

        assert [each.task.processor_class for each in ran] == ["Fail", "AtomicFail", "Told"]
        assert marks() == [f"told of {ran[1].task.pk}"]

    def test_a_circle_enqueues_none_of_its_own(self, told_by):
        """It would go round for ever, at the speed of the machine."""
        told_by(Fail, on_error=AtomicFail)
        told_by(AtomicFail, on_error=Fail)
        told_by(Retry, on_error=Fail)
        task = enqueue("Retry", "it", 99, tries=3)

        ran = run_pending(errors="keep", most_more=20)

        assert on_error_of(Retry) is Fail
        assert [each.task.processor_class for each in ran] == ["Retry", "Fail"]
        assert ran[0].task == task

    @pytest.mark.parametrize("on_error", [Unregistered, "Told", Told(1), Misplaced])
    def test_one_that_cannot_be_enqueued_keeps_no_task_from_ending(
        self, told_by, on_error, caplog, monkeypatch
    ):
        """Each time it is said why."""
        monkeypatch.setitem(registry._processors, "Misplaced", Misplaced)
        told_by(Fail, on_error=on_error)
        for _ in range(2):
            Fail("LookupError").delay()

        ran = run_pending(errors="keep")

        assert [each.task.status for each in ran] == ["error", "error"]
        lines = [each for each in caplog.records if each.event == "no ON_ERROR"]
        assert [each.task_id for each in lines] == [each.task.pk for each in ran]

    def test_one_whose_parameters_do_not_fit_shows_among_the_failed(self, told_by):
        """It is enqueued, and put off as any call that does not fit: here a newer release may."""
        told_by(Fail, on_error=Pay)
        task = Fail("LookupError").delay()
        run_pending(errors="keep")
        Task.objects.exclude(pk=task.pk).update(unrecognised=15, status="new")

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[-1]["exception_class"].endswith("ArgumentsDoNotFit")

    def test_djangos_own_tasks_have_it(self):
        """By ``@options``: a processor, or another of them, with its context."""
        first, second = tasks.fails_and_tells.enqueue(), tasks.fails_and_tells_djangos.enqueue()

        ran = run_pending(errors="keep")

        names = {each.task.processor_class: each.task for each in ran}
        assert names["Told"].args == [int(first.id)]
        told = names["tests.testapp.tasks.told_with_context"]
        assert told.args == [int(second.id)]
        assert told.priority == 5
        result = tasks.told_with_context.get_result(str(told.pk))
        assert result.return_value == [str(told.pk), int(second.id)]


@pytest.mark.parametrize(
    ("on_error", "told"),
    [
        ("Told", "must be a processor class, one of Django's tasks, or None"),
        (Told(1), "must be a processor class, one of Django's tasks, or None"),
        (tasks.cancel, "must take the id of a task alone: Task tests.testapp.tasks.cancel takes "),
        (tasks.write.using(priority=50), "as @task declares it, and nothing of using(…) is kept"),
    ],
)
def test_options_refuse_what_cannot_be(on_error, told):
    """Where it is decorated."""
    with pytest.raises(TypeError, match=re.escape(told)):
        options(on_error=on_error)


def test_options_refuse_one_of_another_backend_where_ours_is_one(settings):
    """A site whose tests run with another one imports the same tasks."""
    backends = type(tasks.write).__module__.removesuffix(".base") + ".backends"
    dummy = {"BACKEND": f"{backends}.dummy.DummyBackend"}
    settings.TASKS = settings.TASKS | {"other": dummy}
    with pytest.raises(TypeError, match="of a PartisanBackend, and has backend='other'"):
        options(on_error=tasks.write.using(backend="other"))

    settings.TASKS = {"default": dummy}

    assert options(on_error=tasks.write)


class TestChecked:
    @pytest.mark.parametrize(
        ("on_error", "check", "told"),
        [
            ("Told", "E004", "Nothing.ON_ERROR is 'Told'."),
            (Told(1), "E004", "Nothing.ON_ERROR is <tests.testapp"),
            (Unregistered, "E027", "Nothing.ON_ERROR is Unregistered, which is not registered"),
            (Pay, "E028", "Nothing.ON_ERROR is Pay, which cannot be called with the id of a task"),
            (Follow, "E028", "alone: it would take that for the key of a Mark."),
            (
                NothingAtAll,
                "E028",
                "the stored call does not fit: it takes 0 by position, and got 1;",
            ),
            (TwoNeeded, "E028", "does not fit: b is missing;"),
            (OwnInit, "E028", "alone: missing a required argument: 'b'."),
        ],
    )
    def test_what_cannot_be_is_a_check_error(self, told_by, known, on_error, check, told):
        told_by(Nothing, on_error=on_error)

        (error,) = check_processors()

        assert error.id == f"partisan_async.{check}"
        assert told in error.msg
        assert error.hint

    def test_a_circle_is_one(self, told_by):
        told_by(Nothing, on_error=Fail)
        told_by(Fail, on_error=Write)
        told_by(Write, on_error=Nothing)

        errors = check_processors()

        assert {each.id for each in errors} == {"partisan_async.E029"}
        assert {each.obj for each in errors} >= {Nothing, Fail, Write}

    @pytest.mark.parametrize("on_error", [None, Told, ToldWhy, Write, Nothing, Anything])
    def test_what_can_be_is_none(self, told_by, known, on_error):
        """Also itself, as from a common base, and what is untyped."""
        told_by(Nothing, on_error=on_error)

        assert check_processors() == []
