"""Whose a task is: said by its caller or its processor, and kept through all that becomes of it."""

import datetime
import enum
import hashlib
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from partisan_async import registry, schedules, steering
from partisan_async.claim import Claim
from partisan_async.enqueue import arguments
from partisan_async.enqueue.scheduled import tick_of
from partisan_async.exceptions import TaskTimeout
from partisan_async.models import Schedule, Task, UniqueWindow
from partisan_async.operate import reasons
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from partisan_async.steering.timetable import (
    change_schedule,
    checked_stored,
    make_schedule,
    run_once,
)
from partisan_async.task_processor import TaskProcessor
from partisan_async.tasks_backend import options
from partisan_async.testing import assert_enqueued, perform, run_pending
from partisan_async.unique import Unique
from tests import test_ticker, test_timetable
from tests.test_races import Other
from tests.test_ticker import HOURLY
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Fail, Nothing, Retry, Told, Write, WriteUnique
from tests.testapp.tasks import of_account, of_customer

only = test_ticker.only

pytestmark = pytest.mark.django_db(transaction=True)

ADA, BOB = "customer:ada", "customer:bob"


class Owned(TaskProcessor):
    """Its tasks are those of its customer."""

    asked = 0
    STORE_RESULT = True

    def run(self, customer: str, *rest: int, at: datetime.date | None = None) -> str | None:
        assert self.task_obj is not None
        return self.task_obj.subject

    def task_subject(self, customer):
        type(self).asked += 1
        return f"customer:{customer}" if customer else None


class OwnedUntyped(BaseTaskProcessor):
    def run(self):
        pass

    def task_subject(self):
        return self.kwargs.get("whose", self.args[0] if self.args else None)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for each in (Owned, OwnedUntyped):
        monkeypatch.setitem(registry._processors, each.__name__, each)
    Owned.asked = 0


@pytest.fixture
def owned(monkeypatch):
    """Return what makes a processor with this body."""

    def make(base=TaskProcessor, **body):
        made = type("Made", (base,), {"run": lambda self: None, **body})
        monkeypatch.setitem(registry._processors, "Made", made)
        return made

    return make


def subjects():
    return list(Task.objects.order_by("pk").values_list("subject", flat=True))


class TestSaid:
    """By whoever calls."""

    def test_by_each_way_to_enqueue(self):
        async def enqueue():
            (many,) = await Nothing.abulk_delay([Nothing(1)], subject=ADA)
            return [await Nothing(2).adelay(subject=ADA), many]

        made = [
            Nothing(3).delay(subject=ADA),
            *Nothing.bulk_delay([Nothing(n) for n in range(3)], subject=ADA),
            *async_to_sync(enqueue)(),
        ]

        assert [task.subject for task in made] == [ADA] * 6
        assert subjects() == [ADA] * 6
        assert Nothing(4).delay().subject is None

    @pytest.mark.parametrize("count", [3, 1500])
    def test_in_bulk_whatever_it_is_made_of(self, count):
        """It goes as the text of an array, beside arguments that go as lines."""
        odd = 'a "quoted" \\ {text},\nNULL'
        made = Nothing.bulk_delay([Nothing(n) for n in range(count)], subject=odd)

        assert {task.subject for task in made} == {odd}
        assert set(subjects()) == {odd}

    def test_a_row_is_returned_as_a_query_reads_it(self):
        task = Write().delay(subject=ADA)
        (many,) = Write.bulk_delay([Write()], subject=ADA)

        for each in (task, many):
            read = Task.objects.get(pk=each.pk)
            assert each.__dict__.keys() == read.__dict__.keys()
            assert each.subject == read.subject

    @pytest.mark.parametrize(
        ("wrong", "kind", "told"),
        [
            (42, TypeError, "subject is of type int; it must be text such as 'customer:42', or"),
            (b"ada", TypeError, "subject is of type bytes"),
            (Mark(text="x"), TypeError, "subject is of type Mark"),
            ("", ValueError, "subject has 0 characters; it must be text of 1 to 255"),
            ("x" * 256, ValueError, "subject has 256 characters"),
            ("a\x00b", ValueError, "subject contains a NUL character"),
            ("a\ud800b", ValueError, "subject contains the lone surrogate"),
        ],
    )
    def test_what_cannot_be_one_is_refused_at_the_door(self, wrong, kind, told):
        for refused in (
            lambda: Nothing().delay(subject=wrong),
            lambda: async_to_sync(Nothing().adelay)(subject=wrong),
            lambda: Nothing.bulk_delay([Nothing(1), Nothing(2)], subject=wrong),
            lambda: schedules.create("acme", Nothing(), HOURLY, subject=wrong),
        ):
            with pytest.raises(kind, match=told) as raised:
                refused()
            assert type(raised.value) is kind
            assert not isinstance(wrong, str) or len(wrong) < 2 or wrong not in str(raised.value)

        assert (subjects(), Schedule.objects.count()) == ([], 0)

    def test_the_longest_and_the_oddest_that_can_be_one(self):
        for odd in ("x" * 255, "é" * 255, " ", "'; DROP TABLE", "%(x)s %s", "👩‍💻"):
            assert Nothing().delay(subject=odd).subject == odd
            assert Task.objects.filter(subject=odd).exists()

    def test_a_member_of_an_enum_is_its_value(self):
        """psycopg writes a member by its name."""

        class Whose(enum.StrEnum):
            ADA = "customer:ada"

        task = Nothing().delay(subject=Whose.ADA)

        assert type(task.subject) is str
        assert subjects() == [ADA]


class TestAsked:
    """Of the processor, by ``task_subject()``."""

    @pytest.mark.parametrize(
        "call", [lambda: Owned("ada"), lambda: Owned(customer="ada"), lambda: Owned("ada", 1, 2)]
    )
    def test_by_the_parameters_that_it_names_however_they_are_passed(self, call):
        assert call().delay().subject == ADA
        assert subjects() == [ADA]

    def test_once_of_each_call_and_not_by_who_runs_it(self):
        Owned("ada").delay()
        assert Owned.asked == 1
        Owned.bulk_delay([Owned("ada", n) for n in range(10)])
        assert Owned.asked == 11

        run_pending()

        assert Owned.asked == 11

    def test_of_each_in_bulk(self):
        calls = [Owned("ada"), Owned(""), Owned("bob"), Owned("", 1), Owned("ada", 5)]

        made = Owned.bulk_delay(calls)

        assert [task.subject for task in made] == [ADA, None, BOB, None, ADA]
        assert subjects() == [ADA, None, BOB, None, ADA]

    def test_what_the_caller_says_counts_and_it_is_not_asked(self):
        assert Owned("ada").delay(subject=BOB).subject == BOB
        (many,) = Owned.bulk_delay([Owned("ada")], subject=BOB)
        assert (many.subject, Owned.asked) == (BOB, 0)

    def test_it_gets_what_run_gets(self, owned):
        """A default that is left out, and values of the types that are annotated."""
        got = []

        def run(self, a: float, b: datetime.date, *c: int, d: str = "left out", **e: str): ...

        def task_subject(self, a, b, c, d, e):
            got.extend([a, b, c, d, e])

        made = owned(run=run, task_subject=task_subject)
        day = datetime.date(2026, 11, 28)

        made(1, day, 2, 3, x="y").delay()

        assert got == [1.0, day, (2, 3), "left out", {"x": "y"}]
        assert [type(each) for each in got[:2]] == [float, datetime.date]

    def test_a_model_is_the_one_that_is_passed_without_a_query(self, owned):
        def run(self, mark: Mark, others: list[Mark]): ...

        def task_subject(self, mark, others):
            return f"{mark.text}:{others[0].text}"

        made = owned(run=run, task_subject=task_subject)
        mark = Mark.objects.create(text="ada")
        call = made(mark, [SimpleLazyObject(lambda: mark)])

        with CaptureQueriesContext(connection) as queries:
            assert call.delay().subject == "ada:ada"
        assert len(queries) == 1

    def test_without_parameters_it_takes_the_call(self):
        assert OwnedUntyped(ADA).delay().subject == ADA
        assert OwnedUntyped(whose=BOB).delay().subject == BOB
        assert OwnedUntyped().delay().subject is None

    def test_it_may_be_static_or_of_the_class(self, owned):
        def run(self, a: str): ...

        for kind in (staticmethod(lambda a: a), classmethod(lambda cls, a: a)):
            assert owned(run=run, task_subject=kind)("ada").delay().subject == "ada"

    def test_a_class_may_have_a_subject_of_its_own(self, owned):
        """As each mail has."""
        made = owned(BaseTaskProcessor, subject="Welcome!")
        assert made().delay().subject is None

    @pytest.mark.parametrize("bulk", [False, True])
    def test_an_error_of_it_names_the_class(self, owned, bulk):
        def task_subject(self):
            raise KeyError("customer")

        made = owned(task_subject=task_subject)

        with pytest.raises(ValueError, match=r"Made.task_subject\(\) raised KeyError: 'customer'"):
            made.bulk_delay([made()]) if bulk else made().delay()
        assert subjects() == []

    @pytest.mark.parametrize(
        ("answer", "kind", "told"),
        [
            (5, TypeError, r"What Made.task_subject\(\) returned is of type int"),
            ("", ValueError, r"What Made.task_subject\(\) returned has 0 characters"),
            ("a\x00", ValueError, r"What Made.task_subject\(\) returned contains a NUL"),
        ],
    )
    def test_an_answer_that_cannot_be_one_is_refused(self, owned, answer, kind, told):
        made = owned(task_subject=lambda self: answer)

        with pytest.raises(kind, match=told):
            made().delay()

    def test_a_time_limit_that_strikes_there_is_that_of_the_run(self, owned):
        """A task that enqueues must not take it for an error of the call."""

        def task_subject(self):
            raise TaskTimeout(1)

        with pytest.raises(TaskTimeout):
            owned(task_subject=task_subject)().delay()

    def test_what_it_cannot_have_is_refused_where_the_check_was_not_heard(self, owned):
        with pytest.raises(TypeError, match=r"asks for who, which is no parameter of its run\(\)"):
            owned(task_subject=lambda self, who: who)().delay()


class TestIdentical:
    """Calls of two subjects are never the same."""

    def test_a_call_without_one_has_the_digest_of_ever(self):
        """Else no call that waits would be known after an upgrade."""
        task = WriteUnique("a").delay()
        (many,) = WriteUnique.bulk_delay([WriteUnique("b")])

        for each, argument in ((task, "a"), (many, "b")):
            text = f'{{"args":["{argument}"],"kwargs":{{}}}}'
            assert bytes(each.digest) == hashlib.sha256(f"WriteUnique\n{text}".encode()).digest()

    @pytest.mark.parametrize(
        "rule",
        [
            None,
            {},
            {"by": ("customer",)},
            {"by": ("customer",), "while_running": True},
            {"by": (), "within_seconds": 3600},
        ],
    )
    @pytest.mark.parametrize("bulk", [False, True])
    def test_another_subject_is_another_call(self, monkeypatch, rule, bulk):
        monkeypatch.setattr(Owned, "UNIQUE", None if rule is None else Unique(**rule))

        def enqueue(subject):
            call = Owned("ada" if subject else "")
            return (
                Owned.bulk_delay([call], subject=subject)[0]
                if bulk
                else call.delay(subject=subject)
            )

        first = [enqueue(subject) for subject in (None, ADA, BOB)]
        again = [enqueue(subject) for subject in (None, ADA, BOB)]

        assert len({task.pk for task in first}) == 3
        assert [task.pk for task in first] == [task.pk for task in again]
        assert all(task.is_twin for task in again)
        assert [task.subject for task in again] == [None, ADA, BOB]

    @pytest.mark.parametrize("while_running", [False, True])
    def test_in_one_bulk(self, monkeypatch, while_running):
        monkeypatch.setattr(Owned, "UNIQUE", Unique(by=("at",), while_running=while_running))

        made = Owned.bulk_delay([Owned(who) for who in ("ada", "bob", "ada", "", "")])

        assert [task.subject for task in made] == [ADA, BOB, ADA, None, None]
        assert made[0].pk == made[2].pk != made[1].pk
        assert made[3].pk == made[4].pk
        assert sorted(subjects(), key=str) == [None, ADA, BOB]

    def test_no_two_pairs_of_arguments_and_subject_are_mixed_up(self):
        one = arguments.digest("X", '{"args":[],"kwargs":{}}', "a\nb")
        other = arguments.digest("X", '{"args":[],"kwargs":{}}\na', "b")
        assert one == other  # but no encoded call has a line break:
        assert "\n" not in arguments.encode(("a\nb",), {"c\n": "\n"})

    def test_a_twin_that_is_replaced_stays_of_its_subject(self, monkeypatch):
        monkeypatch.setattr(Owned, "UNIQUE", Unique(by=("customer",), on_twin="replace"))
        Owned("ada", 1).delay()

        task = Owned("ada", 2).delay()

        assert (task.is_twin, task.args, task.subject) == (True, ["ada", 2], ADA)

    def test_a_window_is_of_its_tasks_subject(self, monkeypatch):
        monkeypatch.setattr(Owned, "UNIQUE", Unique(within_seconds=3600))
        Owned("ada").delay(), Owned("").delay()
        Task.objects.all().delete()

        again = Owned("ada").delay()

        assert sorted(UniqueWindow.objects.values_list("subject", flat=True), key=str) == [
            None,
            ADA,
        ]
        assert (again.is_twin, again.subject) == (True, ADA)

    def test_why_names_the_twin_of_the_same_subject_alone(self):
        failed = WriteUnique().delay(subject=ADA)
        Task.objects.update(status="error", finished_at=timezone.now())
        twin, other = WriteUnique().delay(subject=ADA), WriteUnique().delay(subject=BOB)
        steering.retry([failed.pk])

        told = " ".join(reasons.why(Task.objects.get(pk=failed.pk)))

        assert f"An identical call waits: {twin.pk}." in told
        assert str(other.pk) not in told


class TestKept:
    """By whatever becomes of the task."""

    def test_run_reads_it(self):
        task = Owned("ada").delay()
        run_pending()
        task.refresh_from_db()

        assert task.result == ADA
        assert perform(Owned, ["bob"]).task.result == BOB

    def test_a_claim_does_not_bring_it(self):
        """A run that asks for it reads it from the row; the others cost no more than before."""
        assert "subject" not in Claim._fields

    def test_through_retries_and_by_hand(self):
        task = Retry().delay(subject=ADA)
        for _ in range(3):
            run_pending(until=timezone.now() + timedelta(days=1), errors="keep")
        assert Task.objects.get().subject == ADA
        Task.objects.update(status="error", finished_at=timezone.now())
        steering.retry([task.pk])
        steering.cancel([task.pk])

        assert Task.objects.get().subject == ADA

    def test_by_the_call_that_tells_of_its_error(self, monkeypatch):
        monkeypatch.setattr(Fail, "ON_ERROR", Told)
        failed = [Fail("ValueError").delay(subject=ADA), Fail("ValueError").delay()]
        run_pending(errors="keep")

        told = {task.args[0]: task.subject for task in Task.objects.filter(processor_class="Told")}
        assert told == {failed[0].pk: ADA, failed[1].pk: None}

    def test_assertions_of_the_kit_return_it(self):
        Owned("ada").delay()
        assert assert_enqueued(Owned, customer="ada").subject == ADA


class TestOtherArguments:
    """Given by an operator to a task that failed."""

    def retried(self, call, to):
        task = call
        Task.objects.update(status="error", finished_at=timezone.now())
        steering.retry([task.pk], arguments={"args": [to], "kwargs": {}})
        return Task.objects.get(pk=task.pk)

    def test_the_processor_says_anew_whose_it_is(self):
        task = self.retried(Owned("ada").delay(), "bob")

        assert task.subject == BOB
        assert Owned("bob").delay().pk == task.pk

    def test_else_it_stays(self):
        assert self.retried(Owned("ada").delay(), "").subject == ADA
        assert self.retried(Nothing(1).delay(subject=ADA), 2).subject == ADA

    def test_where_it_is_a_model_it_is_fetched(self, owned):
        def run(self, mark: Mark): ...

        made = owned(run=run, task_subject=lambda self, mark: mark.text)
        one, two = Mark.objects.create(text="one"), Mark.objects.create(text="two")

        assert self.retried(made(one).delay(), two.pk).subject == "two"
        with pytest.raises(ValueError, match="is not in database 'default' any more"):
            self.retried(made(one).delay(), 0)

    def test_what_its_own_init_raises_is_told(self, owned):
        """It may look into what an operator has left out."""

        def init(self, *args, **kwargs):
            BaseTaskProcessor.__init__(self, *args, **kwargs)
            self.whose = kwargs["whose"]

        body = {"__init__": init, "task_subject": lambda self: self.whose}
        owned(base=BaseTaskProcessor, **body)(whose=ADA).delay()
        Task.objects.update(status="error", finished_at=timezone.now())
        (pk,) = Task.objects.values_list("pk", flat=True)

        with pytest.raises(ValueError, match=r"Made\(…\) raised KeyError: 'whose'"):
            steering.retry([pk], arguments={"args": [], "kwargs": {}})
        steering.retry([pk], arguments={"args": [], "kwargs": {"whose": BOB}})

        assert subjects() == [BOB]

    def test_what_it_raises_is_told_and_nothing_is_changed(self, owned):
        def task_subject(self):
            return {"ada": ADA}[self.args[0]]

        made = owned(BaseTaskProcessor, task_subject=task_subject)

        with pytest.raises(ValueError, match="raised KeyError: 'bob'"):
            self.retried(made("ada").delay(), "bob")
        assert (Task.objects.get().args, subjects()) == (["ada"], [ADA])


class TestSchedules:
    def tick(self, name="acme"):
        test_timetable.late(name)
        test_timetable.Host().turn()
        return Task.objects.latest("pk")

    def test_made_at_run_time_its_tasks_are_of_its_subject(self):
        made = schedules.create("acme", Nothing(), HOURLY, subject=ADA)

        assert made.subject == ADA
        assert self.tick().subject == ADA
        assert run_once(made).subject == ADA
        assert async_to_sync(schedules.acreate)("acme", Nothing(), HOURLY).subject is None
        assert self.tick().subject is None

    def test_the_processor_is_asked_where_it_is_made_and_not_by_a_supervisor(self):
        """Which runs no code of the project."""
        made = schedules.create("acme", Owned("ada"), HOURLY)
        assert (made.subject, Owned.asked) == (ADA, 1)

        assert self.tick().subject == ADA
        assert Owned.asked == 1

    def test_its_ticks_have_the_digest_of_a_call(self):
        schedules.create("acme", Owned("ada"), HOURLY)
        ticked = self.tick()

        assert Owned("ada").delay().pk == ticked.pk
        assert Owned("ada").delay(subject=BOB).pk != ticked.pk

    def test_another_ones_run_does_not_hold_it_up(self):
        """What it skips for is an identical task."""
        other = Other()
        skipping = Every(seconds=3600, skip_while_running=True)
        schedules.create("acme", Nothing(), skipping, subject=ADA)
        Nothing().delay(subject=BOB), Nothing().delay()
        assert len(other.claim(2)) == 2

        assert self.tick().subject == ADA
        (claim,) = other.claim()
        assert claim.processor_class == "Nothing"
        self.tick()
        assert Task.objects.count() == 3
        other.connection.close()

    def test_changed_in_the_admin_it_stays_or_is_said_anew(self):
        plain = schedules.create("plain", Nothing(), HOURLY, subject=ADA)
        asked = schedules.create("asked", Owned("ada"), HOURLY)

        one, bob = '{"args":[1],"kwargs":{}}', '{"args":["bob"],"kwargs":{}}'
        called = checked_stored(Nothing, one, kept=plain.subject)
        assert change_schedule(plain, called, HOURLY).subject == ADA
        called = checked_stored(Owned, bob, kept=asked.subject)
        assert change_schedule(asked, called, HOURLY).subject == BOB
        assert make_schedule("made", Owned, called, HOURLY).subject == BOB
        assert checked_stored(Owned, bob, ADA).subject == ADA

    def test_those_of_the_code_are_asked_as_a_supervisor_starts(self, only):
        (report,) = only(Report=HOURLY).values()
        report.task_subject = lambda self: ADA

        assert tick_of(report, report.SCHEDULE).subject == ADA
        host = test_ticker.Host()
        host.turn()
        test_ticker.late()
        host.turn()

        assert subjects() == [ADA]


class TestDjangosTasks:
    def test_by_parameters_of_the_function_and_their_defaults(self):
        of_customer.enqueue("ada"), of_customer.enqueue(customer="bob"), of_customer.enqueue()

        assert subjects() == [ADA, BOB, None]

    def test_with_other_arguments_it_is_said_anew(self):
        of_customer.enqueue("ada")
        Task.objects.update(status="error", finished_at=timezone.now())
        steering.retry([Task.objects.get().pk], arguments={"args": ["bob"], "kwargs": {}})

        assert subjects() == [BOB]

    def test_with_unique_it_counts(self):
        first = of_customer.enqueue("ada", "note")

        assert of_customer.enqueue("ada", "another").id == first.id
        assert of_customer.enqueue("bob", "note").id != first.id

    @pytest.mark.parametrize(
        ("subject", "told"),
        [
            (lambda who: who, r"@options\(subject=…\) is by 'who', which is no parameter of func"),
            ("customer:42", r"@options\(subject='customer:42'\): it must be a plain function"),
            (5, "must be a plain function of the task's parameters"),
        ],
    )
    def test_what_cannot_be_is_refused_at_import(self, subject, told):
        def function(customer): ...

        with pytest.raises(TypeError, match=told):
            options(subject=subject)(function)

    def test_an_async_one_is_refused(self):
        async def subject(customer): ...

        with pytest.raises(TypeError, match="must be a plain function"):
            options(subject=subject)

    def test_an_error_of_it_names_the_task(self):
        with pytest.raises(
            ValueError, match=r"subject=….* of tests.testapp.tasks.of_customer rais"
        ):
            of_customer.enqueue(5)
        with pytest.raises(ValueError, match="returned has 0 characters"):
            of_customer.enqueue("empty")

    def test_with_other_arguments_it_is_the_same_error(self):
        of_customer.enqueue("ada")
        Task.objects.update(status="error", finished_at=timezone.now())

        with pytest.raises(
            ValueError, match=r"^@options\(subject=…\) of tests.testapp.tasks.of_customer raised"
        ):
            steering.retry([Task.objects.get().pk], arguments={"args": [5], "kwargs": {}})
        with pytest.raises(TypeError, match="takes"):
            steering.retry([Task.objects.get().pk], arguments={"args": [1, 2, 3], "kwargs": {}})

    def test_of_a_parameter_below_a_decorator_it_takes_what_is_named(self):
        of_account.enqueue(account="ada"), of_account.enqueue()
        assert subjects() == [ADA, "customer:all"]

        with pytest.raises(TypeError, match="which argument is its account: pass account=…"):
            of_account.enqueue("ada")


class TestCost:
    """A project that says nothing of subjects pays nothing for them."""

    def test_a_call_is_one_statement_whether_it_has_one_or_not(self):
        for enqueue in (
            lambda: Nothing().delay(),
            lambda: Nothing().delay(subject=ADA),
            lambda: Nothing.bulk_delay([Nothing(n) for n in range(1000)]),
            lambda: Nothing.bulk_delay([Nothing(n) for n in range(1000)], subject=ADA),
        ):
            with CaptureQueriesContext(connection) as queries:
                enqueue()
            written = [each for each in queries if "INSERT" in each["sql"]]
            assert len(written) == 1
            assert len(queries) <= 3  # BEGIN and COMMIT of a bulk

    @pytest.mark.parametrize("rule", [None, {}, {"while_running": True, "within_seconds": 60}])
    @pytest.mark.parametrize("bulk", [False, True])
    def test_a_call_that_is_nobodys_is_the_statement_of_before(self, monkeypatch, rule, bulk):
        """It names no new column: so it runs beside a migration that is not made yet."""
        monkeypatch.setattr(Owned, "UNIQUE", None if rule is None else Unique(**rule))

        with CaptureQueriesContext(connection) as queries:
            Owned.bulk_delay([Owned("")] * 2) if bulk else Owned("").delay()

        assert "INSERT INTO partisan_async_task" in str(queries.captured_queries)
        assert "subject" not in str(queries.captured_queries)

    def test_rows_without_one_are_in_no_index_of_it(self):
        size = "SELECT pg_relation_size('partisan_async_subject')"
        with connection.cursor() as cursor:
            cursor.execute(size)
            before = cursor.fetchone()
            Nothing.bulk_delay([Nothing(n) for n in range(2000)])
            run_pending(most_more=0, queue_name="nobody's")
            Task.objects.update(status="finished", finished_at=timezone.now())
            cursor.execute(size)
            assert cursor.fetchone() == before
