"""The claim of rows that wait for limits: what may start, and what it says of the keys."""

from datetime import timedelta

import pytest
from django.utils import timezone

from partisan_async import store
from partisan_async.models import LimitOverride, LimitPause, LimitStart, Task
from partisan_async.policy import Finished, Retried
from tests.limited import Limited, execute, ids, limit, row
from tests.testapp.partisan_tasks import Nothing

pytestmark = pytest.mark.django_db(transaction=True)

K = ("x", "k")


@pytest.fixture
def other(transactional_db):
    other = Limited()
    yield other
    other.connection.close()


@pytest.fixture
def third(transactional_db):
    third = Limited()
    yield third
    third.connection.close()


class TestRunning:
    def test_of_a_key_no_more_run_than_it_allows(self, other, third):
        limit(running_per_key=2)
        rows = [row() for _ in range(5)]

        first = other.claim_limited([K])

        assert ids(first) == [each.pk for each in rows[:2]]
        assert first[0].limit_name == "x"
        assert first[0].limit_key == "k"
        assert (other.verdicts[K].room, other.verdicts[K].more) == (0, True)
        assert third.claim_limited([K]) == []
        assert (third.verdicts[K].room, third.verdicts[K].left) == (0, 1)

        other.settle(first[0], Finished())

        assert ids(third.claim_limited([K])) == [rows[2].pk]

    def test_of_all_keys_no_more_run_than_it_allows(self, other, third):
        limit(running=3)
        for key in ("a", "b", None):
            row(key), row(key)

        claims = other.claim_limited([("x", "a"), ("x", "b"), ("x", None)])

        assert sorted(str(claim.limit_key) for claim in claims) == ["None", "a", "b"]
        assert third.claim_limited([("x", "a"), ("x", None)]) == []
        assert third.verdicts["x", "a"].whole_room == 0

    def test_a_row_that_another_has_started_tells_of_what_waits_beside_it(self, other, third):
        """Several are told of one row, and of several slots: whoever comes second finds them."""
        limit(running=3)
        first, second = row("a"), row("a")
        row("b")
        other.claim_limited([], limit=1, ids=[first.pk])

        assert ids(third.claim_limited([], limit=1, ids=[first.pk])) == [second.pk]
        assert third.verdicts["x", "a"].whole_room == 1

    def test_what_has_no_limit_in_the_table_waits(self, other):
        row()

        assert other.claim_limited([K]) == []
        assert other.verdicts == {}

    def test_another_queues_rows_count_and_are_not_claimed(self, other):
        limit(running_per_key=1)
        elsewhere = row(queue_name="elsewhere")
        here = row()
        there = Limited("elsewhere")

        (claim,) = there.claim_limited([K])

        assert claim.id == elsewhere.pk
        assert other.claim_limited([K]) == []
        there.settle(claim, Finished())
        assert ids(other.claim_limited([K])) == [here.pk]
        there.connection.close()

    def test_no_row_is_claimed_without_a_lease(self, other):
        limit(running_per_key=1)
        row()
        execute("UPDATE partisan_async_supervisor SET last_seen_at = now() - interval '1 h'")

        assert other.claim_limited([K]) == []

    def test_what_an_operator_allows_counts(self, other):
        limit(running_per_key=1, running=10)
        [row("a") for _ in range(5)]
        [row("b") for _ in range(5)]
        LimitOverride.objects.create(name="x", key="a", running=2)
        LimitOverride.objects.create(name="x", key="b", running=0)

        claims = other.claim_limited([("x", "a"), ("x", "b")])

        assert [claim.limit_key for claim in claims] == ["a", "a"]
        LimitOverride.objects.create(name="x", running=2)
        LimitOverride.objects.filter(key="b").update(running=5)
        assert other.claim_limited([("x", "a"), ("x", "b")]) == []

    @pytest.mark.parametrize("numbers", [{}, {"running": 3}, {"running_per_key": 3}])
    def test_a_claim_that_takes_all_it_can_calls_nothing_full(self, other, numbers):
        """Else a worker that comes free would wait for the end of what runs."""
        limit(**numbers)
        [row("a") for _ in range(3)], row("b")

        assert len(other.claim_limited([("x", "a"), ("x", "b")], limit=1)) == 1

        for verdict in other.verdicts.values():
            assert verdict.room > 0
            assert verdict.whole_room > 0


class TestTurns:
    def test_keys_take_turns(self, other):
        limit(running_per_key=10)
        a = [row("a") for _ in range(5)]
        b = [row("b") for _ in range(5)]

        claims = other.claim_limited([("x", "a"), ("x", "b")], limit=4)

        assert sorted(ids(claims)) == [a[0].pk, a[1].pk, b[0].pk, b[1].pk]
        assert other.verdicts["x", "a"].left > 0

    def test_what_runs_counts_as_turns_that_were_had(self, other):
        limit(running_per_key=10)
        [row("a") for _ in range(5)]
        other.claim_limited([("x", "a")], limit=2)
        b = [row("b") for _ in range(5)]

        claims = other.claim_limited([("x", "a"), ("x", "b")], limit=2)

        assert ids(claims) == [each.pk for each in b[:2]]

    def test_a_lower_number_goes_first(self, other):
        limit(running_per_key=10)
        row("a")
        urgent = row("b", priority=1)

        assert ids(other.claim_limited([("x", "a"), ("x", "b")], limit=1)) == [urgent.pk]

    def test_ready_rows_that_come_before_keep_their_share_of_the_room(self, other):
        limit(running_per_key=10)
        ready = Nothing().delay(priority=1)
        rows = [row() for _ in range(3)]

        assert ids(other.claim_limited([K], limit=2)) == [rows[0].pk]
        ready.refresh_from_db()
        assert ready.status == Task.STATUS_NEW
        assert ids(other.claim(1)) == [ready.pk]


class TestInOrder:
    def test_one_at_a_time_in_the_order_of_their_ids(self, other, third):
        limit(in_order=True)
        rows = [row(limit_rank=0, priority=n) for n in (9, 5, 1)]
        for each in rows:
            (claim,) = other.claim_limited([K])
            assert claim.id == each.pk
            assert third.claim_limited([K]) == []
            other.settle(claim, Finished())

    def test_a_head_that_is_locked_closes_its_key(self, other, third):
        limit(in_order=True)
        first, _ = row(limit_rank=0), row(limit_rank=0)
        with third.connection.transaction():
            third.connection.execute(
                "SELECT 1 FROM partisan_async_task WHERE id = %s FOR UPDATE", [first.pk]
            )
            assert other.claim_limited([K]) == []
            assert other.verdicts[K].stuck
        assert ids(other.claim_limited([K])) == [first.pk]

    @pytest.mark.parametrize("among", ["paused", "passed over"])
    def test_a_head_that_is_not_to_be_taken_closes_its_key(self, other, among):
        limit(in_order=True)
        first, _ = row(limit_rank=0), row(limit_rank=0, processor_class="Write")
        left_out = store.Among(but=[first.pk])
        if among == "paused":
            left_out = store.Among(paused=["Nothing"])

        assert other.claim_limited([K], among=left_out) == []
        assert other.verdicts[K].stuck

    def test_a_head_that_is_not_due_closes_its_key(self, other):
        limit(in_order=True)
        row(limit_rank=0, execute_after=timezone.now() + timedelta(hours=1))
        row(limit_rank=0)

        assert other.claim_limited([K]) == []
        assert 3500 < other.verdicts[K].seconds <= 3600

    def test_rows_without_a_key_have_no_order(self, other):
        limit(in_order=True)
        rows = [row(None, limit_rank=0) for _ in range(3)]

        assert ids(other.claim_limited([("x", None)])) == [each.pk for each in rows]


class TestRates:
    def test_no_more_start_in_a_window(self, other, third):
        limit(rates_per_key=[[3, 3600]])
        rows = [row() for _ in range(5)]

        assert ids(other.claim_limited([K], limit=2)) == [each.pk for each in rows[:2]]
        assert ids(third.claim_limited([K])) == [rows[2].pk]
        assert third.claim_limited([K]) == []
        assert 3500 < third.verdicts[K].seconds <= 3672

    def test_those_of_another_key_are_not_counted_and_those_of_all_are(self, other):
        limit(rates_per_key=[[1, 3600]], rates=[[3, 3600]])
        keys = [("x", name) for name in "abcd"] + [("x", None)]
        for _, key in keys:
            row(key), row(key)

        assert len(other.claim_limited(keys)) == 3
        assert other.claim_limited(keys) == []
        assert other.verdicts["x", None].whole_seconds > 3500

    def test_an_end_gives_nothing_back(self, other):
        limit(rates_per_key=[[1, 3600]])
        rows = [row() for _ in range(2)]
        (claim,) = other.claim_limited([K])
        other.settle(claim, Finished())

        assert other.claim_limited([K]) == []
        LimitStart.objects.all().delete()
        assert ids(other.claim_limited([K])) == [rows[1].pk]

    def test_starts_of_a_clock_that_was_ahead_count(self, other):
        limit(rates_per_key=[[1, 60]])
        row(), row()
        other.claim_limited([K])
        LimitStart.objects.update(granule=LimitStart.objects.get().granule + 50)
        assert other.claim_limited([K]) == []
        assert 59 < other.verdicts[K].seconds <= 61

        LimitStart.objects.update(granule=LimitStart.objects.get().granule + 100)
        assert len(other.claim_limited([K])) == 1

    def test_several_hold_together(self, other):
        limit(rates_per_key=[[5, 3600], [2, 60]])
        [row() for _ in range(9)]

        assert len(other.claim_limited([K])) == 2
        LimitStart.objects.filter(per_seconds=60).delete()
        assert len(other.claim_limited([K])) == 2
        LimitStart.objects.filter(per_seconds=60).delete()
        assert len(other.claim_limited([K])) == 1

    def test_a_start_is_forgotten_when_its_window_is_over(self, other):
        limit(rates_per_key=[[1, 60]])
        row(), row()
        other.claim_limited([K])
        LimitStart.objects.update(granule=LimitStart.objects.get().granule - 99)
        assert other.claim_limited([K]) == []
        assert 0 < other.verdicts[K].seconds < 2

        LimitStart.objects.update(granule=LimitStart.objects.get().granule - 5)

        assert len(other.claim_limited([K])) == 1


class TestKeys:
    def test_a_pause_of_a_key_starts_nothing_of_it(self, other):
        limit(running_per_key=1)
        row("a"), row("b")
        LimitPause.objects.create(name="x", key="a", until=timezone.now() + timedelta(seconds=30))

        claims = other.claim_limited([("x", "a"), ("x", "b")])

        assert [claim.limit_key for claim in claims] == ["b"]
        assert 25 < other.verdicts["x", "a"].seconds <= 30

    def test_keys_are_found_by_the_ids_of_rows(self, other):
        limit(running_per_key=1)
        mine, nobodys = row("a"), row(None)

        claims = other.claim_limited([], ids=[mine.pk, nobodys.pk, 10**9])

        assert sorted(ids(claims)) == [mine.pk, nobodys.pk]

    def test_a_walk_finds_each_key_once_and_goes_on_behind_the_last(self, other, monkeypatch):
        wanted = []
        for name in ("x", "y"):
            for key in ("", "a", "ä", None):
                row(key, name), row(key, name)
                wanted.append((name, key))
        row("b", queue_name="elsewhere")

        found = other.execute(store.walk("default"))

        assert found == wanted
        for place, last in enumerate(wanted):
            assert other.execute(store.walk("default", last)) == wanted[place + 1 :]

    def test_many_keys_share_the_room(self, other):
        limit(running_per_key=1000)
        keys = [("x", str(n)) for n in range(50)]
        for _, key in keys * 3:
            row(key)

        claims = other.claim_limited(keys, limit=100)

        assert len(claims) == 100
        assert {key for _, key in keys} == {claim.limit_key for claim in claims}


def test_rows_of_paused_processors_are_left_out(other):
    limit(running_per_key=10)
    row(), row(processor_class="Write")

    claims = other.claim_limited([K], among=store.Among(paused=["Nothing"]))

    assert [claim.processor_class for claim in claims] == ["Write"]


def test_a_task_that_runs_again_waits_for_its_limit(other):
    limit(running_per_key=1)
    task = row()
    (claim,) = other.claim_limited([K])
    from partisan_async.policy import Failure

    boom = Failure("builtins.ValueError", "boom", "Traceback …")
    other.settle(claim, Retried(timedelta(0), boom))

    task.refresh_from_db()
    assert task.status == Task.STATUS_LIMITED
