"""What is unique is so while it waits for a limit, and what replaces it waits for its own."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from partisan_async import registry
from partisan_async.limits import Limit
from partisan_async.models import Task
from partisan_async.task_processor import TaskProcessor
from partisan_async.unique import Unique
from tests.limited import Limited, ids, limit
from tests.test_limited_enqueue import LATER, row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made(monkeypatch):
    """Return what makes a processor with this UNIQUE, whose limit's key is a parameter of its."""

    def make(unique=None, **body):
        attributes = {
            "UNIQUE": unique,
            "LIMIT": Limit(running_per_key=1),
            "run": lambda self, order, partner="acme": None,
            "limit_key": lambda self, partner: partner,
        }
        made = type("Made", (TaskProcessor,), attributes | body)
        monkeypatch.setitem(registry._processors, "Made", made)
        return made

    return make


@pytest.fixture
def other(transactional_db):
    other = Limited()
    yield other
    other.connection.close()


def rows():
    return [row(task) for task in Task.objects.order_by("pk")]


def ways(call):
    """Each way to enqueue one call."""
    return (lambda: call().delay(), lambda: type(call()).bulk_delay([call()])[0])


@pytest.mark.parametrize(
    "unique",
    [
        None,
        Unique(by=("order",)),
        Unique(by=("order",), while_running=True),
        Unique(by=("order",), within_seconds=60),
        Unique(by=("order",), while_running=True, within_seconds=60),
    ],
)
def test_one_that_waits_for_its_limit_is_a_twin(made, unique):
    processor = made(unique)
    first = processor(1).delay()

    for again in ways(lambda: processor(1)):
        task = again()
        assert (task, task.is_twin, task.status) == (first, True, "limited")
    with transaction.atomic():
        assert processor(1).delay() == first

    assert rows() == [("limited", "Made", "acme", 10)]


def test_the_database_holds_two_of_them_apart(made):
    """Whoever writes it, of whatever release."""
    task = made()(1).delay()

    with pytest.raises(IntegrityError, match="partisan_async_one_unclaimed"):
        Task.objects.create(
            queue_name="default",
            processor_class="Made",
            arguments={},
            priority=1,
            execute_after=timezone.now(),
            digest=task.digest,
        )


def test_while_it_runs_it_is_one_for_those_that_say_so(made, other):
    limit("Made", running_per_key=1)
    for unique, is_twin in ((Unique(by=("order",), while_running=True), True), (None, False)):
        processor = made(unique)
        first = processor(1).delay()
        assert ids(other.claim_limited([("Made", "acme")])) == [first.pk]

        again = processor(1).delay()

        assert (again == first) is is_twin
        Task.objects.all().delete()


class TestReplace:
    @pytest.fixture
    def processor(self, made):
        return made(Unique(by=("order",), on_twin="replace"))

    def test_it_waits_under_the_new_calls_key_and_rank(self, processor):
        first = processor(1, "acme").delay()

        for again, key in zip(
            (
                lambda: processor(1, "bee").delay(priority=3),
                lambda: processor.bulk_delay([processor(1, "cat")], priority=3)[0],
            ),
            ("bee", "cat"),
            strict=True,
        ):
            task = again()
            assert (task.pk, row(task)) == (first.pk, ("limited", "Made", key, 3))
            assert rows() == [row(task)]

    def test_of_several_in_one_call_the_last_has_its_own_key(self, processor):
        calls = [processor(1, "ant"), processor(2, "bee"), processor(1, "cat")]

        made = processor.bulk_delay(calls)

        assert [task.limit_key for task in made] == ["cat", "bee", "cat"]
        assert sorted(key for _, _, key, _ in rows()) == ["bee", "cat"]

    def test_one_for_later_is_scheduled_and_one_for_now_waits(self, processor):
        processor(1, "acme").delay()

        later = processor(1, "bee").delay(execute_after=LATER)
        assert row(later) == ("scheduled", "Made", "bee", 10)
        now = processor(1, None).delay()

        assert row(now) == ("limited", "Made", None, 10)
        assert rows() == [row(now)]

    def test_one_that_paused_begins_anew(self, processor):
        """In order it waits as limited, with a time: a call for now is for now."""
        first = processor(1).delay()
        Task.objects.update(execute_after=LATER, tries=3)

        again = processor(1).delay()

        assert (again.pk, again.status, again.tries) == (first.pk, "limited", 0)
        assert again.execute_after <= timezone.now()

    @pytest.mark.parametrize("status", ["new", "limited"])
    def test_a_twin_of_other_code_gets_the_limit_that_holds_now(
        self, processor, status, monkeypatch
    ):
        """A release may bring a LIMIT, take it out, or call it another name."""
        limits = {"new": None, "limited": Limit(in_order=True, name="orders")}
        processor(1).delay()
        assert rows() == [("limited", "Made", "acme", 10)]

        monkeypatch.setattr(processor, "LIMIT", limits[status])
        task = processor(1, "bee").delay(priority=4)

        expected = ("new", None, None, None) if status == "new" else ("limited", "orders", "bee", 0)
        assert row(task) == expected
        assert rows() == [expected]
        monkeypatch.setattr(processor, "LIMIT", Limit(running=1))
        assert row(processor(1, "cat").delay()) == ("limited", "Made", "cat", 10)


class TestSooner:
    @pytest.fixture
    def processor(self, made):
        return made(Unique(by=("order",), on_twin="sooner"))

    def test_the_rank_follows_the_priority(self, processor):
        first = processor(1, "acme").delay(priority=9)

        again = processor(1, "bee").delay(priority=3)

        assert (again.pk, again.priority, row(again)) == (
            first.pk, 3, ("limited", "Made", "acme", 3),
        )  # fmt: skip
        assert rows() == [row(again)]
        assert row(processor(1).delay(priority=7)) == ("limited", "Made", "acme", 3)

    def test_but_not_in_order(self, processor, monkeypatch):
        monkeypatch.setattr(processor, "LIMIT", Limit(in_order=True))
        processor(1).delay(priority=9)

        again = processor(1).delay(priority=3)

        assert (again.priority, row(again)) == (3, ("limited", "Made", "acme", 0))

    def test_one_for_later_that_is_for_now_waits_for_its_limit(self, processor):
        first = processor(1).delay(execute_after=LATER)

        again = processor(1).delay()

        assert (again.pk, row(again)) == (first.pk, ("limited", "Made", "acme", 10))
        assert rows() == [row(again)]

    def test_one_for_later_that_is_for_less_late_stays_scheduled(self, processor):
        processor(1).delay(execute_after=LATER)

        again = processor(1).delay(execute_after=LATER - timedelta(hours=1), priority=2)

        assert row(again) == ("scheduled", "Made", "acme", 2)

    def test_one_that_paused_and_is_due_less_late_stays_where_it_is(self, processor):
        """In order it holds its key: as scheduled, it would let the next one pass."""
        processor(1).delay()
        Task.objects.update(execute_after=LATER)

        again = processor(1).delay(execute_after=LATER - timedelta(hours=1))

        assert (again.status, again.execute_after) == ("limited", LATER - timedelta(hours=1))

    def test_one_that_paused_is_due_now(self, processor):
        processor(1).delay()
        Task.objects.update(execute_after=LATER)

        again = processor(1).delay()

        assert again.status == "limited"
        assert again.execute_after <= timezone.now()

    @pytest.mark.parametrize("at", [None, LATER])
    def test_a_twin_without_a_limit_gets_no_rank(self, processor, monkeypatch, at):
        """A row has all three or none: one with a rank alone would belong nowhere."""
        monkeypatch.setattr(processor, "LIMIT", None)
        processor(1).delay(priority=9, execute_after=at)
        monkeypatch.setattr(processor, "LIMIT", Limit(running=1))

        again = processor(1).delay(priority=3)

        assert (again.priority, row(again)) == (3, ("new", None, None, None))

    @pytest.mark.parametrize("at", [None, LATER])
    def test_a_twin_with_a_limit_keeps_it(self, processor, monkeypatch, at):
        """Made ready, it would start beside it."""
        processor(1).delay(priority=9, execute_after=at)
        monkeypatch.setattr(processor, "LIMIT", None)

        again = processor(1).delay(priority=3)

        assert row(again)[:3] == ("limited", "Made", "acme")


def test_a_window_goes_on_when_the_task_is_gone(made):
    processor = made(Unique(by=("order",), within_seconds=60))
    first = processor(1).delay()
    Task.objects.all().delete()

    again = processor(1).delay()

    assert (again.pk, again.is_twin, rows()) == (first.pk, True, [])


@pytest.mark.parametrize("unique", [None, Unique(by=("order",), while_running=True)])
def test_beside_a_locked_twin_there_is_a_second_row_under_the_limit(made, unique, other):
    """A duplicate is better than an error; but it, too, waits for its limit."""
    processor = made(unique)
    first = processor(1).delay()
    with other.connection.transaction():
        other.connection.execute(
            "SELECT 1 FROM partisan_async_task WHERE id = %s FOR UPDATE", [first.pk]
        )
        second = processor(1).delay()

    assert second.pk != first.pk
    assert row(second) == ("limited", "Made", "acme", 10)
    assert second.digest is None


def test_a_claim_of_ready_rows_takes_none_of_them(made, other):
    made()(1).delay()

    assert other.claim() == []
