"""Rows that wait for limits, of which no NOTIFY tells: the beat finds them, and walks over none."""

import time

import pytest

from partisan_async import store
from partisan_async.limits import Limit
from partisan_async.models import Task
from partisan_async.store import Behind
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.newcomers import Newcomers
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.limited import execute, limit, row
from tests.test_races import TTL, Other
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

BEAT_SECONDS = 0.5


def seen(last_id, oldest, *ids, following=None, is_all=True):
    return Behind(last_id, oldest, following or oldest + 1, list(ids), is_all)


class TestMark:
    @pytest.fixture
    def newcomers(self):
        """After two beats: what was open at the first one has ended."""
        newcomers = Newcomers()
        assert newcomers.take(seen(10, 100)) is None
        assert newcomers.mark == 10
        assert newcomers.take(seen(10, 101)) is None
        return newcomers

    def test_where_nothing_is_new_nothing_is_to_be_done(self, newcomers):
        assert [newcomers.take(seen(10, number)) for number in range(102, 110)] == [[]] * 8
        assert newcomers.mark == 10

    def test_a_row_is_told_of_once_and_passed_when_it_is_decided(self, newcomers):
        assert newcomers.take(seen(12, 102, 11, 12)) == [11, 12]
        assert newcomers.take(seen(12, 103, 11, 12)) == []
        assert newcomers.mark == 12
        assert newcomers.take(seen(12, 104)) == []

    def test_what_is_committed_late_is_told_of(self, newcomers):
        """While a transaction is open that drew an id, the mark stays before that id."""
        assert newcomers.take(seen(13, 102, 13, following=104)) == [13]
        assert newcomers.take(seen(20, 103, 13, 20, following=105)) == [20]
        assert newcomers.take(seen(20, 103, 12, 20, following=106)) == [12]
        assert newcomers.mark == 10
        assert newcomers.take(seen(20, 106, 20)) == []
        assert newcomers.mark in (13, 20)

    def test_a_row_that_notify_told_of_is_not_told_of_again(self, newcomers):
        newcomers.tell([11])

        assert newcomers.take(seen(12, 102, 11, 12)) == [12]

    def test_where_too_many_came_all_is_walked_over_and_once_more_for_those_in_flight(
        self, newcomers
    ):
        assert newcomers.take(seen(30_000, 102, 9, is_all=False, following=105)) is None
        assert newcomers.mark == 30_000
        assert newcomers.take(seen(30_001, 104, 30_001, following=106)) == [30_001]
        assert newcomers.take(seen(30_001, 105, 30_001)) is None
        assert newcomers.take(seen(30_001, 107)) == []

    @pytest.mark.parametrize("restored", [seen(5, 103), seen(10, 50)])
    def test_in_a_database_that_was_restored_it_begins_anew(self, newcomers, restored):
        assert newcomers.take(restored) is None
        assert newcomers.mark == restored.last_id
        assert newcomers.take(seen(restored.last_id, restored.oldest + 1)) is None
        assert newcomers.take(seen(restored.last_id, restored.oldest + 2)) == []

    def test_when_the_last_row_has_gone_it_begins_anew(self, newcomers):
        assert newcomers.take(None) == []
        assert newcomers.mark is None
        assert newcomers.take(seen(10, 103)) is None

    def test_where_the_sequence_is_not_to_be_seen_all_is_walked_over(self, newcomers):
        unseen = Behind(None, 103, 104, [], True)

        assert [newcomers.take(unseen), newcomers.take(unseen)] == [None, None]
        assert newcomers.mark is None


class TestBeat:
    @pytest.fixture
    def other(self, transactional_db):
        other = Other()
        yield other
        other.connection.close()

    def beat(self, other, mark=0):
        said = store.Beat(other.me, "default", mark=mark)
        (told,) = other.execute(store.beat([said], hostname="h", process="{}", ttl=TTL))
        return store.newcomers(store.Seen(*told).newcomers)

    def test_without_limited_rows_it_looks_at_none(self, other):
        row(status="new")

        assert self.beat(other) is None

    def test_it_tells_of_one_row_of_each_key_behind_the_mark(self, other):
        mark = row("a").pk
        row("b"), row("b", status="new"), row("c", queue_name="elsewhere")
        wanted = {row("b").pk, row("a").pk, row(None).pk, row("b", name="y").pk}
        last = row(status="new").pk

        found = self.beat(other, mark)

        assert set(found.ids) == wanted
        assert (found.last_id, found.is_all) == (last, True)
        assert found.oldest <= found.following
        assert self.beat(other, last).ids == []
        assert self.beat(other, None).ids == []

    def test_it_says_where_it_has_not_looked_at_all(self, other):
        row()
        execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status) SELECT 'elsewhere', 'Nothing', '{}', 1, now(), 'new'"
            " FROM generate_series(1, %s)",
            [store.LOOKED_AT_MOST],
        )

        assert not self.beat(other).is_all

    def test_without_a_right_to_the_sequence_it_beats_all_the_same(self, other):
        row()
        execute("CREATE ROLE beats_alone; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA"
                " public TO beats_alone")  # fmt: skip
        try:
            other.connection.execute("SET ROLE beats_alone")
            assert self.beat(other).last_id is None
            other.connection.execute("RESET ROLE")
        finally:
            execute("DROP OWNED BY beats_alone; DROP ROLE beats_alone")

    def test_ten_thousand_that_wait_are_not_read(self, other):
        """Neither to see that some wait, nor to see that none of them is new."""
        execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, limit_name, limit_key, limit_rank) SELECT 'default',"
            " 'Nothing', '{}', 1, now(), 'limited', 'x', n::text, 1"
            " FROM generate_series(1, 10000) AS n"
        )
        execute("ANALYZE partisan_async_task")
        mark = Task.objects.latest("pk").pk
        came = row("new").pk
        said = store.Beat(other.me, "default", mark=mark)
        sql, params = store.beat([said], hostname="h", process="{}", ttl=TTL)

        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
        (((plan,),),) = other.connection.execute(explained, params).fetchall()

        found = list(scans(plan["Plan"]))
        assert sum(each["Actual Rows"] for each in found) <= 10, found
        assert {each["Node Type"] for each in found} <= {"Index Scan", "Index Only Scan"}, found
        assert self.beat(other, mark).ids == [came]


def scans(plan):
    if plan.get("Relation Name") == "partisan_async_task":
        yield plan
    for each in plan.get("Plans", ()):
        yield from scans(each)


@pytest.fixture
def statements(monkeypatch):
    """Return the statements of supervisors as they make them."""
    made = []
    execute = Connection.execute

    async def noting(self, statement):
        made.append(statement)
        return await execute(self, statement)

    monkeypatch.setattr(Connection, "execute", noting)
    return made


def kinds(statements):
    """Return what was said, but for the tally of each minute."""
    texts = [str(each) for each in statements]
    return {"beat" if "beat AS" in text else text for text in texts if "_tally" not in text}


def full(keys):
    """Have limited rows wait behind running ones of nobody who is gone."""
    limit(running_per_key=0)
    for key in range(keys):
        row(str(key), processor_class="Write")


def test_one_that_nobody_told_of_starts_while_a_thousand_full_keys_wait(statements):
    """Whoever enqueued it died between its commit and the NOTIFY. Else there is but the beat."""
    full(1000)
    limit("y", running_per_key=1)
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=BEAT_SECONDS):
        wait_until_idle(statements)
        row("other", name="y", processor_class="Write")
        untold = row("new", name="y", processor_class="Write")
        began = time.monotonic()
        wait_until(lambda: ended(untold))
        took = time.monotonic() - began
        print(f"It started and ended {took:.2f} s later.")

        wait_until_idle(statements)


def wait_until_idle(statements):
    """Wait for some beats between which there is no other statement."""

    statements.clear()
    wait_until(lambda: len(statements) >= 4 and kinds(statements[-4:]) == {"beat"})


def test_what_a_supervisor_that_is_gone_did_not_tell_of_starts(statements):
    """It may have given tasks back, or freed their slots, and died before it said so."""
    limit(running_per_key=1)
    with live_supervisor(WORKERS_COUNT=2, beat_seconds=BEAT_SECONDS):
        row("held", name="nobody's")
        first = row("first", processor_class="Write")
        wait_until(lambda: ended(first))
        wait_until_idle(statements)
        back = Task.objects.filter(pk=first.pk)
        back.update(status="limited", finished_at=None)
        wait_until_idle(statements)
        assert not ended(first)

        execute(
            "INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name,"
            " last_seen_at, workers) VALUES (gen_random_uuid(), 'gone', '{}', 'default',"
            " now() - interval '1 hour', '[]')"
        )
        wait_until(lambda: ended(first))


def test_what_waits_for_a_limit_that_is_written_in_another_queue_starts(statements, monkeypatch):
    """The supervisor here was up before, and its code has no such limit."""
    with live_supervisor("other", WORKERS_COUNT=1, beat_seconds=BEAT_SECONDS):
        task = row(None, "mine", queue_name="other", processor_class="Write")
        wait_until_idle(statements)

        monkeypatch.setattr(Write, "LIMIT", Limit(running=3, name="mine"))
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(task))
