"""Calls with a ``UNIQUE``: what makes two of them the same, and what becomes of the second."""

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from partisan_async import signals, steering, store
from partisan_async.claim import Settlement
from partisan_async.models import Task, UniqueWindow
from partisan_async.policy import Failed, Failure, Finished, GivenBack, Postponed, Retried
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.unique import Unique
from tests.conftest import ended, wait_until
from tests.test_races import Other
from tests.test_taking import Begun, Elsewhere
from tests.testapp.partisan_tasks import Sync, SyncUntyped

pytestmark = pytest.mark.django_db(transaction=True)

LATER = timedelta(hours=1)
BOOM = Failure("builtins.ValueError", "boom", "Traceback …")

RETRY_BEFORE = """
UPDATE partisan_async_task
SET status = 'new', execute_after = statement_timestamp(), finished_at = NULL, tries = 0,
    postpones = 0, lost = 0, suspect = false, unrecognised = 0, interrupted = 0, parked_from = NULL,
    digest = NULL
WHERE id = ANY(%s) AND status = 'error'
"""
"""An operator's retry in the release that knew no keys."""


@pytest.fixture
def unique(monkeypatch):
    """Return what declares a processor unique."""

    def declare(processor=Sync, **rule):
        monkeypatch.setattr(processor, "UNIQUE", Unique(**{"by": ("account",)} | rule))

    return declare


@pytest.fixture
def other():
    other = Other()
    yield other
    other.connection.close()


@pytest.fixture
def elsewhere():
    thread = Elsewhere()
    yield thread
    thread.close()


def rows():
    return list(Task.objects.order_by("pk"))


def notes():
    """Return what the rows that have not ended were called with."""
    return [call(task)[1] for task in rows() if task.finished_at is None]


def call(task):
    """Return account and note, however they are passed."""
    values = dict(zip(("account", "note"), task.args, strict=False)) | task.kwargs
    return values["account"], values.get("note", "")


class TestKey:
    """Which calls are the same."""

    def test_those_whose_named_parameters_are_however_they_are_passed(self, unique):
        unique()

        first = Sync("ada").delay()

        for same in (Sync(account="ada"), Sync("ada", "again"), Sync("ada", note="")):
            assert same.delay().pk == first.pk
        assert Sync("bob").delay().pk != first.pk

    def test_a_default_that_is_passed_is_the_one_that_is_left_out(self, unique):
        unique(by=("account", "note"))

        first = Sync("ada").delay()

        assert Sync("ada", "").delay().pk == first.pk
        assert Sync("ada", "a note").delay().pk != first.pk

    def test_all_of_a_processor_where_it_is_by_nothing(self, unique):
        unique(by=())

        assert Sync("ada").delay().pk == Sync("bob").delay().pk

    def test_as_they_are_written_where_it_does_not_say_by_what(self, unique):
        """So a rule may be added to a processor whose calls wait already."""
        waiting = Sync("ada").delay()
        unique(by=None)

        assert Sync("ada").delay().pk == waiting.pk
        assert Sync(account="ada").delay().pk != waiting.pk

    def test_the_order_of_the_names_does_not_count(self, unique):
        unique(by=("account", "note"))
        first = Sync("ada").delay()
        unique(by=("note", "account"))

        assert Sync("ada").delay().pk == first.pk

    def test_by_one_name_is_not_by_another(self, unique):
        """Two rules of one processor, as during a deploy, share no keys."""
        unique(by=("account",))
        first = Sync("same", "same").delay()
        unique(by=("note",))

        assert Sync("same", "same").delay().pk != first.pk

    def test_neither_queue_nor_priority_nor_time_counts(self, unique, monkeypatch):
        unique()
        first = Sync("ada").delay()
        monkeypatch.setattr(Sync, "QUEUE_NAME", "elsewhere")

        again = Sync("ada").delay(priority=1, execute_after=timezone.now() + LATER)

        assert (again.pk, again.queue_name, again.priority) == (first.pk, "default", 10)

    def test_a_call_under_an_old_name_is_a_twin(self, unique, monkeypatch):
        unique()
        old = Sync("ada").delay()
        monkeypatch.setattr(Sync, "NAME", "shop.Sync", raising=False)
        monkeypatch.setattr(Sync, "ALSO_KNOWN_AS", ("Sync",), raising=False)
        from partisan_async import registry

        monkeypatch.setitem(registry._processors, "shop.Sync", Sync)

        assert Sync("ada").delay().pk == old.pk
        assert Sync.bulk_delay([Sync("ada")]) == [old]

    @pytest.mark.parametrize("by", [("account",), (0,), (0, "account")])
    def test_without_parameters_by_names_and_positions(self, unique, by):
        unique(SyncUntyped, by=by)

        first = SyncUntyped("x", account="ada").delay()

        assert SyncUntyped("x", "more", account="ada", note="n").delay().pk == first.pk
        assert SyncUntyped("y", account="bob").delay().pk != first.pk

    @pytest.mark.parametrize(("by", "way"), [("account", "account=…"), (1, "position 1")])
    def test_without_parameters_a_call_has_to_pass_what_it_is_by(self, unique, by, way):
        """Else all calls that pass it otherwise would be one, and lost."""
        unique(SyncUntyped, by=(by,))

        with pytest.raises(TypeError, match=way):
            SyncUntyped("ada").delay()
        with pytest.raises(TypeError, match=way):
            SyncUntyped.bulk_delay([SyncUntyped("ada", "ada", account="ada"), SyncUntyped("ada")])
        assert not Task.objects.exists()

    def test_a_rule_that_cannot_be_enqueues_nothing(self, unique):
        for rule, told in (
            ({"by": ("acount",)}, "acount.*no parameter"),
            ({"by": "account"}, r"write \('account',\)"),
            ({"on_twin": "newest"}, "on_twin='newest'"),
        ):
            unique(**rule)
            with pytest.raises(TypeError, match=told):
                Sync("ada").delay()
            with pytest.raises(TypeError, match=told):
                Sync.bulk_delay([Sync("ada")])
        assert not Task.objects.exists()

    def test_its_short_form_makes_the_same_statements(self, unique):
        """Who has no UNIQUE pays nothing, nor does who says by what calls are the same, alone."""
        told = []
        for change in (lambda: None, lambda: unique(by=None), lambda: unique()):
            change()
            with CaptureQueriesContext(connection) as caught:
                Sync("ada").delay()
                Sync("ada").delay()
                Sync.bulk_delay([Sync("ada"), Sync("bob")])
                run_pending()
            told.append([shape(each["sql"]) for each in caught])
            Task.objects.all().delete()

        assert told[0] == told[1] == told[2]


def shape(sql):
    return re.sub(r"\s*-?\d+|'[^']*'", "…", sql)


def run_one(task):
    """Have a supervisor hold the task; it runs as long as nobody settles it."""
    other = Other(task.queue_name)
    (claim,) = store.claims(other.execute(store.claim(other.me, task.queue_name, 1, LATER)))
    assert claim.id == task.pk
    return other, claim


def in_state(task, state):
    """Have a task wait, run, or have ended since; return what is to be closed."""
    if state == "waits":
        return None
    other, claim = run_one(task)
    if state == "has ended since":
        other.settle(claim, Finished())
    elif state == "is gone":
        settlement = Settlement(claim, Finished(), None)
        other.execute(store.delete_finished(other.me, [settlement]))
    other.connection.close()
    return claim


TABLE = [
    # on_twin, while_running, window: waits, runs, has ended since, is gone
    ("ignore", False, False, "ignored", "added", "added", "added"),
    ("ignore", True, False, "ignored", "ignored", "added", "added"),
    ("ignore", False, True, "ignored", "ignored", "ignored", "ignored"),
    ("ignore", True, True, "ignored", "ignored", "ignored", "ignored"),
    ("replace", False, False, "replaced", "added", "added", "added"),
    ("replace", True, False, "replaced", "ignored", "added", "added"),
    ("replace", False, True, "replaced", "ignored", "ignored", "ignored"),
    ("replace", True, True, "replaced", "ignored", "ignored", "ignored"),
    ("sooner", False, False, "sooner", "added", "added", "added"),
    ("sooner", True, False, "sooner", "ignored", "added", "added"),
    ("sooner", False, True, "sooner", "ignored", "ignored", "ignored"),
    ("sooner", True, True, "sooner", "ignored", "ignored", "ignored"),
]
STATES = ("waits", "runs", "has ended since", "is gone")
CASES = [
    pytest.param(*row[:3], state, expected, id=f"{row[0]}-{row[1]}-{row[2]}-{state}")
    for row in TABLE
    for state, expected in zip(STATES, row[3:], strict=True)
]


@pytest.mark.parametrize("enqueue", ["delay", "bulk_delay"])
@pytest.mark.parametrize(("on_twin", "while_running", "window", "state", "expected"), CASES)
def test_what_becomes_of_a_call(unique, on_twin, while_running, window, state, expected, enqueue):
    """The table of the docs, each cell of it."""
    unique(
        on_twin=on_twin,
        while_running=while_running,
        within_seconds=3600 if window else None,
    )
    first = Sync("ada", "first").delay(
        execute_after=timezone.now() + LATER if state == "waits" else None
    )
    in_state(first, state)

    second = Sync("ada", "second")
    task = second.delay() if enqueue == "delay" else Sync.bulk_delay([second])[0]

    assert task.is_twin == (expected != "added")
    assert (task.pk == first.pk) == (expected != "added")
    if expected == "added":
        assert call(task) == ("ada", "second")
        assert Task.objects.get(pk=task.pk).status == "new"
    elif state == "is gone":
        assert (task.status, rows()) == ("finished", [])
    else:
        (row,) = rows()
        is_replaced = expected == "replaced"
        assert call(row) == call(task) == ("ada", "second" if is_replaced else "first")
        if state == "waits":
            assert row.status == task.status
            assert row.status == ("scheduled" if expected == "ignored" else "new")
            assert row.execute_after == task.execute_after


def test_the_table_is_the_pages():
    """What a reader looks up is what the test above tries."""
    from tests.test_docs import tables

    words = {"its own row": "added", "ignored": "ignored", "replaces it": "replaced"}
    words |= {"makes it sooner": "sooner"}
    listed = tables("docs/howto/unique.md")["`UNIQUE = Unique(by=…, …)`"]

    found = {row[0]: [words[cell] for cell in row[1:]] for row in listed}
    expected = {}
    for on_twin, while_running, window, *cells in TABLE:
        told = [
            *(["`while_running=True`"] if while_running else []),
            *(["`within_seconds=…`"] if window else []),
            *([f'`on_twin="{on_twin}"`'] if on_twin != "ignore" else []),
        ]
        assert cells[2] == cells[3]
        expected[", ".join(told) or "nothing more"] = cells[:3]
    assert found == expected


class TestReplace:
    def test_the_row_is_as_one_that_was_just_enqueued_but_for_its_number_and_age(self, unique):
        unique(on_twin="replace")
        first = Sync("ada", "first").delay()
        other, claim = run_one(first)
        other.settle(claim, Retried(timedelta(hours=1), BOOM, timed=True))
        other.connection.close()
        before = Task.objects.get()
        assert (before.tries, len(before.errors), len(before.worker_ids)) == (1, 1, 1)
        assert before.first_tried_at

        Sync("ada", "second").delay(priority=3)

        task = Task.objects.get()
        fresh = Sync("bob", "second").delay(priority=3)
        kept = {"id", "created_at", "claim_seq"}
        differs = {"arguments", "digest", "execute_after"}
        fresh = Task.objects.get(pk=fresh.pk)
        for field in Task._meta.fields:
            name = field.attname
            if name in kept:
                assert getattr(task, name) == getattr(before, name)
            elif name not in differs:
                assert getattr(task, name) == getattr(fresh, name), name
        assert call(task) == ("ada", "second")
        assert task.execute_after > before.created_at

    def test_it_goes_to_the_queue_of_the_call_and_that_is_woken(self, unique, monkeypatch):
        unique(on_twin="replace")
        Sync("ada", "first").delay()
        monkeypatch.setattr(Sync, "QUEUE_NAME", "elsewhere")

        with live_supervisor("elsewhere", beat_seconds=60, ttl_seconds=300):
            Sync("ada", "second").delay()
            wait_until(ended)

        assert call(Task.objects.get()) == ("ada", "second")

    def test_it_may_put_the_time_off(self, unique):
        """So many calls in a row are one, some time after the last."""
        unique(on_twin="replace")
        for minutes in (1, 2, 3):
            Sync("ada", str(minutes)).delay(
                execute_after=timezone.now() + timedelta(minutes=minutes)
            )

        (task,) = rows()
        assert (task.status, call(task)) == ("scheduled", ("ada", "3"))
        assert task.execute_after > timezone.now() + timedelta(minutes=2)

    def test_the_last_of_many_at_once_counts(self, unique):
        unique(on_twin="replace")
        waiting = Sync("ada", "before").delay()

        tasks = Sync.bulk_delay([Sync("bob", "1"), Sync("ada", "2"), Sync("bob", "3")])

        assert tasks[0].pk == tasks[2].pk
        assert [call(task) for task in tasks] == [("bob", "3"), ("ada", "2"), ("bob", "3")]
        assert tasks[1].pk == waiting.pk
        assert [call(task) for task in rows()] == [("ada", "2"), ("bob", "3")]

    def test_a_parked_twin_comes_back_to_wait_for_the_pauses_end(self, unique):
        unique(on_twin="replace")
        first = Sync("ada", "first").delay()
        steering.pause(processor="Sync")
        with connection.cursor() as cursor:
            cursor.execute(*store.park("default"))
        assert Task.objects.get().is_parked

        Sync("ada", "second").delay()

        assert run_pending() == []
        steering.resume(processor="Sync")
        assert [each.task.pk for each in run_pending()] == [first.pk]


class TestSooner:
    def test_a_call_for_now_makes_one_for_tomorrow_start_now(self, unique):
        unique(on_twin="sooner")
        tomorrow = timezone.now() + timedelta(days=1)
        first = Sync("ada", "first").delay(execute_after=tomorrow)

        Sync("ada", "second").delay()

        (ran,) = run_pending()
        assert (ran.task.pk, call(ran.task)) == (first.pk, ("ada", "first"))

    def test_it_takes_the_earlier_time_and_the_lower_priority_of_the_two(self, unique):
        unique(on_twin="sooner")
        now = timezone.now()
        Sync("ada").delay(priority=5, execute_after=now + 2 * LATER)

        for priority, hours, expected in (
            (7, 3, (5, 2)),
            (7, 1, (5, 1)),
            (3, 4, (3, 1)),
            (3, 1, (3, 1)),
        ):
            task = Sync("ada").delay(priority=priority, execute_after=now + hours * LATER)
            row = Task.objects.get()
            assert (row.priority, row.execute_after) == (expected[0], now + expected[1] * LATER)
            assert (task.priority, task.execute_after) == (row.priority, row.execute_after)
            assert row.status == "scheduled"

    def test_it_ends_the_pause_before_a_retry_and_no_count(self, unique):
        unique(on_twin="sooner")
        Sync("ada", fails=True).delay()
        (first,) = run_pending()
        assert isinstance(first.decision, Retried)

        Sync("ada").delay()

        (second,) = run_pending(errors="keep")
        assert isinstance(second.decision, Failed)
        assert second.task.tries == 2

    def test_what_is_soon_enough_is_not_written(self, unique):
        """Or each ignored call would leave a dead row behind."""
        unique(on_twin="sooner")
        Sync("ada").delay()
        before = physical()

        task = Sync("ada").delay(execute_after=timezone.now() + LATER)

        assert task.is_twin
        assert physical() == before

    def test_a_parked_twin_keeps_its_place_and_takes_the_time(self, unique):
        unique(on_twin="sooner")
        Sync("ada").delay()
        steering.pause(processor="Sync")
        with connection.cursor() as cursor:
            cursor.execute(*store.park("default"))
        before = physical()
        Sync("ada").delay()
        assert physical() == before

        Sync("ada").delay(priority=1)

        assert run_pending() == []
        steering.resume(processor="Sync")
        assert [each.task.priority for each in run_pending()] == [1]


def physical():
    """Return what tells one version of the rows from another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, xmin::text FROM partisan_async_task ORDER BY id")
        return cursor.fetchall()


def windows():
    return list(UniqueWindow.objects.order_by("task_id").values_list("task_id", flat=True))


def pass_by():
    """Have all windows end now."""
    UniqueWindow.objects.update(until=timezone.now() - timedelta(seconds=1))


class TestWindow:
    def test_it_is_counted_from_the_call_and_not_from_those_that_it_ignores(self, unique):
        unique(within_seconds=3600)
        first = Sync("ada").delay()
        until = UniqueWindow.objects.get().until
        assert abs(until - timedelta(seconds=3600) - first.created_at) < timedelta(seconds=1)

        Sync("ada").delay()
        run_pending()
        Sync("ada").delay()

        assert UniqueWindow.objects.get().until == until

    def test_when_it_is_over_the_next_call_begins_another(self, unique):
        unique(within_seconds=3600)
        first = Sync("ada").delay()
        run_pending()
        pass_by()

        second = Sync("ada").delay()

        assert (second.is_twin, windows()) == (False, [second.pk])
        assert second.pk != first.pk
        assert UniqueWindow.objects.get().until > timezone.now() + timedelta(seconds=3500)

    def test_a_call_that_a_twin_stands_for_begins_none(self, unique):
        """It is the twin's that counts, and it is over."""
        unique(within_seconds=3600)
        first = Sync("ada").delay(execute_after=timezone.now() + LATER)
        pass_by()

        assert Sync("ada").delay() == first
        assert Sync.bulk_delay([Sync("ada"), Sync("bob")])[0] == first

        assert UniqueWindow.objects.get(task_id=first.pk).until < timezone.now()
        assert UniqueWindow.objects.count() == 2

    def test_it_goes_with_the_transaction(self, unique):
        unique(within_seconds=3600)

        for savepoint in (False, True):
            with transaction.atomic():
                inner = transaction.atomic() if savepoint else None
                if inner:
                    inner.__enter__()
                Sync("ada").delay()
                transaction.set_rollback(True)
                if inner:
                    inner.__exit__(None, None, None)
            assert windows() == []
        assert not Sync("ada").delay().is_twin

    def test_to_delete_it_ends_it(self, unique):
        unique(within_seconds=3600)
        task = Sync("ada").delay()
        run_pending()

        UniqueWindow.objects.filter(task_id=task.pk).delete()

        assert not Sync("ada").delay().is_twin

    def test_of_a_task_whose_row_is_gone_the_call_and_the_number_are_told(self, unique):
        unique(within_seconds=3600)
        task = Sync("ada", "first").delay()
        Task.objects.all().delete()

        again = Sync("ada", "again").delay()

        assert (again.pk, again.is_twin, again.status) == (task.pk, True, "finished")
        assert abs(again.created_at - task.created_at) < timedelta(seconds=1)
        assert str(again) == f"Sync #{task.pk} (finished)"
        with pytest.raises(Task.DoesNotExist):
            again.refresh_from_db()

    @pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
    def test_it_holds_for_a_task_that_gave_its_key_up(self, unique, on_twin):
        """As one that an operator runs again: it is no twin, and the window is as it was."""
        unique(on_twin=on_twin, within_seconds=3600)
        task = Sync("ada", "first").delay()
        Task.objects.update(status="error", finished_at=timezone.now())
        steering.retry([task.pk])

        again = Sync("ada", "second").delay()

        assert (again.pk, again.is_twin) == (task.pk, True)
        assert [call(row) for row in rows()] == [("ada", "first")]

    def test_many_at_once_have_one_each(self, unique):
        unique(within_seconds=3600)
        count = 2500
        tasks = Sync.bulk_delay([Sync(str(n % count)) for n in range(count + 10)])
        assert len({task.pk for task in tasks}) == UniqueWindow.objects.count() == count
        assert [task.pk for task in tasks[:count]] == sorted(task.pk for task in tasks[:count])
        Task.objects.update(status="finished", finished_at=timezone.now())

        again = Sync.bulk_delay([Sync(str(n)) for n in range(count + 10)])

        assert [task.pk for task in again[:count]] == [task.pk for task in tasks[:count]]
        assert [task.is_twin for task in again] == [True] * count + [False] * 10

    def test_supervisors_delete_those_that_are_over(self, unique):
        unique(within_seconds=3600)
        Sync.bulk_delay([Sync(str(n)) for n in range(1500)])
        open_one = Sync("open").delay()
        UniqueWindow.objects.exclude(task_id=open_one.pk).update(until=timezone.now())
        Task.objects.all().delete()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: windows() == [open_one.pk])


class TestWhileRunning:
    """A row of such a processor never meets the index when it goes back to waiting."""

    @pytest.fixture
    def running(self, unique, other):
        unique(while_running=True)
        task = Sync("ada").delay()
        return task, other, other.claim()[0]

    @pytest.mark.parametrize("gently", [False, True])
    @pytest.mark.parametrize(
        "decision",
        [Retried(timedelta(0), BOOM), Retried(LATER, BOOM), Postponed(LATER), GivenBack()],
    )
    def test_one_that_goes_back_to_waiting_keeps_its_key(self, running, decision, gently):
        """Also where a neighbour in its batch has digests given up."""
        task, other, claim = running
        assert Sync("ada").delay().is_twin

        assert other.settle(claim, decision, gently=gently) == [(task.pk,)]

        again = Sync("ada").delay()
        assert (again.pk, again.is_twin) == (task.pk, True)

    def test_a_rescued_one_keeps_it(self, running):
        task, other, _ = running
        with connection.cursor() as cursor:
            cursor.execute("UPDATE partisan_async_supervisor SET last_seen_at = '2020-01-01'")
        third = Other()
        rescue = store.rescue(third.me, "default", 5, LATER, dead=[other.me], by_clock=True)

        (claim,) = store.claims(third.execute(rescue))

        assert claim.id == task.pk
        assert Sync("ada").delay().is_twin
        third.settle(claim, Finished())
        third.connection.close()
        assert not Sync("ada").delay().is_twin

    @pytest.mark.parametrize("end", [Finished(), Failed(BOOM)])
    def test_when_it_has_ended_the_next_call_gets_a_row(self, running, end):
        _, other, claim = running
        other.settle(claim, end)

        assert not Sync("ada").delay().is_twin

    def test_a_run_that_enqueues_the_same_call_is_its_own_twin(self, unique):
        unique(while_running=True)
        told = []

        def enqueue(sender, task, **kwargs):
            told.append(Sync(*task.args).delay())

        signals.task_started.connect(enqueue)
        try:
            task = Sync("ada").delay()
            run_pending()
        finally:
            signals.task_started.disconnect(enqueue)

        assert [(each.pk, each.is_twin) for each in told] == [(task.pk, True)]

    def test_a_run_is_not_locked_by_those_whom_it_stands_for(self, running):
        """Its settle would have to wait for their commit."""
        task, other, claim = running
        with transaction.atomic():
            assert Sync("ada").delay() == task
            assert other.settle(claim, Finished()) == [(task.pk,)]


class TestSteering:
    def failed(self, **arguments):
        task = Sync("ada", **arguments).delay()
        Task.objects.filter(pk=task.pk).update(status="error", finished_at=timezone.now())
        return task

    @pytest.mark.parametrize("while_running", [False, True])
    @pytest.mark.parametrize("state", ["waits", "runs"])
    def test_a_retry_runs_beside_the_twin_that_is_there(self, unique, while_running, state):
        """An operator is heeded, and gives the key up: no index can be in his way."""
        unique(while_running=while_running)
        task = self.failed()
        twin = Sync("ada").delay()
        in_state(twin, state)

        assert steering.retry([task.pk]) == [task.pk]

        row = Task.objects.get(pk=task.pk)
        assert (row.status, row.digest, row.unique_key) == ("new", None, None)
        assert Sync("ada").delay().is_twin or not while_running

    @pytest.mark.parametrize("end", ["fails", "is cancelled"])
    def test_a_retry_of_the_release_before_does_so(self, unique, other, end):
        """It knows of no keys, and so keeps them: its users would get an error of the index."""
        unique(while_running=True)
        tasks = []
        for _ in range(2):
            tasks.append(Sync("ada").delay().pk)
            if end == "fails":
                other.settle(other.claim()[0], Failed(BOOM))
            else:
                steering.cancel([tasks[-1]])
        twin = Sync("ada").delay()

        with connection.cursor() as cursor:
            cursor.execute(RETRY_BEFORE, [tasks])

        assert [task.status for task in rows()] == ["new"] * 3
        assert Sync("ada").delay().pk == twin.pk

    def test_many_are_retried_in_one_statement(self, unique, django_assert_num_queries):
        unique(while_running=True)
        tasks = [self.failed() for _ in range(3)]
        Sync("ada").delay()

        assert steering.retry([task.pk for task in tasks]) == [task.pk for task in tasks]

    @pytest.mark.parametrize(("state", "does"), [("waits", "waits"), ("runs", "runs")])
    def test_one_with_other_arguments_is_refused_beside_a_twin(self, unique, state, does):
        unique(while_running=True)
        task = self.failed()
        twin = Sync("bob").delay()
        in_state(twin, state)

        with pytest.raises(ValueError, match=f"An identical call {does} already: {twin.pk}."):
            steering.retry([task.pk], arguments={"args": ["bob"], "kwargs": {}})
        steering.retry([task.pk], arguments={"args": ["cy"], "kwargs": {}})

        assert Sync("cy").delay().pk == task.pk

    @pytest.mark.parametrize("while_running", [False, True])
    def test_a_twin_that_is_cancelled_in_an_open_transaction_is_not_waited_for(
        self, unique, elsewhere, while_running
    ):
        unique(while_running=while_running)
        twin = Sync("ada").delay()
        with Begun(elsewhere):
            elsewhere.do(lambda: steering.cancel([twin.pk]))

            mine = Sync("ada").delay()

        assert not mine.is_twin
        assert [task.status for task in rows()] == ["error", "new"]
