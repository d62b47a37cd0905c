"""Tasks that do not come to an end by themselves."""

from django.db import transaction

from partisan_async.models import Task
from tests.faults.flow import ended_beside
from tests.faults.partisan_tasks import (
    AsyncNap,
    AsyncNeverEnds,
    AsyncStay,
    Nap,
    NeverEnds,
    NeverEndsAtFirst,
    Noop,
    Recurse,
    Stay,
)

RAISED = "run() took longer than its time limit of 1 s."
KILLED = (
    "run() took longer than its time limit of 1 s and did not heed it, so its worker process was"
    " killed."
)


def assert_timed_out(message, *tasks):
    for task in tasks:
        task.refresh_from_db()
        last = task.errors[-1]
        assert (task.status, task.tries, task.lost) == ("error", 1, 0)
        assert last["exception_class"] == "partisan_async.exceptions.TaskTimeout"
        assert last["message"] == message


def assert_finished_after_retries(message, *tasks):
    for task in tasks:
        task.refresh_from_db()
        assert (task.status, task.lost) == ("finished", 0)
        assert {error["message"] for error in task.errors} == {message}


def assert_nobody_is_blamed():
    assert not Task.objects.exclude(lost=0).exists()


def queries_that_go_on(site):
    return site.execute(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
    )


def test_what_heeds_its_limit_ends_and_costs_nobody_a_run(site):
    """In Python, asleep, in a query, on the event loop: no worker is killed for it."""
    supervisor = site.start(WORKERS_COUNT=3)
    with site.load(rate=20):
        with transaction.atomic():
            endless = [NeverEnds(how).delay() for how in ("loop", "sleep", "query")]
            endless += [AsyncNeverEnds(how).delay() for how in ("sleep", "query")]
            retried = [NeverEndsAtFirst(how).delay() for how in ("sleep", "query")]
        site.wait_until_ended(*endless, *retried)
    assert "overran" not in supervisor.output
    assert queries_that_go_on(site) == []

    verdict = site.settle_down()

    assert_timed_out(RAISED, *endless)
    assert_finished_after_retries(RAISED, *retried)
    assert_nobody_is_blamed()
    assert not verdict.duplicates
    assert sum(ended_beside(site, task) for task in endless) > 0


def test_what_does_not_heed_it_is_killed_with_its_worker(site):
    """It swallows every exception, or never comes back to Python. Async tasks beside it run
    again, and the queue flows on through the workers that are left."""
    site.start(WORKERS_COUNT=4)
    with site.load(rate=20):
        neighbours = [AsyncNap(1).delay() for _ in range(8)]
        endless = [NeverEnds(how).delay() for how in ("deaf", "C code")]
        retried = NeverEndsAtFirst("deaf").delay()
        site.wait_until_ended(*endless, retried, *neighbours)

    site.settle_down()

    assert_timed_out(KILLED, *endless)
    assert_finished_after_retries(KILLED, retried)
    assert_nobody_is_blamed()
    assert all(ended_beside(site, task) > 0 for task in endless)


def test_on_the_event_loop_its_neighbours_run_again_and_are_not_blamed(site):
    """A blocked loop blocks them too, so that each is a suspect; alone it shows who it was."""
    site.start(WORKERS_COUNT=3)
    with site.load(rate=20):
        neighbours = [AsyncNap(1).delay() for _ in range(6)]
        endless = [AsyncNeverEnds(how).delay() for how in ("deaf", "blocks the loop")]
        site.wait_until_ended(*endless, *neighbours)

    site.settle_down()

    assert_timed_out(KILLED, *endless)
    assert_nobody_is_blamed()
    assert all(ended_beside(site, task) > 0 for task in endless)


def test_the_rest_flows_through_the_one_worker_that_is_left(site, tmp_path):
    """All workers but one are taken, and nothing waits behind those."""
    flag = tmp_path / "enough"
    site.start(WORKERS_COUNT=3)
    endless = [Stay(str(flag)).delay() for _ in range(2)]
    pids = {site.running(task).pid for task in endless}
    with site.load(rate=30):
        rest = [Nap(0.05).delay() for _ in range(40)]
        beside = [AsyncStay(str(flag)).delay() for _ in range(3)]
        for task in beside:
            site.running(task)
        site.wait_until_ended(*rest)
        still_running = site.unfinished(*endless, *beside)
        flag.touch()

    verdict = site.settle_down()

    assert still_running == 5
    assert len(pids) == 2
    assert not verdict.duplicates


def test_a_recursion_without_end_ends_its_task_alone(site):
    """Its traceback is as long as the stack, and its row holds what can be told of it."""
    supervisor = site.start(WORKERS_COUNT=2)
    workers = supervisor.workers()
    with site.load(rate=20):
        deep = [Recurse().delay() for _ in range(3)]
        after = Noop("after").delay()
        site.wait_until_ended(*deep, after)
        assert supervisor.workers() == workers

    site.settle_down()

    for task in deep:
        task.refresh_from_db()
        assert (task.status, task.tries, task.lost) == ("error", 1, 0)
        assert task.errors[-1]["exception_class"] == "builtins.RecursionError"
    assert_nobody_is_blamed()
