"""Bad neighbours: rows in masses, a snapshot that stays open, tasks that do not end.

What a statement costs must depend on what it takes, and not on what else is in the table. That is
asked of its plan: which indexes it goes by, and how many rows it visits to no avail.
"""

import os
import signal
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import psycopg
import pytest

from partisan_async import store
from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Task
from partisan_async.policy import Finished, Postponed
from partisan_async.supervisor.opening import KEEP_PLANS
from tests.faults import audit
from tests.faults.partisan_tasks import Linger, Nap, Noop

TTL = timedelta(seconds=30)

HELD = 40
"""So many rows are in process, of each of three supervisors, when a plan is looked at."""

TABLE = "partisan_async_task"

SMALL = ("partisan_async_supervisor", "partisan_async_one_pause")
"""Indexes of tables with a handful of rows: any way through them is good."""

_BULK = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, status, priority, execute_after, finished_at)
SELECT %s, 'Bulk', '{"args": [], "kwargs": {}}', %s, 1, now() + %s::interval,
    CASE WHEN %s = 'finished' THEN now() END
FROM generate_series(1, %s)
"""


@contextmanager
def unaudited(site):
    """A session for masses of rows, which would be written twice else."""
    with psycopg.connect(site.url, autocommit=True, application_name="faults bulk") as session:
        session.execute("SET session_replication_role = replica")
        yield session


def insert(session, number, status, *, queue="default", later="0 s"):
    session.execute(_BULK, [queue, status, later, status, number])


@pytest.fixture
def crowd(site):
    """1M finished rows, 100k of the future and 100k that wait in another queue."""
    with unaudited(site) as session:
        session.execute("ALTER TABLE partisan_async_task SET (autovacuum_enabled = off)")

        def come():
            insert(session, 1_000_000, "finished")
            insert(session, 100_000, "scheduled", later="1 h")
            insert(session, 100_000, "new", queue="elsewhere")

        come.session = session
        yield come
        leave(session)
        session.execute("ALTER TABLE partisan_async_task RESET (autovacuum_enabled)")


def leave(session):
    session.execute("DELETE FROM partisan_async_task WHERE processor_class = 'Bulk'")


# Plans


READY, SCHEDULED, LIMITED, CLAIMED = (
    f"partisan_async_{name}" for name in ("ready", "scheduled", "limited", "claimed")
)
WAITING = "partisan_async_one_unclaimed"
"""Smaller than the others, the planner takes it where few rows wait; then few are visited."""

BY_ID = f"{TABLE}_pkey"


class Asked(NamedTuple):
    """A statement, and what it may do to the tasks' table.

    :param indexes: it goes by these alone.
    :param rows: each scan visits so many rows at most.
    """

    name: str
    statement: store.Statement
    indexes: tuple[str, ...]
    rows: int


def offences(site):
    """Return what is wrong with the plan of each statement a supervisor sends, as of now.

    As its session plans, and in a transaction that is rolled back: with a supervisor that claims,
    one that is silent, and one that lives. Rows that are no more, and not removed yet, have to be
    passed by all that goes by status: at most as many as the audit has changes.
    """
    found = []
    dead = len(audit.read(site.execute))
    with psycopg.connect(site.url, application_name="faults plans") as session:
        session.execute(KEEP_PLANS)
        for asked in _statements(session):
            ((plan,),) = session.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {asked.statement.sql}", asked.statement.params
            ).fetchall()
            scans = [node for node in _nodes(plan[0]["Plan"]) if _is_scan(node)]
            found += [told for scan in scans if (told := _offence(scan, asked, dead))]
        session.rollback()
    return found


def _statements(session):
    me, silent, other = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    about = {"hostname": "h", "process": "{}", "ttl": TTL}
    session.execute("SET LOCAL session_replication_role = replica")
    insert(session, 4 * HELD, "new")
    held = {}
    for each in (me, silent, other):
        session.execute(*store.beat([store.Beat(each, "default")], **about))
        rows = session.execute(*store.claim(each, "default", HELD, TTL)).fetchall()
        held[each] = [Settlement(c, Finished(), Attempt(1.0, "h/1")) for c in store.claims(rows)]
    session.execute(
        "UPDATE partisan_async_supervisor SET last_seen_at = now() - interval '1 h' WHERE id = %s",
        [silent],
    )
    mine, all_held = held[me], 5 * HELD  # the load's own are among them
    later = [each._replace(decision=Postponed(timedelta(1))) for each in mine[20:25]]
    by_clock, by_proof = {"dead": [], "by_clock": True}, {"dead": [silent], "by_clock": False}
    yield Asked("claim", store.claim(me, "default", 10, TTL), (READY, WAITING, BY_ID), 10)
    yield Asked("claim of none", store.claim(me, "nowhere", 10, TTL), (READY, WAITING, BY_ID), 0)
    for name, how in (("rescue by the clock", by_clock), ("rescue of the dead", by_proof)):
        rescue = store.rescue(me, "default", 5, TTL, **how)
        yield Asked(name, rescue, (CLAIMED, BY_ID), all_held)
    promote = store.promote("default")
    yield Asked("promote", promote, (SCHEDULED, WAITING, BY_ID), store.PROMOTED_AT_ONCE)
    session.execute(*store.pause_processor(["Nobody"], ""))
    beside = store.claim(me, "default", 10, TTL, store.Among(paused=["Nobody"]))
    yield Asked("claim beside a pause", beside, (READY, WAITING, BY_ID), 10)
    looked_at = store.PARKED_AT_ONCE
    yield Asked("park", store.park("default"), (READY, WAITING, BY_ID), looked_at)
    yield Asked("unpark", store.unpark("default"), (SCHEDULED, WAITING, BY_ID), looked_at)
    by_status = (READY, SCHEDULED, LIMITED, WAITING, CLAIMED)
    yield Asked("beat", store.beat([store.Beat(me, "default")], **about), by_status, all_held)
    two = [store.Beat(me, "default"), store.Beat(other, "nowhere")]
    yield Asked("beat for two", store.beat(two, **about), by_status, 2 * all_held)
    yield Asked("held", store.held(me), (CLAIMED,), all_held)
    yield Asked("settle one", store.settle(me, mine[:1]), (BY_ID,), 1)
    yield Asked("settle ten", store.settle(me, mine[:10]), (BY_ID,), 10)
    yield Asked("settle gently", store.settle(me, mine[10:20], gently=True), (BY_ID,), 10)
    yield Asked("put off", store.settle(me, later), (BY_ID,), 5)
    yield Asked("delete", store.delete_finished(me, mine[25:35]), (BY_ID,), 10)
    yield Asked("forget", store.forget([silent, me]), (CLAIMED,), all_held)
    yield Asked("unserved", store.unserved(TTL), (READY, SCHEDULED, LIMITED, WAITING), 3)
    ready = "DELETE FROM partisan_async_task WHERE status = 'new' AND queue_name = 'default'"
    session.execute(ready)
    empty = store.beat([store.Beat(me, "default")], **about)
    yield Asked("beat of an empty queue", empty, by_status, all_held)


def _nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _is_scan(node):
    """Tell whether it reads the tasks' table, or an index of it for a bitmap."""
    if node["Node Type"] == "Bitmap Index Scan":
        return not node["Index Name"].startswith(SMALL)
    return node.get("Relation Name") == TABLE and node["Node Type"] != "ModifyTable"


def _offence(scan, asked, dead):
    index = scan.get("Index Name")
    removed = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    visited = round((scan["Actual Rows"] + removed) * scan["Actual Loops"])
    allowed = asked.rows if index == BY_ID else asked.rows + dead
    known = index in asked.indexes or scan["Node Type"] == "Bitmap Heap Scan"
    if known and visited <= allowed:
        return None
    return f"{asked.name}: {scan['Node Type']} {index or ''} visits {visited} rows"


class TestCrowd:
    def test_statements_go_by_their_indexes_and_visit_what_they_take(self, site, crowd):
        """Right after the masses came, with statistics of them, and with dead rows removed.

        The statistics are true and mislead: most rows are of this queue, and many wait, but those
        that wait are of another queue. Before, the table was vacuumed when masses had gone, so that
        its indexes are thought to be empty.
        """
        site.start()
        told = []
        with site.load(rate=20):
            crowd()
            leave(crowd.session)
            crowd.session.execute("VACUUM partisan_async_task")
            crowd()
            told += [f"fresh: {offence}" for offence in offences(site)]
            crowd.session.execute("ANALYZE partisan_async_task")
            told += [f"analyzed: {offence}" for offence in offences(site)]
            crowd.session.execute("VACUUM partisan_async_task")
            told += [f"vacuumed: {offence}" for offence in offences(site)]
            insert(crowd.session, 200_000, "new", queue="elsewhere")
            crowd.session.execute("ANALYZE partisan_async_task")
            told += [f"more elsewhere: {offence}" for offence in offences(site)]
            leave(crowd.session)
        site.settle_down()

        assert not told, "\n".join(told)

    def test_the_rest_flows_and_the_dead_ones_tasks_are_rescued(self, site, crowd):
        """And the masses stay where they are: none of them is promoted, claimed or run."""
        victim, heir = site.start(), site.start()
        with site.load(rate=40) as load:
            crowd()
            before = set(load.committed)
            nap = Nap(2).delay(priority=1)
            site.running(nap)
            holder = str(Task.objects.get(pk=nap.pk).claimed_by)
            ((pid,),) = site.execute(
                "SELECT process ->> 'pid' FROM partisan_async_supervisor WHERE id = %s", holder
            )
            if int(pid) != victim.pid:
                victim, heir = heir, victim
            victim.kill()
            site.wait_until_ended(nap)
            site.wait_until(lambda: len(load.committed - before) > 60)
        site.wait_until_ended(*Task.objects.filter(pk__in=load.committed))
        counts = site.execute(
            "SELECT status, count(*) FROM partisan_async_task WHERE processor_class = 'Bulk'"
            " GROUP BY status ORDER BY status"
        )
        leave(crowd.session)

        verdict = site.settle_down()

        assert counts == [("finished", 1_000_000), ("new", 100_000), ("scheduled", 100_000)]
        assert set(verdict.duplicates) <= {"rescued"}
        assert "rescued" in heir.output

    def test_a_promote_takes_many_due_rows_piece_by_piece(self, site, crowd):
        """More than one statement takes at once, and 100k behind them whose time has not come."""
        insert(crowd.session, 100_000, "scheduled", later="1 h")
        due = store.PROMOTED_AT_ONCE + 200
        site.execute(
            """
            INSERT INTO partisan_async_task
                (queue_name, processor_class, arguments, status, priority, execute_after)
            SELECT 'default', 'Noop', '{"args": [], "kwargs": {}}', 'scheduled', 1,
                now() - interval '1 s'
            FROM generate_series(1, %s)
            """,
            due,
        )

        site.start()

        site.wait_until(lambda: Task.objects.filter(status="finished").count() == due)
        assert Task.objects.filter(status="scheduled").count() == 100_000
        leave(crowd.session)
        site.settle_down()


class TestSnapshot:
    def test_while_it_stays_open_statements_go_by_their_indexes(self, site):
        """The dead rows cannot be removed. The fence must not go by the index over claimed_by,
        which has them all; and with one supervisor killed, the rest flows.
        """
        pair = [site.start(), site.start()]
        with psycopg.connect(site.url, application_name="faults snapshot") as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM partisan_async_task")
            with site.load(rate=80) as load:
                site.wait_until(lambda: len(load.committed) > 200)
                pair[0].kill()
                site.wait_until(lambda: len(load.committed) > 400)
            site.wait_until_ended()
            with unaudited(site) as session:
                # So that a scan of the whole table is no way out.
                insert(session, 500_000, "finished")
                session.execute("ANALYZE partisan_async_task")
                told = offences(site)
                leave(session)
            verdict = site.settle_down()

        assert not told, "\n".join(told)
        assert set(verdict.duplicates) <= {"rescued"}


class TestEndlessTasks:
    def test_one_per_worker_less_one_the_rest_flows(self, site):
        """By the worker that is left; and what is claimed ahead is not held up behind them."""
        supervisor = site.start(WORKERS_COUNT=3)
        endless = [Linger(600, 0).delay(priority=1) for _ in range(2)]
        pids = [site.running(task).pid for task in endless]

        with site.load(rate=30) as load:
            site.wait_until(lambda: len(load.committed) > 150)
        site.wait_until_ended(*Task.objects.filter(pk__in=load.committed), Noop().delay())

        assert [Task.objects.get(pk=task.pk).status for task in endless] == ["in_process"] * 2
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        verdict = site.settle_down()
        assert verdict.duplicates == {"worker died alone": 2}
        assert "given back" not in supervisor.output
