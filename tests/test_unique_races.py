"""Calls with a ``UNIQUE`` that meet: each other, a claim, a settle; each order is forced."""

import random
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from partisan_async import store
from partisan_async.claim import Attempt, Settlement
from partisan_async.enqueue import taking
from partisan_async.models import Task, UniqueWindow
from partisan_async.policy import Failure, Finished, Retried
from tests.conftest import wait_until
from tests.test_races import Other, slow_claims
from tests.test_taking import Begun, advisory_locks, elsewhere
from tests.test_unique import call, other, rows, unique
from tests.testapp.partisan_tasks import Sync

__all__ = ["elsewhere", "other", "slow_claims", "unique"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)

RULES = [
    pytest.param({"on_twin": on_twin} | more, id=" ".join([on_twin, *more]))
    for on_twin in ("ignore", "replace", "sooner")
    for more in ({}, {"while_running": True}, {"within_seconds": 3600})
]
BOOM = Failure("builtins.ValueError", "boom", "Traceback …")


@pytest.fixture(autouse=True)
def _no_waits(transactional_db):
    """Fail, rather than hang, where a caller here waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    yield
    connection.close()


@pytest.fixture
def patient(monkeypatch):
    """However busy the machine is, no call gives up and is inserted beside another."""
    monkeypatch.setattr(taking, "PAUSES_SECONDS", (0, *[0.002] * 20_000))


def later(minutes=60):
    return timezone.now() + timedelta(minutes=minutes)


def keyed():
    """Return the rows that still have their keys."""
    return [task for task in rows() if task.digest or task.unique_key]


class TestTwoCallers:
    @pytest.mark.parametrize("rule", RULES)
    def test_a_call_in_an_open_transaction_is_not_waited_for(self, unique, elsewhere, rule):
        """Nor known: it may be rolled back. So there are two rows, and one window at most."""
        unique(**rule)
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "theirs").delay())

            mine = Sync("ada", "mine").delay()

            assert not mine.is_twin
            assert rows() == [mine]
            assert not UniqueWindow.objects.exists()
        assert sorted(call(task)[1] for task in rows()) == ["mine", "theirs"]
        assert [call(task)[1] for task in keyed()] == ["theirs"]
        assert UniqueWindow.objects.count() == ("within_seconds" in rule)

    @pytest.mark.parametrize("rule", RULES)
    def test_one_that_is_committed_is_known(self, unique, elsewhere, rule):
        unique(**rule)
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "theirs").delay())

        assert Sync("ada", "mine").delay().is_twin

    @pytest.mark.parametrize("rule", RULES)
    def test_one_that_is_rolled_back_is_not(self, unique, elsewhere, rule):
        unique(**rule)
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "theirs").delay())
            elsewhere.do(lambda: transaction.set_rollback(True))

        mine = Sync("ada", "mine").delay()

        assert (mine.is_twin, keyed()) == (False, [mine])

    @pytest.mark.parametrize("rule", RULES)
    def test_one_that_commits_meanwhile_is_found(self, unique, elsewhere, patient, rule):
        unique(**rule)
        told = []
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "theirs").delay())

            def enqueue():
                told.append(Sync("ada", "mine").delay())
                connections.close_all()

            mine = threading.Thread(target=enqueue)
            mine.start()
        mine.join()

        assert told == rows()
        assert told[0].is_twin

    @pytest.mark.parametrize("rule", RULES)
    def test_two_calls_in_opposite_orders(self, unique, elsewhere, rule):
        unique(**rule)
        with transaction.atomic(), Begun(elsewhere):
            Sync("ada").delay()
            elsewhere.do(lambda: Sync("bob").delay())
            Sync("bob").delay()
            elsewhere.do(lambda: Sync("ada").delay())

        assert sorted(call(task)[0] for task in rows()) == ["ada", "ada", "bob", "bob"]
        assert len(keyed()) == 2

    @pytest.mark.parametrize("rule", RULES)
    def test_many_calls_in_opposite_orders(self, unique, elsewhere, rule):
        unique(**rule)

        def enqueue(*accounts):
            return Sync.bulk_delay([Sync(account) for account in accounts])

        with transaction.atomic(), Begun(elsewhere):
            enqueue("a", "b")
            elsewhere.do(lambda: enqueue("c", "d"))
            enqueue("e", "d", "c")
            elsewhere.do(lambda: enqueue("b", "a"))

        assert len(rows()) == 9
        assert len(keyed()) == 5

    def test_two_who_found_the_same_twin_both_return_it(self, unique, elsewhere):
        for on_twin in ("ignore", "sooner"):
            unique(on_twin=on_twin)
            twin = Sync("ada").delay()
            with Begun(elsewhere):
                elsewhere.do(lambda: Sync("ada").delay())

                assert Sync("ada").delay() == twin
            assert elsewhere.results.pop(-2) == twin

    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("on_twin", ["replace", "sooner"])
    def test_a_twin_that_is_changed_in_an_open_transaction_is_left_alone(
        self, unique, elsewhere, on_twin, while_running
    ):
        """The second is enqueued beside it: no call is lost, and nobody waits."""
        unique(on_twin=on_twin, while_running=while_running)
        twin = Sync("ada", "first").delay(execute_after=later())
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "second").delay())

            third = Sync("ada", "third").delay()

            assert not third.is_twin
        assert rows() == [twin, third]
        assert call(rows()[1]) == ("ada", "third")

    @pytest.mark.parametrize("on_twin", ["replace", "sooner"])
    def test_so_it_is_within_its_window(self, unique, elsewhere, on_twin):
        unique(on_twin=on_twin, within_seconds=3600)
        twin = Sync("ada", "first").delay(execute_after=later())
        with Begun(elsewhere):
            elsewhere.do(lambda: Sync("ada", "second").delay())

            third = Sync("ada", "third").delay()

            assert not third.is_twin
        assert rows() == [twin, third]

    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_who_must_not_write_finds_a_window_that_somebody_has_begun(
        self, unique, elsewhere, on_twin
    ):
        """The window is of no snapshot: whoever comes second sees what the first one committed."""
        unique(on_twin=on_twin, within_seconds=3600)
        first = Sync("ada").delay()
        Task.objects.update(status="finished", finished_at=timezone.now())
        UniqueWindow.objects.update(until=timezone.now() - timedelta(seconds=1))
        insert = []

        def begin_another_between(execute, sql, *rest):
            if "INSERT INTO partisan_async_uniquewindow" in sql and not insert:
                insert.append(sql)
                elsewhere.do(lambda: Sync("ada").delay())
                elsewhere.do(
                    lambda: Task.objects.filter(status="new").update(
                        status="finished", finished_at=timezone.now()
                    )
                )
            return execute(sql, *rest)

        with connection.execute_wrapper(begin_another_between):
            mine = Sync("ada").delay()

        assert len(rows()) == 2
        assert mine == elsewhere.results[0] != first
        assert mine.is_twin


class TestHowMany:
    """The server has one table of locks for all its sessions."""

    @pytest.mark.parametrize("rule", RULES)
    def test_a_transaction_takes_no_more_than_so_many_keys(self, unique, rule):
        unique(**rule)
        for _ in range(2):  # the second time, each has a twin
            with transaction.atomic():
                for n in range(taking.TAKEN_AT_MOST + 10):
                    Sync(str(n)).delay()

                assert advisory_locks() <= taking.TAKEN_AT_MOST
            assert advisory_locks() == 0
        assert len(rows()) == len(keyed()) == taking.TAKEN_AT_MOST + 10

    @pytest.mark.parametrize("rule", RULES)
    def test_with_autocommit_off_it_is_the_callers_transaction(self, unique, elsewhere, rule):
        unique(**rule)
        for end in (transaction.rollback, transaction.commit):
            transaction.set_autocommit(False)
            try:
                first = Sync("ada").delay()
                assert Sync("ada").delay() == first
                assert advisory_locks() == 0
                elsewhere.do(lambda: (rows(), UniqueWindow.objects.count()))
                end()
            finally:
                transaction.set_autocommit(True)
            assert elsewhere.results[-1] == ([], 0)
            assert rows() == ([] if end == transaction.rollback else [first])

    def test_those_that_a_run_stands_for_are_counted_too(self, unique, other):
        """Nothing else is registered for the commit then."""
        unique(while_running=True)
        for n in range(5):
            Sync(str(n)).delay()
        other.claim()
        with transaction.atomic():
            for n in range(5):
                assert Sync(str(n)).delay().is_twin
            assert taking.taken_by(connections["default"]).count == 5


class TestWithAClaim:
    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_a_twin_is_not_claimed_before_the_caller_commits(
        self, unique, other, on_twin, while_running
    ):
        """It would run on the state from before the caller's changes, or with other arguments."""
        unique(on_twin=on_twin, while_running=while_running)
        twin = Sync("ada", "first").delay()

        with transaction.atomic():
            assert Sync("ada", "second").delay() == twin
            assert other.claim() == []
        (claim,) = other.claim()

        assert claim.id == twin.pk
        assert ("second" in claim.arguments) == (on_twin == "replace")

    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_a_twin_that_was_claimed_before_runs(self, unique, other, on_twin, while_running):
        unique(on_twin=on_twin, while_running=while_running)
        twin = Sync("ada", "first").delay()
        (claim,) = other.claim()

        mine = Sync("ada", "second").delay()

        assert mine.is_twin == while_running
        assert (mine == twin) == while_running
        assert other.settle(claim, Finished()) == [(twin.pk,)]
        assert call(Task.objects.get(pk=twin.pk)) == ("ada", "first")

    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_a_claim_that_is_under_way_is_seen_when_it_is_through(
        self, unique, other, slow_claims, patient, on_twin, while_running
    ):
        unique(on_twin=on_twin, while_running=while_running)
        twin = Sync("ada", "first").delay()
        claims = []
        claimer = threading.Thread(target=lambda: claims.extend(other.claim()))
        claimer.start()
        wait_until(lambda: sleeping() == 1)

        mine = Sync("ada", "second").delay()
        claimer.join()

        assert [claim.id for claim in claims] == [twin.pk]
        assert (mine == twin) == while_running
        assert call(Task.objects.get(pk=twin.pk)) == ("ada", "first")

    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_a_claim_that_stays_open_is_not_waited_for(self, unique, other, on_twin):
        """As one whose connection is cut off would."""
        unique(on_twin=on_twin, while_running=True)
        Sync("ada", "first").delay()
        with other.connection.transaction():
            other.claim()

            mine = Sync("ada", "second").delay()

        assert not mine.is_twin
        assert len(rows()) == 2


def sleeping():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        return cursor.fetchone()[0]


@pytest.fixture
def slow_windows():
    """A window takes a second to begin."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION slow_window() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE INSERT ON partisan_async_uniquewindow FOR EACH ROW
                EXECUTE FUNCTION slow_window();
            """
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER slow ON partisan_async_uniquewindow")
        cursor.execute("DROP FUNCTION slow_window")


class TestWithASettle:
    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_an_end_that_is_not_committed_is_not_waited_for(self, unique, other, on_twin):
        """An ATOMIC run may hold it as long as its commit takes; until then, it runs."""
        unique(on_twin=on_twin, while_running=True)
        twin = Sync("ada").delay()
        (claim,) = other.claim()
        with other.connection.transaction():
            settlement = Settlement(claim, Finished(), Attempt(0.1, "h/1"))
            other.execute(store.settle_within(other.me, settlement, delete=False))

            assert Sync("ada").delay() == twin

        assert not Sync("ada").delay().is_twin

    @pytest.mark.parametrize("rule", RULES)
    def test_a_call_that_is_enqueued_while_a_task_goes_back_to_waiting(self, unique, other, rule):
        """The settle fails nothing, whoever has the key, and neither is lost."""
        unique(**rule)
        first = Sync("ada", "first").delay()
        (claim,) = other.claim()
        UniqueWindow.objects.all().delete()

        with transaction.atomic():
            second = Sync("ada", "second").delay()
            assert settle_as_a_supervisor(other, claim) == [(first.pk,)]

        assert second.is_twin == ("while_running" in rule)
        assert {task.status for task in rows()} == {"new"}
        assert first in rows()
        assert second in rows()

    @pytest.mark.parametrize("rule", RULES)
    def test_a_call_that_comes_after_it_finds_the_task_waiting(self, unique, other, rule):
        unique(**rule)
        first = Sync("ada", "first").delay()
        (claim,) = other.claim()
        assert settle_as_a_supervisor(other, claim) == [(first.pk,)]

        second = Sync("ada", "second").delay()

        assert (second.pk, second.is_twin) == (first.pk, True)

    def test_no_window_stays_of_a_call_whose_twin_comes_back_meanwhile(
        self, unique, other, slow_windows
    ):
        """The statement does not see it, and its index does: by then the window has begun."""
        unique(within_seconds=3600)
        first = Sync("ada").delay()
        UniqueWindow.objects.all().delete()
        (claim,) = other.claim()
        told = []

        def enqueue():
            told.append(Sync("ada").delay())

        caller = threading.Thread(target=lambda: in_threads(enqueue))
        caller.start()
        wait_until(lambda: sleeping() == 1)
        other.settle(claim, Retried(timedelta(0), BOOM))
        caller.join()

        assert told == [first]
        assert not UniqueWindow.objects.exists()

    def test_a_neighbour_that_is_in_the_way_costs_a_run_no_key(self, unique, other):
        """A batch in which one row meets its twin is written gently, the others as they are."""
        unique(while_running=True)
        first = Sync("ada").delay()
        unique()
        second = Sync("bob").delay()
        claims = {claim.id: claim for claim in other.claim()}
        Sync("bob").delay()

        batch = [
            Settlement(claims[task.pk], Retried(timedelta(0), BOOM), Attempt(0.1, "h/1"))
            for task in (first, second)
        ]
        with pytest.raises(psycopg.errors.UniqueViolation):
            other.execute(store.settle(other.me, batch))
        other.execute(store.settle(other.me, batch, gently=True))

        unique(while_running=True)
        assert Sync("ada").delay() == first


def settle_as_a_supervisor(other, claim):
    """Write a retry as ``supervisor.writer`` does."""
    again = Retried(timedelta(0), BOOM)
    try:
        return other.settle(claim, again)
    except (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable):
        return other.settle(claim, again, gently=True)


def in_threads(*works):
    """Run these side by side; return what they raised."""
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return errors


STORMS = [
    pytest.param({"on_twin": "ignore", "within_seconds": 3600}, id="ignore within_seconds"),
    pytest.param({"on_twin": "replace", "while_running": True}, id="replace while_running"),
    pytest.param({"on_twin": "sooner"}, id="sooner"),
]


class TestStorms:
    """Two callers, a thousand calls each, of ten accounts."""

    @pytest.mark.parametrize("rule", STORMS)
    def test_without_a_supervisor_there_is_a_row_for_each(self, unique, patient, rule):
        unique(**rule)
        told = []
        soonest = timezone.now() + timedelta(hours=1)

        def caller(name):
            drawn = random.Random(name)

            def enqueue():
                for n in range(1000):
                    due = soonest + timedelta(seconds=drawn.randrange(10**6))
                    task = Sync(str(n % 10), f"{name} {n}").delay(execute_after=due)
                    told.append((task.pk, task.is_twin, str(n % 10), f"{name} {n}", due))

            return enqueue

        assert in_threads(caller("a"), caller("b")) == []

        found = {call(task)[0]: task for task in rows()}
        assert len(rows()) == len(keyed()) == len(found) == 10
        assert sum(not is_twin for _, is_twin, *_ in told) == 10
        for account, task in found.items():
            of_it = [each for each in told if each[2] == account]
            assert {pk for pk, *_ in of_it} == {task.pk}
            if rule["on_twin"] == "replace":
                assert call(task)[1] in (f"a {990 + int(account)}", f"b {990 + int(account)}")
            if rule["on_twin"] == "sooner":
                assert task.execute_after == min(due for *_, due in of_it)

    @pytest.mark.parametrize("rule", STORMS)
    def test_beside_a_supervisor(self, unique, patient, rule):
        """Each call has a row of its own, or one that counted for it; of a window there is one."""
        unique(**rule)
        told, done = [], threading.Event()

        def enqueue():
            for n in range(1000):
                task = Sync(str(n % 10)).delay()
                told.append((task.pk, task.is_twin))

        def supervise():
            other = Other()
            last = False  # what is committed after a claim is of the next one
            while (claims := other.claim(3)) or not last:
                last = done.is_set()
                batch = [Settlement(claim, Finished(), Attempt(0, "w")) for claim in claims]
                if batch:
                    time.sleep(0.001)
                    other.execute(store.settle(other.me, batch))
            other.connection.close()

        supervisor = threading.Thread(target=supervise)
        supervisor.start()
        errors = in_threads(enqueue, enqueue)
        done.set()
        supervisor.join()

        assert errors == []
        found = rows()
        own = [pk for pk, is_twin in told if not is_twin]
        assert sorted(own) == [task.pk for task in found]
        assert {pk for pk, _ in told} == set(own)
        assert {(task.status, task.claim_seq) for task in found} == {("finished", 1)}
        if "within_seconds" in rule:
            assert len(found) == UniqueWindow.objects.count() == 10

    @pytest.mark.parametrize("rule", STORMS)
    def test_in_transactions_that_stay_open_a_while(self, unique, rule):
        """Each with five of ten accounts, in any order: nobody deadlocks, nothing is lost."""
        unique(**rule)
        told = []

        def caller(seed):
            drawn = random.Random(seed)

            def enqueue():
                for _ in range(15):
                    with transaction.atomic():
                        for n in drawn.sample(range(10), 5):
                            told.append(Sync(str(n)).delay().pk)
                            time.sleep(0.001)

            return enqueue

        assert in_threads(*map(caller, range(4))) == []

        assert {call(task)[0] for task in rows()} == set(map(str, range(10)))
        assert len(keyed()) == 10
        assert {task.pk for task in rows()} == set(told)
