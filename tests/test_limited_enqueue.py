"""Each way to enqueue, of calls that start under a limit, and of others, which it costs nothing."""

import datetime
import enum
import json
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async import registry
from partisan_async.claim import Call
from partisan_async.limits import Limit
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.store import bulk, inserting
from partisan_async.store.mixed import insert_mixed
from partisan_async.task_processor import TaskProcessor
from partisan_async.unique import Unique
from tests.testapp.partisan_tasks import Nothing, Write, WriteUnique

pytestmark = pytest.mark.django_db(transaction=True)


class Paid(TaskProcessor):
    UNIQUE_FOR_PARAMS = False
    LIMIT = Limit(running_per_key=2)
    PRIORITY = 7

    def run(self, partner: str | None = "acme", n: int = 0): ...

    def limit_key(self, partner):
        return partner


class PaidOnce(Paid):
    """Its calls are the same if they are written the same."""

    UNIQUE_FOR_PARAMS = True
    NAME = "shop.PaidOnce"
    ALSO_KNOWN_AS = ("OldPaid",)


class Ordered(Paid):
    LIMIT = Limit(in_order=True, name="orders")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for name, each in {"Paid": Paid, "shop.PaidOnce": PaidOnce, "Ordered": Ordered}.items():
        monkeypatch.setitem(registry._processors, name, each)
    monkeypatch.setitem(registry._processors, "OldPaid", PaidOnce)


def row(task):
    return task.status, task.limit_name, task.limit_key, task.limit_rank


def rows(**which):
    return [row(task) for task in Task.objects.filter(**which).order_by("pk")]


LATER = timezone.now() + timedelta(days=1)
BEFORE = timezone.now() - timedelta(days=1)


class TestRows:
    def test_what_each_way_writes(self):
        async def enqueue():
            return [await Paid("ant").adelay(), *await Paid.abulk_delay([Paid("bee")])]

        made = [
            Paid().delay(),
            PaidOnce().delay(),
            *Paid.bulk_delay([Paid("a"), Paid(None), Paid("")]),
            *PaidOnce.bulk_delay([PaidOnce("a"), PaidOnce("b")]),
            *async_to_sync(enqueue)(),
        ]

        assert list(map(row, made)) == rows() == [
            ("limited", "Paid", "acme", 7),
            ("limited", "OldPaid", "acme", 7),
            ("limited", "Paid", "a", 7),
            ("limited", "Paid", None, 7),
            ("limited", "Paid", "", 7),
            ("limited", "OldPaid", "a", 7),
            ("limited", "OldPaid", "b", 7),
            ("limited", "Paid", "ant", 7),
            ("limited", "Paid", "bee", 7),
        ]  # fmt: skip

    @pytest.mark.parametrize("kind", [Paid, PaidOnce, Ordered])
    @pytest.mark.parametrize("at", [None, LATER, BEFORE])
    @pytest.mark.parametrize("subject", [None, "customer:ada"])
    def test_a_task_is_as_a_query_reads_it(self, kind, at, subject):
        one = kind("a").delay(execute_after=at, subject=subject)
        many = kind.bulk_delay([kind("b"), kind("c")], execute_after=at, subject=subject)

        for each in (one, *many):
            read = Task.objects.get(pk=each.pk)
            found, stored = ({**t.__dict__} for t in (each, read))
            found.pop("_state"), stored.pop("_state")
            for digest in (found, stored):
                digest["digest"] = digest["digest"] and bytes(digest["digest"])
            assert found == stored

    def test_one_for_later_is_scheduled_first(self):
        made = [
            Paid().delay(execute_after=LATER),
            *PaidOnce.bulk_delay([PaidOnce()], execute_after=LATER),
            Paid().delay(execute_after=BEFORE),
            *PaidOnce.bulk_delay([PaidOnce("b")], execute_after=BEFORE),
        ]

        assert [task.status for task in made] == ["scheduled"] * 2 + ["limited"] * 2
        assert [task.limit_key for task in made] == ["acme", "acme", "acme", "b"]
        assert list(map(row, made)) == rows()

    def test_the_rank_is_the_priority_unless_in_order(self):
        assert Paid().delay(priority=-3).limit_rank == -3
        assert Paid.bulk_delay([Paid()], priority=2**31 - 1)[0].limit_rank == 2**31 - 1
        assert Ordered().delay(priority=-3).limit_rank == 0
        assert Ordered.bulk_delay([Ordered()], priority=5)[0].limit_rank == 0
        assert [r[1] for r in rows(processor_class="Ordered")] == ["orders", "orders"]

    def test_a_name_that_is_a_member_of_an_enum(self, monkeypatch):
        class Name(enum.StrEnum):
            API = "api"

        monkeypatch.setattr(Paid, "LIMIT", Limit(running=1, name=Name.API))
        task = Paid().delay()
        Paid.bulk_delay([Paid()])

        assert type(task.limit_name) is str
        assert {r[1] for r in rows()} == {"api"}

    def test_what_rolls_back_is_not_there(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Paid().delay()
            Paid.bulk_delay([Paid()])
            raise ZeroDivisionError

        assert rows() == []


class TestBulk:
    @pytest.mark.parametrize("kind", [Paid, PaidOnce])
    def test_a_thousand_a_statement_each_with_its_key(self, kind):
        odd = 'a "quoted" \\ {text},\nNULL'
        calls = [kind(f"{odd}{n % 7}" if n % 3 else None, n) for n in range(2500)]

        with CaptureQueriesContext(connection) as queries:
            made = kind.bulk_delay(calls)

        inserts = [each for each in queries if "INSERT INTO partisan_async_task" in each["sql"]]
        assert len(inserts) in (0, 3)  # in flight they are not captured
        assert [t.limit_key for t in made] == [c.args[0] for c in calls]
        stored = Task.objects.order_by("pk").values_list("limit_key", flat=True)
        assert list(stored) == [c.args[0] for c in calls]

    def test_of_several_processors_with_limits_and_without(self):
        calls = [Nothing(1), Paid("a"), Write(), Ordered("b"), PaidOnce("c"), WriteUnique(3)]

        made = BaseTaskProcessor.bulk_delay(calls)

        assert list(map(row, made)) == rows() == [
            ("new", None, None, None),
            ("limited", "Paid", "a", 7),
            ("new", None, None, None),
            ("limited", "orders", "b", 0),
            ("limited", "OldPaid", "c", 7),
            ("new", None, None, None),
        ]  # fmt: skip

    @pytest.mark.parametrize("limited", [True, False])
    def test_beside_one_whose_unique_says_more(self, monkeypatch, limited):
        """Each of the two takes statements of its own."""
        monkeypatch.setattr(PaidOnce, "UNIQUE", Unique(by=("n",), while_running=True))
        if limited:
            made = BaseTaskProcessor.bulk_delay([Nothing(1), PaidOnce("a"), Nothing(2)])
            expected = [("new", None, None, None), ("limited", "OldPaid", "a", 7)]
        else:
            monkeypatch.setattr(PaidOnce, "LIMIT", None)
            made = BaseTaskProcessor.bulk_delay([Paid("b"), PaidOnce("a"), Paid("b")])
            expected = [("limited", "Paid", "b", 7), ("new", None, None, None)]

        assert list(map(row, made)) == rows() == [*expected, expected[0]]

    def test_of_several_processors_for_later(self):
        made = BaseTaskProcessor.bulk_delay([Nothing(1), Paid("a")], execute_after=LATER)

        assert list(map(row, made)) == rows() == [
            ("scheduled", None, None, None), ("scheduled", "Paid", "a", 7),
        ]  # fmt: skip

    def test_of_several_processors_some_with_subjects(self):
        made = BaseTaskProcessor.bulk_delay([Nothing(1), Paid("a"), Write()], subject="ada")

        assert {task.subject for task in made} == {"ada"}
        assert set(Task.objects.values_list("subject", flat=True)) == {"ada"}
        assert [task.limit_key for task in made] == [None, "a", None]


CALL = Call("default", "X", '{"args":[],"kwargs":{}}', 10, None, b"d" * 32)
LIMITED = CALL._replace(limit_name="x", limit_key="k", limit_rank=10)
STATEMENTS = {
    "single": lambda call, keys: inserting.insert(call, None),
    "without a digest": lambda call, keys: inserting.insert(call._replace(digest=None), None),
    "bulk": lambda call, keys: bulk.insert_bulk(
        call, "{NULL}", [call.arguments], [b"d" * 32], None, keys, takes=False
    ),
    "mixed": lambda call, keys: insert_mixed(
        [call, call], [0], "{NULL}", [call.arguments], [b"d" * 32], None, keys, takes=False
    ),
}


class TestCostsNothing:
    """A project without limits has the statements that it had, and the plans."""

    @pytest.mark.parametrize("name", STATEMENTS)
    def test_the_text_knows_no_limits(self, name):
        sql = STATEMENTS[name](CALL, None).sql

        assert "limit_" not in sql

    @pytest.mark.parametrize("name", STATEMENTS)
    def test_the_plan_of_a_limited_one_is_the_same(self, name):
        """No join, no lookup and no sort comes with it."""

        def plan(sql, params):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (FORMAT JSON, COSTS OFF) {sql}", params)
                ((found,),) = cursor.fetchall()
            return shape(
                json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"]
            )

        def shape(node):
            return node["Node Type"], [shape(each) for each in node.get("Plans", ())]

        make = STATEMENTS[name]

        assert plan(*make(CALL, None)) == plan(*make(LIMITED, ["k"]))

    @pytest.mark.parametrize("limited", [False, True])
    def test_the_statements_are_as_many(self, limited, monkeypatch):
        """In a transaction: one each, and what is told after the commit."""
        monkeypatch.setattr(Paid, "LIMIT", Paid.LIMIT if limited else None)

        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            for n in range(3):
                Paid(n=n).delay()

        sent = [each["sql"] for each in queries]
        assert len([sql for sql in sent if "INSERT INTO partisan_async_task" in sql]) == 3
        assert len(sent) == 5, sent  # with BEGIN and COMMIT


def test_an_old_moment_stays_what_it_was():
    """A row is due since its execute_after, limited or not."""
    at = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

    assert Paid().delay(execute_after=at).execute_after == at
    assert Paid.bulk_delay([Paid()], execute_after=at)[0].execute_after == at
