"""One bulk_delay() of calls of different processors: as of one, in as few statements."""

import datetime
import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async import signals
from partisan_async.enqueue import taking
from partisan_async.enqueue.bulk import INSERTED_AT_ONCE
from partisan_async.enqueue.taking import TAKEN_AT_MOST
from partisan_async.exceptions import ArgumentsTooLarge, ProcessorClassNotFound
from partisan_async.models import Task, UniqueWindow
from partisan_async.processor import BaseTaskProcessor
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.test_bulk import in_opposite_orders, many_at_once, statements
from tests.test_enqueue import ears
from tests.test_taking import Begun, advisory_locks, elsewhere
from tests.test_unique import unique
from tests.testapp.partisan_tasks import (
    Nothing,
    NothingTyped,
    SendMail,
    Sync,
    SyncUntyped,
    Told,
    Write,
    WriteElsewhere,
    WriteFirst,
    WriteUnique,
)

__all__ = ["ears", "elsewhere", "unique"]  # fixtures

bulk_delay = BaseTaskProcessor.bulk_delay

KINDS = (Write, WriteUnique, WriteElsewhere, SendMail, WriteFirst)
"""Of two queues and two priorities, some unique and some not, one with a name of its own."""


def mixed(count, kinds=KINDS):
    """Return so many calls, each of another processor than the one before."""
    return [kinds[number % len(kinds)](number) for number in range(count)]


def told(task):
    return type(task).__name__, task.args


@pytest.mark.django_db
class TestRows:
    @pytest.mark.parametrize("count", [2, 1000, 2500])
    def test_they_come_in_the_order_of_the_calls(self, count):
        """The ids too: they decide which one starts first."""
        calls = mixed(count)

        tasks = bulk_delay(calls)

        assert [task.args for task in tasks] == [[number] for number in range(count)]
        assert [task.pk for task in tasks] == sorted(task.pk for task in tasks)
        assert Task.objects.count() == count

    @pytest.mark.parametrize("captured", [True, False], ids=["by a cursor", "in flight"])
    @pytest.mark.parametrize("hours", [None, 1])
    def test_each_is_what_the_database_holds(self, hours, captured):
        """Not all of it was sent back."""
        later = hours and timezone.now() + datetime.timedelta(hours=hours)
        calls = [*mixed(10), WriteElsewhere(1, ("two",), x={"y": "ж\n"}), Nothing()]

        if captured:
            with CaptureQueriesContext(connection):
                tasks = bulk_delay(calls, execute_after=later)
        else:
            tasks = bulk_delay(calls, execute_after=later)

        for task in tasks:
            row = Task.objects.get(pk=task.pk)
            for field in Task._meta.concrete_fields:
                held, told = getattr(row, field.attname), getattr(task, field.attname)
                held = bytes(held) if isinstance(held, memoryview) else held
                assert (told, type(told)) == (held, type(held)), field.attname

    def test_each_is_as_delay_makes_it(self):
        ones = [call.delay() for call in mixed(10)]
        Task.objects.all().delete()

        for one, task in zip(ones, bulk_delay(mixed(10)), strict=True):
            for field in Task._meta.concrete_fields:
                if field.attname not in ("id", "created_at", "execute_after"):
                    assert getattr(one, field.attname) == getattr(task, field.attname), field

    def test_queue_priority_and_time_are_of_all_calls_where_they_are_given(self):
        later = timezone.now() + datetime.timedelta(hours=1)

        tasks = bulk_delay(mixed(5), queue_name="mail", priority=3, execute_after=later)

        facts = {(each.queue_name, each.priority, each.execute_after) for each in tasks}
        assert facts == {("mail", 3, later)}

    def test_a_generator_will_do(self):
        tasks = bulk_delay(call for call in mixed(7))

        assert [task.args for task in tasks] == [[number] for number in range(7)]

    def test_run_pending_runs_them(self):
        bulk_delay([Write("a"), WriteUnique("b"), WriteFirst("first")])

        run_pending()

        assert marks() == ["first", "a", "b"]

    @pytest.mark.django_db(transaction=True)
    async def test_from_async_code_too(self):
        tasks = await BaseTaskProcessor.abulk_delay(mixed(3))

        assert [task.processor_class for task in tasks] == [
            "Write",
            "WriteUnique",
            "WriteElsewhere",
        ]


@pytest.mark.django_db
class TestStatements:
    def sent(self, enqueue):
        with CaptureQueriesContext(connection) as captured:
            enqueue()
        return statements(captured)

    def test_a_thousand_take_one_statement_and_each_queue_one_wake(self, ears):
        (insert,) = self.sent(lambda: bulk_delay(mixed(1000)))

        assert "INSERT" in insert
        assert sorted(ears()) == ["default", "elsewhere"]

    def test_two_and_a_half_thousand_take_three_and_one_for_their_ids(self):
        ids, *inserts = self.sent(lambda: bulk_delay(mixed(2500)))

        assert "nextval" in ids
        assert len(inserts) == 3
        assert all("INSERT" in insert for insert in inserts)

    def test_none_take_none(self):
        assert self.sent(lambda: bulk_delay([])) == []
        assert bulk_delay([]) == []

    @pytest.mark.parametrize("kind", [Write, WriteUnique, Sync])
    @pytest.mark.parametrize("count", [3, 1500])
    @pytest.mark.parametrize("rule", [None, {"while_running": True}])
    def test_those_of_one_processor_are_those_of_its_own(self, unique, kind, count, rule):
        """Whoever has no need of more gets the statement that takes the least."""
        if rule is not None:
            unique(**rule)
        sent = [
            self.sent(lambda whose=whose: whose.bulk_delay([kind(str(n)) for n in range(count)]))
            for whose in (kind, BaseTaskProcessor)
            if Task.objects.all().delete()
        ]

        own, bases = ([re.sub(r"'[^']*'|\d+", "…", each) for each in one] for one in sent)
        assert own == bases
        assert not any("JOIN kind" in each for each in own)

    def test_beside_a_rule_of_unique_there_are_two_and_one_for_the_ids(self, unique):
        unique(while_running=True)

        sent = self.sent(lambda: bulk_delay([Sync("ada"), Write(1), WriteElsewhere(2), Sync("b")]))

        assert ["nextval" in each for each in sent].count(True) == 3  # the inserts could draw, too
        assert ["INSERT" in each for each in sent] == [False, True, True]

    def test_the_calls_of_one_kind_beside_a_rule_are_sent_as_those_of_one(self, unique):
        unique(while_running=True)

        sent = self.sent(lambda: bulk_delay([Sync("ada"), Write(1), Write(2)]))

        assert not any("JOIN kind" in each for each in sent)


@pytest.mark.django_db
class TestWhose:
    """Which calls it takes: those of its class, and of classes that derive from it."""

    def test_of_derived_classes(self):
        tasks = Write.bulk_delay([Write(1), WriteUnique(2), WriteElsewhere(3)])

        assert [task.processor_class for task in tasks] == [
            "Write",
            "WriteUnique",
            "WriteElsewhere",
        ]

    def test_typed_and_untyped_ones(self):
        tasks = bulk_delay([Told(5), Write(1), NothingTyped(5)])

        assert [task.processor_class for task in tasks] == ["Told", "Write", "NothingTyped"]
        assert len(TaskProcessor.bulk_delay([Told(6), NothingTyped(6)])) == 2

    @pytest.mark.parametrize(
        ("whose", "wrong", "words"),
        [
            (
                WriteUnique,
                Write(1),
                r"type Write, which is no WriteUnique; BaseTaskProcessor\.bulk",
            ),
            (TaskProcessor, Write(1), r"which is no TaskProcessor; BaseTaskProcessor\.bulk_delay"),
            (BaseTaskProcessor, (1,), r"type tuple, .*; pass BaseTaskProcessor\.bulk_delay\(\[Pay"),
            (BaseTaskProcessor, Write, "the class Write, which is no BaseTaskProcessor"),
            (BaseTaskProcessor, None, "type NoneType, which is no BaseTaskProcessor"),
        ],
    )
    def test_no_others(self, whose, wrong, words):
        first = WriteUnique(1) if whose is not TaskProcessor else Told(1)
        with pytest.raises(TypeError, match=f"^Call 1 is .*{words}"):
            whose.bulk_delay([first, wrong])

        assert not Task.objects.exists()

    def test_a_single_call_is_no_list(self):
        with pytest.raises(TypeError, match=r"BaseTaskProcessor.*pass \[Write\(…\), Write\(…\)\]"):
            bulk_delay(Write(1))
        with pytest.raises(TypeError, match=r"got a value of type int.*\[Pay\(…\), Ship\(…\)\]"):
            bulk_delay(5)


class Stray(BaseTaskProcessor):
    """It is not registered."""

    def run(self):
        pass


class Forgetful(Write):
    def __init__(self, name):
        self.name = name


def endless():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.django_db
class TestRefused:
    """All are checked before the first is enqueued, and the message says which one is wrong."""

    @pytest.mark.parametrize(
        ("wrong", "error", "words"),
        [
            (lambda: Write(object()), TypeError, r"args\[0\] is of type object"),
            (lambda: Told("5"), TypeError, "Told: task_id is of type str"),
            (lambda: Write(endless()), ValueError, "contain themselves"),
            (lambda: Write("x" * 2**20), ArgumentsTooLarge, "of queue 'default'"),
            (lambda: WriteElsewhere("x" * 2**20), ArgumentsTooLarge, "of queue 'elsewhere'"),
            (Stray, ProcessorClassNotFound, "'Stray' is not registered"),
            (lambda: Forgetful("a"), TypeError, "must call super"),
        ],
    )
    def test_a_wrong_call_in_the_middle_enqueues_nothing(self, wrong, error, words):
        calls = [*mixed(1500), wrong(), *mixed(10)]

        with pytest.raises(error, match=f"^Call 1500: .*{words}"):
            bulk_delay(calls)

        assert not Task.objects.exists()

    def test_what_unique_is_by_has_to_be_passed_by_each(self, unique):
        unique(SyncUntyped)
        calls = [Write(1), SyncUntyped(account="ada"), Write(2), SyncUntyped("ada")]

        with pytest.raises(TypeError, match=r"^Call 3: .*pass account=…"):
            bulk_delay(calls)

        assert not Task.objects.exists()

    def test_a_transaction_of_the_callers_goes_on(self, unique):
        unique(SyncUntyped, while_running=True)
        with transaction.atomic():
            Write("kept").delay()
            with pytest.raises(TypeError, match="Call 2"):
                bulk_delay([Write(1), SyncUntyped(account="ada"), SyncUntyped()])
            Write("kept too").delay()

        assert Task.objects.count() == 2

    @pytest.mark.parametrize("name", ["QUEUE_NAME", "PRIORITY"])
    def test_a_class_that_cannot_be(self, monkeypatch, name):
        monkeypatch.setattr(WriteElsewhere, name, "")

        with pytest.raises(ValueError, match=r"^Call 2: "):
            bulk_delay(mixed(5))

        assert not Task.objects.exists()


@pytest.mark.django_db
class TestUnique:
    def test_identical_calls_share_a_row_and_others_do_not(self):
        calls = [WriteUnique(1), Write(1), SendMail(1), WriteUnique(1), Write(1), SendMail(1)]

        tasks = bulk_delay(calls)

        assert [tasks.index(task) for task in tasks] == [0, 1, 2, 0, 4, 2]
        assert Task.objects.count() == 4

    def test_also_across_statements(self):
        calls = [(WriteUnique, Write, SendMail)[n % 3](n % 1500) for n in range(3000)]

        tasks = bulk_delay(calls)

        for n in range(1500):
            assert (tasks[n].pk == tasks[n + 1500].pk) == (n % 3 != 1)
        assert Task.objects.count() == 2000

    def test_calls_that_wait_are_found_under_old_names_and_in_other_queues(self, ears):
        one, two = WriteUnique(1).delay(queue_name="elsewhere"), SendMail(2).delay()
        Task.objects.filter(pk=two.pk).update(processor_class="Mail", status="scheduled")
        ears()

        zero, *twins, last = bulk_delay([Write(0), WriteUnique(1), SendMail(2), WriteFirst(3)])

        assert twins == [one, two]
        assert [task.is_twin for task in twins] == [True, True]
        assert twins[1].processor_class == "Mail"
        assert zero.pk < last.pk
        assert sorted(ears()) == ["default", "default", "elsewhere"]  # new, and scheduled

    @pytest.mark.django_db(transaction=True)
    def test_one_that_another_transaction_has_is_enqueued_beside_it(self, elsewhere, monkeypatch):
        """In the end without a digest; the others keep theirs."""
        monkeypatch.setattr(taking, "PAUSES_SECONDS", (0, 0))
        with Begun(elsewhere):
            elsewhere.do(lambda: WriteUnique(1).delay())

            tasks = bulk_delay([Write(0), WriteUnique(1), SendMail(2), WriteElsewhere(3)])

        assert [task.args for task in tasks] == [[0], [1], [2], [3]]
        assert [task.digest is None for task in tasks] == [True, True, False, True]
        assert [(task.processor_class, task.queue_name) for task in tasks[1:]] == [
            ("WriteUnique", "default"),
            ("testapp.SendMail", "default"),
            ("WriteElsewhere", "elsewhere"),
        ]
        assert Task.objects.count() == 5


@pytest.mark.django_db(transaction=True)
class TestTaken:
    def test_digests_are_taken_and_calls_without_one_take_none(self):
        with transaction.atomic():
            bulk_delay([Write(1), WriteUnique(2), SendMail(3), WriteElsewhere(4)])

            assert advisory_locks() == 2

    def test_as_many_as_may_be_are_counted_by_those_that_have_one(self):
        with transaction.atomic():
            bulk_delay([*mixed(1000, [Write, WriteElsewhere]), *mixed(64, [WriteUnique, SendMail])])
            assert advisory_locks() == TAKEN_AT_MOST

            bulk_delay([WriteUnique("one more"), Write(1)])
            assert advisory_locks() == TAKEN_AT_MOST

    def test_callers_in_opposite_orders_wait_for_nobody(self, elsewhere):
        with transaction.atomic(), Begun(elsewhere):
            bulk_delay([WriteUnique(1), SendMail(2)])
            elsewhere.do(lambda: bulk_delay([SendMail(3), WriteUnique(4)]))
            bulk_delay([WriteUnique(4), SendMail(3), Write(5)])
            elsewhere.do(lambda: bulk_delay([SendMail(2), WriteUnique(1), Write(6)]))

        assert Task.objects.count() == 10


RULES = [{"while_running": True}, {"on_twin": "replace"}, {"within_seconds": 3600}]


@pytest.mark.django_db(transaction=True)
class TestRules:
    """Calls of a processor whose ``UNIQUE`` says more go by statements of their own."""

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("count", [6, 2400])
    def test_rows_and_ids_are_in_the_order_of_the_calls(self, unique, rule, count):
        unique(**rule)
        calls = [(Write, Sync, WriteElsewhere)[n % 3](str(n)) for n in range(count)]

        tasks = bulk_delay(calls)

        assert [task.args for task in tasks] == [[str(n)] for n in range(count)]
        assert [task.pk for task in tasks] == sorted(task.pk for task in tasks)
        assert Task.objects.count() == count

    @pytest.mark.parametrize("count", [1, 600])
    def test_of_several_for_one_key_the_first_one_s_place_counts(self, unique, count):
        unique(on_twin="replace")
        calls = [(Sync if n % 2 else Write)(str(n % (2 * count)), "note") for n in range(4 * count)]

        tasks = bulk_delay(calls)

        assert tasks[1].pk == tasks[2 * count + 1].pk
        assert [task.pk for task in tasks[: 2 * count]] == sorted(
            task.pk for task in tasks[: 2 * count]
        )
        assert Task.objects.count() == 3 * count

    def test_two_of_them(self, unique):
        unique(while_running=True)
        unique(SyncUntyped, on_twin="sooner", within_seconds=60)
        SyncUntyped(account="ada").delay(execute_after=timezone.now() + datetime.timedelta(hours=1))

        tasks = bulk_delay(
            [SyncUntyped(account="ada"), Sync("ada"), Write(1), Sync("ada", "again")]
        )

        assert [task.status for task in tasks] == ["new"] * 4
        assert [task.is_twin for task in tasks] == [True, False, False, False]
        assert tasks[1].pk == tasks[3].pk
        assert UniqueWindow.objects.count() == 1

    def test_each_queue_is_woken_once(self, unique, ears):
        unique(while_running=True)

        with transaction.atomic():
            bulk_delay([Sync("ada"), Write(1), WriteElsewhere(2), Sync("bob")])
            assert ears() == []

        assert sorted(ears()) == ["default", "elsewhere"]

    def test_in_whatever_order_the_calls_are_they_are_inserted_in_one(self, unique):
        """Else two callers could wait for each other."""
        for kind in (Sync, SyncUntyped):
            unique(kind, while_running=True)
        calls = [SyncUntyped(account=1), WriteUnique(1), Sync("a")]
        sent = []
        for each in (calls, calls[::-1]):
            with CaptureQueriesContext(connection) as captured:
                bulk_delay(each)
            sent.append(re.findall(r"'((?:Write|Sync)\w*)'", " ".join(statements(captured))))
            Task.objects.all().delete()

        assert sent[0] == sent[1]
        assert len(sent[0]) == 3

    def test_a_rule_that_says_only_by_what_needs_none_of_its_own(self, unique):
        unique(Sync)
        Sync("ada", "first").delay()

        with CaptureQueriesContext(connection) as captured:
            _, sync = bulk_delay([Write(1), Sync("bob", "x")])
        again, _ = bulk_delay([Sync("ada", "second"), Write(1)])

        assert len(statements(captured)) == 1
        assert (sync.is_twin, again.is_twin) == (False, True)

    @pytest.mark.parametrize("rule", RULES)
    def test_opposite_orders_do_not_deadlock(self, unique, rule):
        unique(**rule)
        unique(SyncUntyped, **rule)
        kinds = [Write, Sync, WriteUnique, SyncUntyped, SendMail]
        calls = [
            SyncUntyped(account=n % 700) if kind is SyncUntyped else kind(str(n % 700))
            for n in range(1500)
            for kind in [kinds[n % len(kinds)]]
        ]

        tasks = in_opposite_orders(bulk_delay, calls)

        assert len(tasks) == 6


@pytest.mark.django_db(transaction=True)
class TestTransaction:
    def test_rolled_back_it_leaves_no_row_and_no_wake(self, ears):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            bulk_delay(mixed(2500))
            raise ZeroDivisionError

        assert ears() == []
        assert not Task.objects.exists()

    def test_it_wakes_each_queue_once_after_the_commit(self, ears):
        with transaction.atomic():
            bulk_delay(mixed(2500))
            assert ears() == []

        assert sorted(ears()) == ["default", "elsewhere"]

    def test_opposite_orders_do_not_deadlock(self):
        """Neither within a statement nor across the statements of one call."""
        calls = mixed(2500, [WriteUnique, SendMail])

        lists = in_opposite_orders(bulk_delay, calls)

        assert len(lists) == 6
        assert Task.objects.count() == 2500
        for tasks in lists:
            assert {task.args[0]: task.pk for task in tasks} == dict(
                Task.objects.values_list("arguments__args__0", "pk")
            )

    def test_they_are_inserted_in_the_order_of_all_digests(self):
        """Whichever statement of either caller a call is in."""
        with CaptureQueriesContext(connection) as captured:
            bulk_delay(mixed(2500, [WriteUnique, Write, SendMail]))

        _, *inserts = statements(captured)
        digests = [re.findall(r"\b[0-9a-f]{64}\b", each) for each in inserts]
        assert sum(map(len, digests)) == len({*digests[0], *digests[1], *digests[2]}) > 1600
        assert max(digests[1]) < min(digests[2])
        assert not digests[0] or max(digests[0]) < min(digests[1])

    def test_neither_do_those_of_one_processor_and_of_many(self):
        """Both insert in the order of all digests."""
        mine = [WriteUnique(n) for n in range(2000)]
        calls = [SendMail(0), *mine]

        assert len(in_opposite_orders(bulk_delay, calls)) == 6
        assert Task.objects.count() == 2001

    def test_supervisors_run_them_in_their_order(self):
        """Of so many that it takes two statements to add them, some of each and where they meet."""
        seam = range(INSERTED_AT_ONCE - 20, INSERTED_AT_ONCE + 20)
        run = sorted({*range(0, INSERTED_AT_ONCE + 200, 25), *seam})
        with live_supervisor(WORKERS_COUNT=1), live_supervisor("elsewhere", WORKERS_COUNT=1):
            with transaction.atomic():
                calls = mixed(
                    INSERTED_AT_ONCE + 200, [Write, SendMail, WriteElsewhere, WriteUnique]
                )
                bulk_delay(calls)
                Task.objects.exclude(arguments__args__0__in=run).delete()
            wait_until(ended)

        ran = [int(mark) for mark in marks()]
        assert [n for n in ran if n % 4 != 2] == [n for n in run if n % 4 != 2]
        assert [n for n in ran if n % 4 == 2] == [n for n in run if n % 4 == 2]

    def test_many_at_once_of_the_same_calls_while_some_are_claimed(self):
        """A call whose twin is claimed is inserted late, below those that its transaction holds."""

        def some(numbers):
            kinds = [numbers.choice(KINDS) for _ in range(900)]
            return [kind(numbers.randrange(2000)) for kind in kinds]

        with live_supervisor(WORKERS_COUNT=1):
            assert many_at_once(bulk_delay, some, times=5) == []


@pytest.mark.django_db
def test_signals_are_sent_by_the_processor_of_each():
    heard = []

    def hear(sender, task, **more):
        heard.append((sender, task.pk))

    signals.task_enqueued.connect(hear)
    try:
        WriteUnique(1).delay()
        del heard[:]
        calls = [Write(0), WriteUnique(1), SendMail(2), WriteUnique(3), WriteUnique(3)]
        tasks = bulk_delay(calls)
    finally:
        signals.task_enqueued.disconnect(hear)

    assert heard == [
        (Write, tasks[0].pk),
        (WriteUnique, tasks[3].pk),
        (SendMail, tasks[2].pk),
    ]
