"""Ends in error under fire: each is told of by one call, whoever is killed in the middle."""

import random
from collections import Counter
from contextlib import suppress

import psutil
import pytest

from partisan_async.models import Task
from tests.faults import partisan_tasks as tasks

KILLS = 50

WAYS = {
    "TellingNap": lambda rng: tasks.TellingNap(round(rng.uniform(0, 0.2), 2)),
    "TellingBreak": lambda rng: tasks.TellingBreak(),
    "AsyncTellingBreak": lambda rng: tasks.AsyncTellingBreak(),
    "AtomicTellingBreak": lambda rng: tasks.AtomicTellingBreak(),
    "TellingStumble": lambda rng: tasks.TellingStumble(),
    "TellingSnooze": lambda rng: tasks.TellingSnooze(),
    "TellingPoison": lambda rng: tasks.TellingPoison(rng.choice(["SIGKILL", "SIGSEGV", "exit"])),
}

SLOWLY = """
CREATE OR REPLACE FUNCTION faults_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER faults_slowly BEFORE INSERT ON partisan_async_task
FOR EACH ROW WHEN (NEW.processor_class = 'Report') EXECUTE FUNCTION faults_slowly()
"""
"""So that who is killed is often in the middle of the statement that ends a task and tells of it.
"""


@pytest.fixture
def slowly(site):
    site.execute(SLOWLY)
    yield
    site.execute("DROP TRIGGER faults_slowly ON partisan_async_task")
    site.execute("DROP FUNCTION faults_slowly()")


@pytest.mark.usefixtures("slowly")
def test_each_end_is_told_of_once_though_fifty_are_killed(site):
    """Of workers and supervisors, at random, with a seed; the checker counts the calls."""
    rng = random.Random(1)
    pair = [site.start(WORKERS_COUNT=2) for _ in range(2)]
    killed = Counter()
    for number in range(KILLS):
        for name in rng.sample(sorted(WAYS), 4):
            WAYS[name](rng).delay()
        if number % 10 == 0:
            tasks.TellingNeverEnds(rng.choice(["sleep", "deaf"])).delay()
            misfit(site)
        if rng.random() < 0.3:
            site.wait_until(lambda: all("started: queue" in each.output for each in pair))
            victim = pair.pop(rng.randrange(2))
            begun(site)
            victim.kill()
            pair.append(site.start(WORKERS_COUNT=2, wait=False))
            killed["supervisor"] += 1
        else:
            begun(site)
            site.wait_until(lambda: kill_a_worker(rng, pair), "a worker is there to be killed")
            killed["worker"] += 1

    site.wait_until(lambda: all("started: queue" in each.output for each in pair))
    verdict = site.settle_down(seconds=180)

    assert killed.total() == KILLS
    assert min(killed.values()) >= 10
    assert verdict.duplicates["rescued"]
    names = [*WAYS, "TellingNeverEnds", "TellingMisfit"]
    ended = Counter(
        Task.objects.filter(processor_class__in=names, status="error").values_list(
            "processor_class", flat=True
        )
    )
    assert ended.keys() >= {*names} - {"TellingNap"}
    assert Task.objects.filter(processor_class="Report").count() == ended.total()


def begun(site):
    """Wait until something runs or is being settled, or all of it is over already."""
    left = Task.objects.exclude(status__in=["finished", "error"])
    site.wait_until(lambda: left.filter(status="in_process").exists() or not left.exists())


def kill_a_worker(rng, pair):
    workers = []
    for supervisor in pair:
        with suppress(ValueError, psutil.NoSuchProcess):  # it has no forkserver yet
            workers += supervisor.workers()
    if not workers:
        return False
    with suppress(psutil.NoSuchProcess):
        rng.choice(workers).kill()
        return True
    return False


def misfit(site):
    """Enqueue a call with an argument that its processor does not take."""
    site.execute(
        """
        INSERT INTO partisan_async_task
            (queue_name, processor_class, arguments, priority, execute_after)
        VALUES ('default', 'TellingMisfit', '{"args": [1], "kwargs": {}}', 10, now())
        """
    )


def test_one_that_is_killed_in_the_middle_of_the_statement_has_told(site, slowly):
    """The server goes on with it, for nobody, and who comes next finds that it is done."""
    site.execute(SLOWLY.replace("0.02", "2"))
    first = site.start(WORKERS_COUNT=1)
    task = tasks.TellingBreak().delay()
    in_the_middle = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    site.wait_until(lambda: site.execute(in_the_middle))
    first.kill()
    site.start(WORKERS_COUNT=1)
    site.wait_until_ended()

    site.settle_down()

    reports = Task.objects.filter(processor_class="Report")
    assert [report.args for report in reports] == [[task.pk]]


def test_an_answer_that_is_lost_tells_nobody_twice(site):
    """The settle is sent again, and finds that the claim is over."""
    relay = site.relay()
    site.start(WORKERS_COUNT=1, url=site.relayed(relay))
    told = []
    for _ in range(5):
        lost = relay.lost_answers
        relay.lose_answers(1, matching=b"told_queue")
        told.append(tasks.TellingBreak().delay())
        site.wait_until(lambda n=lost: relay.lost_answers > n, "a settle was not answered")
    site.wait_until_ended()

    site.settle_down()

    relay.close()
    reports = Task.objects.filter(processor_class="Report").order_by("id")
    assert [report.args for report in reports] == [[task.pk] for task in told]
