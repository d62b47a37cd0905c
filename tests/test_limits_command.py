"""``manage.py partisan limits``: what it shows, how fast, and the way back."""

import json
import logging
import re
import uuid
from datetime import timedelta

import pytest
from django.core.management.base import CommandError
from django.utils import timezone

from partisan_async.models import LimitOverride, LimitPause, LimitStart, Task
from partisan_async.operate import limit_statements, limits
from partisan_async.steering.limits import dissolve_in_batches
from partisan_async.store.rates import GRANULES
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.limited import Limited, execute, limit, row
from tests.test_limit_command import partisan
from tests.test_limited_counts import read

pytestmark = pytest.mark.django_db(transaction=True)


def running(key="k", name="x", count=1):
    held = {"status": "in_process", "claimed_by": uuid.uuid4(), "claimed_at": timezone.now()}
    return [row(key, name, **held) for _ in range(count)]


def lines(*words):
    return [re.split(r"  +", each) for each in partisan("limits", *words).splitlines()]


def fill(keys, each=1, name="x"):
    """Insert tasks that wait, in a table with others; and have the planner know."""
    columns = (
        "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
        " execute_after, status, finished_at, limit_name, limit_key, limit_rank)"
        " SELECT 'default', 'Write', '{}', 10, now(), "
    )
    execute(f"{columns} 'finished', now(), NULL, NULL, NULL FROM generate_series(1, 20000)")
    execute(
        f"{columns} 'limited', NULL, %s, k::text, 10"
        " FROM generate_series(1, %s) k, generate_series(1, %s)",
        [name, keys, each],
    )
    execute("VACUUM ANALYZE partisan_async_task")


class TestLimits:
    def test_without_any_it_says_so(self):
        assert partisan("limits") == (
            "There are no limits: no supervisor's code has any, and no task waits for one.\n"
        )

    def test_a_line_for_each(self):
        limit("partner", running=20, running_per_key=2, rates=[[10_000, 3600]])
        limit("orders", in_order=True, rates_per_key=[[1, 1], [5, 0.5]])
        limit("fair")
        running("acme", "partner", 2)
        for key in ("acme", "acme", "bee", None):
            row(key, "partner")
        row("bee", "partner", queue_name="elsewhere")
        row("1", "orders")

        header, *found = lines()

        assert header == ["limit", "running", "waiting", "keys", "next start", "allows", "changed"]
        assert found == [
            ["fair", "0", "0", "0", "-", "turns for keys", "-"],
            ["orders", "0", "1", "1", "now",
             "in order, 1 in 1 second of a key, 5 in 0.5 seconds of a key", "-"],
            ["partner", "2 of 20", "5", "2", "now",
             "20 at once, 2 of a key, 10,000 in 60 minutes", "-"],
        ]  # fmt: skip

    def test_when_the_next_one_starts(self):
        """Closed, full, by a rate; not known yet, or not in order yet."""
        for name, numbers in {
            "closed": {"running": 5}, "full": {"running": 1}, "idle": {"running": 1},
            "order": {"ranked": False}, "rated": {"rates": [[2, 600]]}, "spent": {"running": 9},
        }.items():  # fmt: skip
            limit(name, **numbers)
        LimitOverride.objects.create(name="closed", running=0)
        LimitOverride.objects.create(name="spent", running=8)
        LimitOverride.objects.create(name="spent", key="k", running=1)
        LimitOverride.objects.create(name="nobody's", running=1)
        running(name="full"), row("other", name="full"), row(name="unknown")
        for name in ("closed", "order", "rated", "spent"):
            row(name=name)
        start("rated", 2, 600, seconds_ago=240)

        told = {each[0]: each for each in lines()}

        assert {name: each[4] for name, each in told.items() if name != "rated"} == {
            "limit": "next start", "closed": "closed", "full": "when one ends", "idle": "-",
            "order": "when its tasks are in order", "spent": "now",
            "unknown": "when a supervisor has its numbers",
            "nobody's": "when a supervisor has its numbers",
        }  # fmt: skip
        assert re.fullmatch(r"rate: [-\d]+ [:\d]+ \(in [56] minutes\)", told["rated"][4])
        assert (told["closed"][1], told["closed"][-1]) == ("0 of 0", "closed")
        assert (told["spent"][1], told["spent"][-1]) == ("0 of 8", "8 at once, keys: 1")
        assert told["unknown"][5] == "?"

    def test_programs_are_told(self):
        limit("partner", running=20, rates=[[1, 60]])
        row("acme", "partner")
        start("partner", 1, 60)

        (found,) = json.loads(partisan("limits", "--json"))["limits"]

        assert (found["name"], found["declared"], found["waiting"]) == ("partner", 20, 1)
        assert found["rates"] == [[1, 60]]
        assert found["rated_until"] > "2026"

    def test_the_numbers_end_where_the_count_does(self):
        fill(30, 2)

        (found,) = limits.limits(7, 5)

        assert (found.waiting, found.keys) == (7, 5)


def start(name, count, seconds, *, key=None, seconds_ago=0.0):
    """Have tasks have started under a rate, so long ago."""
    ((now,),) = execute("SELECT extract(epoch FROM clock_timestamp())::float8")
    granule = int((now - seconds_ago) * GRANULES / seconds)
    LimitStart.objects.create(
        name=name, of_key=key is not None, key=key, per_seconds=seconds, granule=granule,
        count=count, until=timezone.now() + timedelta(days=1),
    )  # fmt: skip


class TestKeys:
    def test_the_fullest_come_first(self):
        limit("partner", running_per_key=2, rates_per_key=[[1, 600]])
        for key, count in (("a", 1), ("b", 3), ("c", 2)):
            for _ in range(count):
                row(key, "partner")
        running("c", "partner", 2), running("d", "partner"), row("z", "other"), row(None, "partner")
        row("a", "partner", queue_name="elsewhere")
        start("partner", 1, 600, key="b")
        until = timezone.now() + timedelta(minutes=5)
        LimitPause.objects.create(name="partner", key="a", until=until)
        LimitOverride.objects.create(name="partner", key="e", running=7)

        *_, blank, header, b, c, a, d, e = lines("partner")

        assert (blank, header) == ([""], ["key", "running", "waiting", "next start", "changed"])
        assert b[:3] == ["'b'", "0 of 2", "3"]
        assert re.fullmatch(r"rate: \S+ \S+ \(in 10 minutes\)", b[3])
        assert a[:3] == ["'a'", "0 of 2", "2"]
        assert re.fullmatch(r"paused until \S+ \S+ \(in [45] minutes\)", a[3])
        assert c == ["'c'", "2 of 2", "2", "when one ends", "-"]
        assert d == ["'d'", "1 of 2", "0", "-", "-"]
        assert e == ["'e'", "0 of 7", "0", "-", "7 at once"]

    def test_in_order_one_runs_whatever_is_said(self):
        limit("orders", in_order=True)
        row("a", "orders"), row("b", "orders")
        LimitOverride.objects.create(name="orders", key="a", running=7)
        LimitOverride.objects.create(name="orders", key="b", running=0)

        found = {each.key: each for each in limits.keys("orders").keys}

        assert (found["a"].most, found["b"].most) == (1, 0)
        assert found["b"].next_start == "closed"

    def test_fifty_are_shown_and_those_with_a_number_of_their_own(self):
        limit(running_per_key=1)
        fill(120)
        fill(1, 5)
        LimitOverride.objects.create(name="x", key="99", running=1)
        LimitOverride.objects.create(name="x", key="rests", running=0)

        *_, first, more = lines("x")[3:5] + lines("x")[-1:]
        found = limits.keys("x")

        assert first[0] == "'1'"
        assert more == [f"and {121 - len(found.keys):,} more"]
        assert len(found.keys) == 52
        assert [each.key for each in found.keys[-2:]] == ["99", "rests"]

    def test_without_any_it_says_so(self):
        limit(), row(None)

        assert "No task that waits or runs has a key." in partisan("limits", "x")

    def test_programs_are_told(self):
        limit(), row("acme"), fill(60)

        found = json.loads(partisan("limits", "x", "--json"))

        assert [each["name"] for each in found["limits"]] == ["x"]
        assert len(found["keys"]) == 50
        assert (found["keys"][0]["waiting"], found["more"]) == (1, 11)

    def test_a_name_that_nobody_knows(self):
        limit("partner")

        with pytest.raises(CommandError, match="Nobody knows a limit 'x'; known are 'partner'"):
            partisan("limits", "x")
        with pytest.raises(CommandError, match="Nobody knows a limit 'x'; known are 'partner'"):
            partisan("limits", "x", "--dissolve", "--yes")


class TestCost:
    """At sizes where the planner has a choice."""

    def test_a_key_costs_a_look_however_many_wait(self):
        """Ten thousand keys are walked from one to the next."""
        limit(running_per_key=1)
        fill(1000, 50)
        about = {"at_most": 100, "keys": 300}

        scans = read(limit_statements.LIMITS, about)

        assert scans
        assert not [each for each in scans if "Seq" in each[0]]
        assert sum(rows for *_, rows, _ in scans) < 100 + 2 * 300 + 50

    def test_to_find_the_fullest_not_all_are_counted(self, monkeypatch):
        most = str(limit_statements.COUNTED_OF_ALL)
        limit(running_per_key=1)
        fill(1000, 50)
        sql = limit_statements.KEYS.replace(most, "20000")

        scans = read(sql, {"name": "x", "keys": 10_000})

        assert not [each for each in scans if "Seq" in each[0]]
        assert sum(rows for *_, rows, _ in scans) < 20_000 + 3 * 1000

    def test_the_command_reads_a_few_rows_in_python(self, django_assert_max_num_queries):
        limit(running_per_key=1)
        fill(10_000)

        with django_assert_max_num_queries(3):
            told = partisan("limits", "x")

        assert len(told.splitlines()) == 2 + 1 + 1 + 50 + 1
        assert "10,000+" in told


class TestDissolve:
    def test_all_that_waits_runs(self):
        limit(running=1)
        waiting = [
            row(str(n), processor_class="Write", arguments={"args": [n], "kwargs": {}})
            for n in range(5)
        ]
        other = row(None, "other", queue_name="elsewhere")
        partisan("limit", "x", "--running", 0)
        with live_supervisor(WORKERS_COUNT=1):
            assert partisan("limits", "x", "--dissolve", "--yes").startswith("dissolve: 5 tasks.\n")
            wait_until(lambda: ended(*waiting))

        other.refresh_from_db()
        assert other.status == "limited"
        assert partisan("limits", "--dissolve", "--yes") == "dissolve: 1 task.\n"
        other.refresh_from_db()
        assert (other.status, other.limit_name) == ("new", None)
        assert partisan("limits", "--dissolve") == "dissolve: no task waits for any limit.\n"

    def test_it_does_so_in_slices(self):
        fill(2500)

        assert list(dissolve_in_batches("x")) == [1000, 1000, 500]
        assert not Task.objects.filter(status="limited").exists()

    def test_what_is_not_due_waits_for_its_time(self):
        """In order such a task keeps its place; a ready one would start at once."""
        later = row(execute_after=timezone.now() + timedelta(hours=1))

        partisan("limits", "--dissolve", "--yes")

        later.refresh_from_db()
        assert later.status == "scheduled"

    def test_it_asks(self, monkeypatch):
        row(), row()
        asked = []
        monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")

        with pytest.raises(CommandError, match="Nothing was done"):
            partisan("limits", "x", "--dissolve")

        assert asked == ["dissolve: 2 tasks that wait for limit 'x' run without it? [y/N] "]
        assert Task.objects.filter(status="limited").count() == 2

    def test_it_ends_where_a_supervisor_makes_them_wait_again(self):
        """Its code has the limit."""
        fill(2000)
        batches = dissolve_in_batches("x")

        counts = [next(batches)]
        Task.objects.filter(status="new").update(
            status="limited", limit_name="x", limit_key="again", limit_rank=10
        )
        counts += batches

        assert sum(counts) == 2000
        assert Task.objects.filter(status="limited").count() == 1000

    def test_what_is_locked_is_told(self):
        free, locked = row("a"), row("b")
        claimer = Limited()
        with claimer.connection.transaction():
            claimer.connection.execute(
                "SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE", [locked.pk]
            )
            with pytest.raises(CommandError, match="1 task left: others have locked it"):
                partisan("limits", "--dissolve", "--yes")
        claimer.connection.close()

        free.refresh_from_db()
        assert free.status == "new"

    def test_it_is_put_down(self, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        row("ada@example.org")

        partisan("limits", "x", "--dissolve", "--yes")

        (told,) = [each for each in caplog.records if getattr(each, "event", "") == "steered"]
        assert told.getMessage().startswith("steered: dissolve 1 of 'x' in queue 'default', by ")
        assert (told.limit, told.count) == ("x", 1)
