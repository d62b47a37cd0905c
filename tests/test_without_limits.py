"""A project without limits: it makes as many statements as before, by the same plans.

The numbers are those of the last commit before limits, measured there by this module.
"""

import io
import json
import re
import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Task
from partisan_async.policy import Failed, Failure, Finished, GivenBack, Retried
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.opening import KEEP_PLANS
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.test_dashboard import nodes
from tests.test_races import TTL, Other
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

BOOM = Failure("builtins.ValueError", "boom", "Traceback")


def enqueue():
    Write(1).delay()


def enqueue_later():
    Write(1).delay(execute_after=timezone.now() + timedelta(hours=1))


def enqueue_many():
    Write.bulk_delay([Write(n) for n in range(100)])


def run_again():
    steering.retry(list(Task.objects.filter(status="error").values_list("pk", flat=True)))


def run_now():
    steering.run_now(list(Task.objects.filter(status="scheduled").values_list("pk", flat=True)))


def prune():
    steering.prune(timedelta(0))


def status():
    call_command("partisan", "status", stdout=io.StringIO())


MADE = {
    enqueue: 1,
    enqueue_later: 1,
    enqueue_many: 3,
    run_again: 4,
    run_now: 4,
    prune: 7,
    status: 4,
}
"""How many statements each of these makes."""

PAGES = {"dashboard_live": 6, "task_changelist": 6}
"""How many each page of the admin makes."""


def fill(finished=5, ready=5):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, finished_at)"
            " SELECT 'default', 'Write', '{\"args\": [1], \"kwargs\": {}}', 10,"
            " now() + CASE WHEN s.status = 'scheduled' THEN interval '1 hour' * (n - 1)"
            " ELSE interval '0 s' END,"
            " s.status, CASE WHEN s.status IN ('finished', 'error') THEN now() END"
            " FROM (VALUES ('finished', %s), ('error', 10), ('new', %s), ('scheduled', 10))"
            " AS s (status, count), generate_series(1, s.count) n",
            [finished, ready],
        )
        cursor.execute("ANALYZE partisan_async_task")


@pytest.mark.parametrize("act", MADE, ids=lambda act: act.__name__)
def test_what_people_and_the_web_do(act):
    fill()

    with CaptureQueriesContext(connection) as queries:
        act()

    assert len(queries) == MADE[act], [each["sql"] for each in queries]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page, admin_client):
    fill()
    url = reverse(f"admin:partisan_async_{page}")
    admin_client.get(url)  # with what is kept from then on

    with CaptureQueriesContext(connection) as queries:
        admin_client.get(url)

    assert len(queries) == PAGES[page], [each["sql"] for each in queries]


OF_EACH_MINUTE = (
    "DELETE tally",
    "DELETE uniquewindow",
    "INSERT tally",
    "SELECT schedule supervisor task",
)
"""Kinds of statements that a supervisor makes once a minute."""


def orphan():
    return Task.objects.create(
        queue_name="default",
        processor_class="Write",
        arguments={"args": [1], "kwargs": {}},
        priority=1,
        execute_after=timezone.now(),
        status="in_process",
        claimed_by=uuid.uuid4(),
        claimed_at=timezone.now(),
    )


class TestSupervisor:
    """By kinds: how many claims and settles it takes is a matter of time."""

    BEAT, TASKS = "INSERT supervisor", "UPDATE task"

    @pytest.fixture
    def made(self, monkeypatch):
        """Return the kinds of the statements of supervisors as they make them."""
        made = []
        execute = Connection.execute

        async def noting(self, statement):
            if (told := kind(statement)) not in OF_EACH_MINUTE:
                made.append(told)
            return await execute(self, statement)

        monkeypatch.setattr(Connection, "execute", noting)
        return made

    def idle(self, made):
        """Wait for some beats between which there is no other statement; return all kinds."""
        before = len(made)
        wait_until(lambda: len(made) >= before + 4 and set(made[-4:]) == {self.BEAT})
        kinds = set(made)
        made.clear()
        return kinds

    def test_its_life(self, made):
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            assert self.idle(made) == {self.BEAT, self.TASKS}

            tasks = Write.bulk_delay([Write(n) for n in range(100)])
            wait_until(lambda: ended(*tasks))
            assert self.idle(made) == {self.BEAT, self.TASKS}

            later = Write(1).delay(execute_after=timezone.now() + timedelta(seconds=0.2))
            wait_until(lambda: ended(later))
            assert self.idle(made) == {self.BEAT, self.TASKS}

            lost = orphan()
            wait_until(lambda: ended(lost))
            assert self.idle(made) == {self.BEAT, self.TASKS}
        # The last one finds out whether the server answers.
        assert set(made) == {self.BEAT, "DELETE supervisor", "SELECT "}


def kind(statement):
    sql = str(statement)
    found = re.findall(r"(INSERT|UPDATE|DELETE)(?: INTO| FROM|) partisan_async_(\w+)", sql)
    if found:
        return " ".join(sorted({" ".join(each) for each in found}))
    return "SELECT " + " ".join(sorted(set(re.findall(r"partisan_async_(\w+)", sql))))


PLANS = {
    "claim": {"ready", "task_pkey"},
    "promote": {"scheduled", "task_pkey"},
    "rescue": {"claimed", "task_pkey"},
    "finished": {"task_pkey"},
    "given back": {"task_pkey"},
    "retried": {"task_pkey"},
    "failed": {"task_pkey"},
    "beat": {"ready", "scheduled", "claimed"},
    "unserved": {"ready", "scheduled"},
}
"""By which indexes each statement reads the tasks."""

ONE_LOOK = {"beat", "unserved"}
"""Those that also look once whether anything waits for a limit."""

DECISIONS = {
    "finished": Finished(),
    "given back": GivenBack(),
    "retried": Retried(timedelta(0), BOOM),
    "failed": Failed(BOOM),
}


def supervising(other, claims):
    """Yield a supervisor's statements, by their names."""
    yield "claim", store.claim(other.me, "default", 50, TTL)
    yield "promote", store.promote("default")
    yield "rescue", store.rescue(other.me, "default", 10, TTL, dead=[], by_clock=True)
    for name, decision in DECISIONS.items():
        ran = None if name == "given back" else Attempt(0.1, "w")
        own = [Settlement(claims.pop(), decision, ran) for _ in range(100)]
        yield name, store.settle(other.me, own)
    beat = store.Beat(other.me, "default", known=[each.id for each in claims])
    yield "beat", store.beat([beat], hostname="h", process="{}", ttl=TTL, home=None)
    yield "unserved", store.unserved(TTL)


def explained(other, statement):
    """Return the nodes of the plan of a statement that is then taken back."""
    other.connection.execute("BEGIN")
    sql = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}"
    ((found,),) = other.connection.execute(sql, statement.params).fetchall()
    other.connection.execute("ROLLBACK")
    plan = json.loads(found) if isinstance(found, str) else found
    return list(nodes(plan[0]["Plan"]))


def test_a_supervisor_reads_a_large_table_by_the_same_indexes():
    fill(100_000, 50_000)
    orphan()
    other = Other()
    try:
        other.connection.execute(KEEP_PLANS)
        claims = other.claim(500)
        found = {name: explained(other, each) for name, each in supervising(other, claims)}
    finally:
        other.connection.close()

    assert found.keys() == PLANS.keys()
    for name, plan in found.items():
        scans = [each for each in plan if each["Actual Loops"] and "Scan" in each["Node Type"]]
        tasks = [each for each in scans if each.get("Relation Name") == "partisan_async_task"]
        indexes = {each.get("Index Name", "").removeprefix("partisan_async_") for each in tasks}
        assert indexes == PLANS[name] | ({"limited"} if name in ONE_LOOK else set()), name
        looks = [each for each in tasks if each.get("Index Name") == "partisan_async_limited"]
        assert [(each["Actual Loops"], each["Actual Rows"]) for each in looks] == (
            [(1, 0)] if name in ONE_LOOK else []
        )
        others = {each.get("Relation Name", "") for each in scans}
        assert not [each for each in others if each.startswith("partisan_async_limit")], name
