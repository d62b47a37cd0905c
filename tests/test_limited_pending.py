"""``run_pending()`` under limits: it keeps their orders, rates and pauses, by the test's clock."""

import datetime

import freezegun
import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async import steering
from partisan_async.limits import Limit, Rate
from partisan_async.models import Limit as Row
from partisan_async.models import LimitOverride, LimitPause, Supervisor, Task
from partisan_async.policy import Finished, Postponed
from partisan_async.testing import perform, run_pending
from tests.conftest import marks
from tests.limited import execute
from tests.testapp.partisan_tasks import AtomicWrite, ComeBack, Postpone, Retry, Write
from tests.testapp.partisan_tasks import WriteElsewhere as Elsewhere

MINUTE = datetime.timedelta(minutes=1)
YEAR = datetime.timedelta(days=365)

pytestmark = pytest.mark.django_db


@pytest.fixture
def declared(monkeypatch):
    """Declare a limit on processors; the first letter of the first argument is the key."""

    def declare(*processors, **parts):
        for processor in processors or (Write,):
            monkeypatch.setattr(processor, "LIMIT", Limit(name="partner", **parts))
            monkeypatch.setattr(
                processor, "limit_key", lambda self: str(self.args[0])[:1], raising=False
            )

    return declare


@pytest.fixture(params=["time_machine", "freezegun"])
def at(request):
    """Stop the clock at a time, by either package that people move it with."""
    if request.param == "freezegun":
        return freezegun.freeze_time
    return lambda time: time_machine.travel(time, tick=False)


def written(*names):
    return [Write(name).delay() for name in names]


def statuses(tasks):
    found = dict(Task.objects.values_list("pk", "status"))
    return [found[task.pk] for task in tasks]


class TestRates:
    def test_the_rest_waits_until_the_clock_allows_it(self, declared, at):
        declared(rates=[Rate(2, per_seconds=60)])
        tasks = written("a", "b", "c", "d", "e")
        now = timezone.now()

        with at(now):
            assert len(run_pending()) == 2
            assert run_pending() == []
        with at(now + 0.99 * MINUTE):
            assert run_pending() == []
        with at(now + 1.02 * MINUTE):
            assert len(run_pending()) == 2
        assert statuses(tasks) == ["finished"] * 4 + ["limited"]
        assert marks() == ["a", "b", "c", "d"]

    def test_each_key_has_its_own(self, declared, at):
        declared(rates_per_key=[Rate(1, per_seconds=60)])
        written("a 1", "a 2", "b 1", "b 2")

        with at(timezone.now()):
            run_pending()

        assert marks() == ["a 1", "b 1"]

    @pytest.mark.parametrize("away", [-3 * YEAR, 3 * YEAR])
    def test_whatever_date_the_clock_shows(self, declared, at, away):
        declared(rates=[Rate(2, per_seconds=60)])
        now = timezone.now() + away
        with at(now):
            written("a", "b", "c")
            assert len(run_pending()) == 2
        with at(now + 1.02 * MINUTE):
            assert len(run_pending()) == 1

    def test_until_goes_from_window_to_window(self, declared, at):
        declared(rates=[Rate(2, per_seconds=60)])
        written(*"abcde")
        now = timezone.now()

        with at(now):
            ran = run_pending(until=now + 1.5 * MINUTE)

        times = [each.task.started_at - now for each in ran]
        assert times[:2] == [0 * MINUTE] * 2
        assert times[2] == times[3]
        assert MINUTE <= times[2] <= 1.02 * MINUTE
        assert marks() == ["a", "b", "c", "d"]

    def test_of_several_the_strictest_holds(self, declared, at):
        declared(rates=[Rate(2, per_seconds=1), Rate(3, per_seconds=600)], rates_per_key=[])
        written(*"abcde")
        now = timezone.now()

        with at(now):
            assert len(run_pending(until=now + 9 * MINUTE)) == 3
            assert len(run_pending(until=now + 11 * MINUTE)) == 2

    def test_until_runs_what_is_scheduled_between_two_windows(self, declared, at):
        declared(rates=[Rate(1, per_seconds=60)])
        written("a", "b")
        now = timezone.now()
        Retry("between", 0).delay(execute_after=now + MINUTE / 2)

        with at(now):
            run_pending(until=now + 2 * MINUTE)

        assert marks() == ["a", "try between", "b"]

    def test_a_retry_is_one_more_start(self, declared, at):
        declared(Retry, rates=[Rate(2, per_seconds=60)])
        Retry("a", 2).delay()
        now = timezone.now()

        with at(now):
            assert len(run_pending(until=now + MINUTE / 2)) == 2
            (ran,) = run_pending(until=now + 2 * MINUTE)

        assert ran.decision == Finished()


class TestOrder:
    def test_of_a_key_it_is_that_of_ids(self, declared):
        declared(in_order=True)
        for n in range(5):
            Write(f"a {n}").delay(priority=9 - n)

        run_pending()

        assert marks() == [f"a {n}" for n in range(5)]

    def test_one_that_is_retried_holds_up_those_behind_it(self, declared, at):
        declared(Retry, Write, in_order=True)
        Retry("a", 1).delay()
        behind = written("a behind", "b")
        now = timezone.now()

        with at(now):
            run_pending()
            assert marks() == ["try a", "b"]
            assert statuses(behind) == ["limited", "finished"]
        with at(now + MINUTE):
            run_pending()

        assert marks() == ["try a", "b", "try a", "a behind"]

    def test_one_that_postpones_itself_does_with_until(self, declared, at):
        declared(Postpone, Write, in_order=True)
        Postpone("a", 2, 60).delay()
        written("a behind")
        now = timezone.now()

        with at(now):
            run_pending(until=now + MINUTE)
            assert marks() == ["run a"] * 2
            run_pending(until=now + 3 * MINUTE)

        assert marks() == ["run a"] * 3 + ["a behind"]

    def test_one_that_ended_in_error_does_not(self, declared):
        declared(Retry, Write, in_order=True)
        Retry("a", 9).delay()
        written("a behind")

        run_pending(until=timezone.now() + MINUTE, errors="keep")

        assert marks() == ["try a"] * 4 + ["a behind"]

    def test_what_is_due_is_so_whatever_the_clock_says(self, declared, at):
        declared(in_order=True)
        written("a")

        with at(timezone.now() - YEAR):
            assert len(run_pending()) == 1

    def test_with_ready_ones_it_is_that_of_priorities_and_ids(self, declared):
        """As a supervisor claims: what waits for a limit that allows it, is as good as ready."""
        declared(running_per_key=1)
        Elsewhere("other queue").delay()
        Retry("ready", 0).delay(priority=2)
        Write("b").delay(priority=3)
        Write("a").delay(priority=3)
        Write("a first").delay(priority=1)

        ran = run_pending()

        assert {each.task.status for each in ran} == {"finished"}
        assert marks() == ["a first", "try ready", "b", "a", "other queue"]

    def test_that_of_many_keys_too(self, declared):
        """More than a supervisor looks at in one claim."""
        declared(running=1)
        names = [f"{chr(300 + n)} {n}" for n in reversed(range(150))]
        written(*names)

        run_pending()

        assert marks() == names


class TestWholeKey:
    def test_none_of_it_starts_until_then(self, declared, at):
        declared(ComeBack, running_per_key=3)
        ComeBack("a told", 60).delay()
        other = ComeBack("a other", 0).delay()
        ComeBack("b", 0).delay()
        now = timezone.now()

        with at(now):
            ran = run_pending()
            assert marks() == ["run a told", "run b"]
            decision = ran[0].decision
            assert isinstance(decision, Postponed)
            assert (decision.whole_key, decision.pause) == (True, MINUTE)
            assert statuses([other]) == ["limited"]
            assert LimitPause.objects.get().until == now + MINUTE
        with at(now + 0.9 * MINUTE):
            assert run_pending() == []
        with at(now + 1.1 * MINUTE):
            assert len(run_pending()) == 2

    def test_until_goes_on_after_it(self, declared, at):
        declared(ComeBack, running_per_key=3)
        ComeBack("a told", 60).delay()
        ComeBack("a other", 0).delay()
        now = timezone.now()

        with at(now):
            ran = run_pending(until=now + 1.1 * MINUTE)

        times = [each.task.last_attempted_at - now for each in ran]
        assert times == [0 * MINUTE, MINUTE, MINUTE]

    def test_one_that_is_performed_holds_nobody_up(self, declared):
        """``perform()`` leaves nothing behind."""
        declared(ComeBack, running_per_key=3)

        ran = perform(ComeBack, ["a", 60])

        assert ran.decision.whole_key
        assert not LimitPause.objects.exists()
        assert not Task.objects.exists()


class TestRunning:
    def test_it_holds_nothing_up_in_one_thread(self, declared):
        declared(running=1, running_per_key=1)
        written("a 1", "a 2", "b 1")

        assert len(run_pending()) == 3

    def test_a_limit_that_an_operator_closed_does(self, declared):
        declared(running=1)
        tasks = written("a", "b")
        closed = LimitOverride.objects.create(name="partner", key="a", running=0)

        run_pending()
        assert statuses(tasks) == ["limited", "finished"]
        closed.delete()
        run_pending(until=timezone.now() + MINUTE)

        assert statuses(tasks) == ["finished", "finished"]

    def test_an_atomic_one_frees_its_slot(self, declared):
        declared(AtomicWrite, running=1)
        for name in "ab":
            AtomicWrite(name).delay()

        assert len(run_pending()) == 2

    def test_those_of_a_paused_processor_wait(self, declared):
        declared(running=1)
        tasks = written("a", "b")
        steering.pause(processor="Write")
        assert run_pending() == []
        steering.resume(processor="Write")
        run_pending()

        assert statuses(tasks) == ["finished", "finished"]


class TestTraces:
    def test_what_it_wrote_for_the_code_is_as_a_supervisor_writes_it(self, declared):
        declared(running=3, rates_per_key=[Rate(100, per_seconds=1)])
        written("a")

        run_pending()

        found = Row.objects.get(name="partner")
        assert (found.running, found.rates_per_key, found.ranked) == (3, [[100, 1]], True)
        assert not Supervisor.objects.exists()

    def test_another_order_in_the_code_holds_for_what_waits(self, declared, monkeypatch):
        declared(in_order=False, running=2)
        tasks = written("a 1", "a 2")
        Task.objects.filter(pk=tasks[1].pk).update(limit_rank=0)
        run_pending(queue_name="elsewhere")
        Row.objects.create(name="partner", set_by="00000000-0000-4000-8000-000000000000")
        declared(in_order=True)

        run_pending()

        assert marks() == ["a 1", "a 2"]

    def test_the_test_keeps_its_patience(self, declared):
        """The server would end the session of a test that somebody debugs."""
        declared(running=1)
        names = ("idle_in_transaction_session_timeout", "lock_timeout")
        execute("SET LOCAL lock_timeout = '7s'")
        written("a")

        run_pending()

        assert [execute(f"SHOW {name}") for name in names] == [[("0",)], [("7s",)]]

    @pytest.mark.django_db(transaction=True)
    def test_it_commits_where_the_test_has_no_transaction(self, declared):
        declared(in_order=True)
        written("a 1", "a 2")

        run_pending()

        assert marks() == ["a 1", "a 2"]
        assert not connection.in_atomic_block

    def test_where_none_waits_for_one_no_claim_is_made_under_limits(self, declared):
        declared(in_order=True)
        Retry("ready", 0).delay()

        with CaptureQueriesContext(connection) as made:
            run_pending()

        assert [each["sql"] for each in made if "partisan_async_limitstart" in each["sql"]] == []
        assert not Row.objects.exists()
