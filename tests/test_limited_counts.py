"""Tasks that wait for limits, where queues are counted: by operators, monitors and the doctor."""

import io
import json
import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from partisan_async import store
from partisan_async.operate import overview
from partisan_async.operate.doctor import indexes, server, states, tasks
from partisan_async.supervisor.report import families, queue_depth
from tests.limited import row
from tests.test_dashboard import LIVE, nodes, supervise, text_of
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db

MANY = 10_000


def status(*options):
    out = io.StringIO()
    call_command("partisan", "status", *options, stdout=out)
    return out.getvalue()


def queues():
    return {each.name: each for each in overview.queues()}


def fill(count):
    """Insert many that wait, of a few keys, in a table with many rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, finished_at, limit_name, limit_key, limit_rank)"
            " SELECT 'default', 'Write', '{}', 10, now(),"
            " CASE WHEN n > 40000 THEN 'limited' ELSE 'finished' END,"
            " CASE WHEN n <= 40000 THEN now() END,"
            " CASE WHEN n > 40000 THEN 'x' END, CASE WHEN n > 40000 THEN (n %% 7)::text END, 10"
            " FROM generate_series(1, 40000 + %s) n",
            [count],
        )
        cursor.execute("ANALYZE partisan_async_task")


def read(sql, params):
    """Return kind, index, condition, rows and loops of each scan of the tasks."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
        ((found,),) = cursor.fetchone()
    return [
        (
            node["Node Type"],
            node.get("Index Name"),
            node.get("Filter", ""),
            round(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            ),
            node["Actual Loops"],
        )
        for node in nodes(found["Plan"])
        if node.get("Relation Name") == "partisan_async_task"
    ]


def statements(at_most):
    queues = {"ttl": overview.RECENT, "recent": overview.RECENT, "at_most": at_most}
    yield overview.QUEUES, queues
    yield queue_depth._QUEUE, {"queue_name": "default"}
    yield store.unserved(overview.RECENT)


def test_each_queue_counts_its_own():
    for key in ("a", "b", None):
        row(key)
    row("a", queue_name="elsewhere")
    Write().delay()

    found = queues()

    assert {name: (each.ready, each.limited) for name, each in found.items()} == {
        "default": (1, 3),
        "elsewhere": (0, 1),
    }
    assert (found["default"].waits, found["elsewhere"].is_unserved) == (4, True)


def test_counting_them_stops_at_the_limit_of_the_count(monkeypatch):
    """At a size where the planner has a choice."""
    monkeypatch.setattr(queue_depth, "_QUEUE", queue_depth._QUEUE.replace("10000", "1000"))
    fill(MANY)

    for sql, params in statements(1000):
        scans = read(sql, params)

        assert scans
        assert not [scan for scan in scans if "Seq" in scan[0]]
        assert sum(rows for *_, rows, _ in scans) <= 1020
    assert [each.limited for each in overview.queues(1000)] == [1000]


def test_where_there_are_none_it_costs_a_look_at_their_index():
    fill(0)
    for number in range(20):
        Write(number).delay()

    for sql, params in statements(1000):
        scans = read(sql, params)
        looks = [scan for scan in scans if scan[1] == "partisan_async_limited"]

        assert not [scan for scan in scans if "limited" in scan[2]]
        assert sum(loops for *_, loops in looks) == 1
        assert not sum(rows for *_, rows, _ in looks)


class TestStatus:
    def test_it_has_a_column_where_there_are_some(self):
        Write().delay()
        assert "limited" not in status()
        row()
        row(queue_name="elsewhere")

        header, default, elsewhere = (
            re.split(r"  +", line) for line in status().split("\n\n")[0].splitlines()
        )

        assert header == ["queue", "supervisors", "ready", "oldest", "limited", "scheduled",
                          "running", "done/min", "failed/h"]  # fmt: skip
        assert (default[0], default[1], default[4]) == ("default", "none!", "1")
        assert (elsewhere[0], elsewhere[1], elsewhere[4]) == ("elsewhere", "none!", "1")

    def test_programs_are_told(self):
        row()

        (queue,) = json.loads(status("--json"))["queues"]

        assert (queue["limited"], queue["ready"]) == (1, 0)


class TestDashboard:
    def test_it_has_a_column_where_there_are_some(self, admin_client):
        supervise()
        assert "Limited" not in text_of(admin_client.get(reverse(LIVE)))
        row()

        page = admin_client.get(reverse(LIVE)).content.decode()

        assert re.search(
            r'data-label="Limited"><a href="[^"]*\?status=limited&amp;queue=default">1<', page
        )

    def test_a_queue_that_nobody_serves_is_marked(self, admin_client):
        row()

        page = admin_client.get(reverse(LIVE)).content.decode()

        assert '<span class="partisan-status partisan-error">none</span>' in page


def test_the_metrics_have_them():
    row()
    with connection.cursor() as cursor:
        cursor.execute(queue_depth._QUEUE, {"queue_name": "default"})
        depth = queue_depth.Depth(*cursor.fetchone())
    told = families.Families.__new__(families.Families)
    told._queue_name = "default"

    tasks, _ = told.of_queue(depth)

    counts = {sample.labels["status"]: sample.value for sample in tasks.samples}
    assert counts == {"ready": 0, "scheduled": 0, "parked": 0, "limited": 1, "running": 0}


class TestDoctor:
    def test_a_queue_where_only_such_wait_and_nobody_serves(self):
        row()

        ((well, said),) = tasks.unserved_queues()

        assert not well
        assert said.startswith("Nobody serves queue 'default', and tasks wait in it")

    def test_a_paused_queue_where_only_such_wait(self):
        row()
        call_command("partisan", "pause", "default", stdout=io.StringIO())

        ((well, said),) = tasks.paused_queues()

        assert not well
        assert said.startswith("Queue 'default' is paused, and tasks wait in it")

    def test_one_that_was_enqueued_by_a_clock_that_was_ahead(self):
        ahead = row(created_at=timezone.now() + timezone.timedelta(hours=1))

        ((well, said),) = server.rows_ahead()

        assert not well
        assert f"of {ahead.pk}:" in said

    def test_its_state_and_its_indexes_are_known(self):
        row()

        assert [found.well for found in states.constraints()] == [True]
        assert [found.well for found in indexes.indexes()] == [True]

    def test_one_that_killed_its_worker(self):
        lost = row(lost=1)

        wrong = [said for well, said in tasks.lost_tasks() if not well]

        assert f"{lost.pk} Nothing" in wrong[0]
