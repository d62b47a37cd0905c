"""``erase``: of a subject nothing is left, in no column of no table, whatever it was doing."""

import io
import json
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone

from partisan_async import registry, schedules, signals, steering, store
from partisan_async.claim import Attempt, Settlement
from partisan_async.enqueue.on_error import call_without_id
from partisan_async.enqueue.run import fetch
from partisan_async.models import Schedule, Supervisor, Task, UniqueWindow
from partisan_async.policy import (
    Failed,
    Failure,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.steering import erasing
from partisan_async.steering.erasing import Erased
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.unique import Unique
from tests.conftest import marks, state, wait_until
from tests.site_rules import refusal, role
from tests.test_pruner import locking
from tests.test_races import Other
from tests.test_ticker import HOURLY
from tests.testapp.partisan_tasks import (
    Add,
    AsyncSleep,
    AtomicWait,
    Nothing,
    Sleep,
    Sync,
    Told,
    Write,
    WriteUnique,
)
from tests.testapp.tasks import of_customer

pytestmark = pytest.mark.django_db(transaction=True)

ADA, BOB = "customer:ada", "customer:bob"
SECRET = "correct-horse-battery"
DAYS = timedelta(days=3)
BOOM = Failure("builtins.ValueError", SECRET)
KINDS = {"in_process": "running", "finished": "ended", "error": "ended"}
"""By status, what an erasure counts it as; the others as waiting."""


class Confide(TaskProcessor):
    """Keeps what it is told in its result, or raises it."""

    STORE_RESULT = True

    def run(self, customer: str, secret: str, *, fails: bool = False) -> str:
        if fails:
            raise ValueError(secret)
        return secret

    def task_subject(self, customer):
        return f"customer:{customer}"


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry._processors, "Confide", Confide)


def tables():
    """Each table of the package."""
    names = connection.introspection.table_names()
    ours = [name for name in names if name.startswith("partisan_async_")]
    managed = {each._meta.db_table for each in apps.get_app_config("partisan_async").get_models()}
    assert set(ours) == managed
    return ours


def found(*texts):
    """Return where these texts, or bytes, are: in any column of any table, whole rows as text."""
    places = []
    with connection.cursor() as cursor:
        for table in tables():
            for text in texts:
                told = text.hex() if isinstance(text, bytes) else text
                cursor.execute(
                    f"SELECT count(*) FROM {table} AS t WHERE strpos(t::text, %s) > 0", [told]
                )
                places += [(table, text)] * cursor.fetchone()[0]
    return places


def partisan(*words, err=None):
    out = io.StringIO()
    call_command("partisan", *words, stdout=out, stderr=err or io.StringIO())
    return out.getvalue()


def rows():
    return list(Task.objects.order_by("pk"))


@contextmanager
def referring(how=""):
    """A table of the site's with a row for each given task."""
    reference = f"task bigint REFERENCES partisan_async_task (id) {how}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE of_the_site ({reference})")

        def refer(*tasks):
            cursor.executemany("INSERT INTO of_the_site VALUES (%s)", [[t.pk] for t in tasks])

        try:
            yield refer
        finally:
            cursor.execute("DROP TABLE of_the_site")


class TestNothingIsLeft:
    def test_of_all_that_there_may_be(self, monkeypatch):
        """Every table is read, also those that a later release adds."""
        monkeypatch.setattr(Confide, "ON_ERROR", Told)
        monkeypatch.setattr(Sync, "UNIQUE", Unique(while_running=True, within_seconds=3600))
        large = SECRET + "x" * 500_000
        failed = Confide("ada", SECRET, fails=True).delay()
        finished = Confide("ada", secret=SECRET).delay()
        run_pending(errors="keep")
        parked = Write(SECRET).delay(subject=ADA)
        steering.pause(processor="Write")
        fetch(*store.park("default"))
        parked.refresh_from_db()
        assert parked.is_parked
        waiting = [
            parked,
            Confide("ada", large).delay(),
            *Confide.bulk_delay([Confide("ada", f"{SECRET} {n}") for n in range(20)]),
            WriteUnique(SECRET).delay(subject=ADA, execute_after=timezone.now() + DAYS),
            Sync(SECRET).delay(subject=ADA),
        ]
        of_customer.enqueue("ada", SECRET)
        schedules.create(f"of {SECRET}", Confide("ada", SECRET), HOURLY)
        other = Other()
        (claim,) = other.claim(1)
        keys = [bytes(key) for key in UniqueWindow.objects.values_list("key", flat=True)]
        told = Task.objects.get(processor_class="Told")
        assert (told.args, told.subject) == ([failed.pk], ADA)
        assert len(found(SECRET)) > 20
        assert {table for table, _ in found(ADA)} == {
            "partisan_async_task", "partisan_async_schedule", "partisan_async_uniquewindow",
        }  # fmt: skip
        assert found(*keys)
        others = [Confide("bob", "another").delay(), Write("mine").delay()]
        schedules.create("bob's", Confide("bob", "another"), HOURLY)
        before = Task.objects.filter(subject=ADA).count()

        erased = steering.erase(ADA)

        assert found(ADA, SECRET, *keys) == []
        assert erased.tasks == before >= len(waiting) + 3
        assert (erased.ended, erased.running) == (3, 1)
        assert (erased.schedules, erased.windows) == (1, 1)
        assert (erased.emptied, erased.left) == (0, 0)
        assert [task.pk for task in rows()] == [task.pk for task in others]
        assert Schedule.objects.get().pk == ":bob's"
        assert not Task.objects.filter(pk__in=[finished.pk, told.pk, claim.id]).exists()
        other.connection.close()

    def test_again_it_is_nothing(self):
        Nothing().delay(subject=ADA)

        assert steering.erase(ADA) == Erased(waiting=1)
        assert steering.erase(ADA) == Erased()

    def test_from_async_code(self):
        Nothing().delay(subject=ADA)

        assert async_to_sync(steering.aerase)(ADA) == Erased(waiting=1)

    @pytest.mark.parametrize("wrong", [None, 5, "", "x" * 256])
    def test_what_is_no_subject_is_refused(self, wrong):
        """With none, all that is nobody's would be meant."""
        Nothing().delay()

        with pytest.raises((TypeError, ValueError)):
            steering.erase(wrong)
        assert len(rows()) == 1

    @pytest.mark.parametrize("like", ["customer:ad", "customer:ada2", "CUSTOMER:ADA", "customer%"])
    def test_it_is_of_this_very_subject(self, like):
        Nothing().delay(subject=ADA)

        assert steering.erase(like) == Erased()
        assert len(rows()) == 1

    def test_a_window_whose_task_is_gone(self, monkeypatch):
        monkeypatch.setattr(Sync, "UNIQUE", Unique(within_seconds=3600))
        Sync("ada").delay(subject=ADA)
        Task.objects.all().delete()

        assert steering.erase(ADA) == Erased(windows=1)
        assert not Sync("ada").delay(subject=ADA).is_twin

    @pytest.mark.parametrize("status", ["new", "scheduled", "in_process", "finished", "error"])
    def test_in_each_state(self, status):
        Nothing().delay(subject=ADA)
        Task.objects.update(**state(status))
        assert steering.erase(ADA) == Erased(**{KINDS.get(status, "waiting"): 1})


class TestARunningOne:
    """Its row is gone at once; what brings rows back finds none."""

    @pytest.mark.parametrize("gently", [False, True])
    @pytest.mark.parametrize(
        "decision",
        [
            Finished(),
            Finished('"result"'),
            Failed(BOOM),
            Retried(timedelta(0), BOOM),
            Postponed(timedelta(0), BOOM),
            Suspected(BOOM),
            GivenBack(),
            Interrupted(timedelta(0), BOOM, counted=True),
        ],
    )
    def test_no_settle_brings_it_back(self, decision, gently):
        """Nor a worker's death, nor does any tell of its end."""
        Nothing(SECRET).delay(subject=ADA)
        other = Other()
        (claim,) = other.claim()
        steering.erase(ADA)

        told = call_without_id("Told", "default", 10)
        settlement = Settlement(claim, decision, Attempt(0.1, "h/1"), on_error=told)
        assert other.execute(store.settle(other.me, [settlement], gently=gently)) == []
        assert (rows(), found(SECRET)) == ([], [])
        other.connection.close()

    def test_no_rescue_does(self):
        """Its supervisor died in that moment."""
        Nothing(SECRET).delay(subject=ADA)
        other, third = Other(), Other()
        other.claim()
        steering.erase(ADA)
        Supervisor.objects.filter(pk=other.me).delete()

        rescue = store.rescue(
            third.me, "default", 10, timedelta(seconds=30), dead=[other.me], by_clock=True
        )

        assert third.execute(rescue) == []
        assert found(SECRET) == []
        other.connection.close(), third.connection.close()

    @pytest.mark.parametrize("processor", [Sleep, AsyncSleep])
    @pytest.mark.parametrize("listen", [False, True])
    @pytest.mark.parametrize("delete", [False, True])
    def test_its_worker_is_killed_and_others_go_on(self, processor, listen, delete, caplog):
        """Also where rows of tasks that finished go: a row that is gone may have been settled."""
        how = {"listen": listen, "DELETE_TASKS_ON_COMPLETE": delete}
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.3, **how):
            processor(600, SECRET).delay(subject=ADA)
            wait_until(lambda: f"start {SECRET}" in marks())

            assert steering.erase(ADA) == Erased(running=1)
            assert found(ADA, SECRET) == []

            after = Write("after").delay()
            wait_until(lambda: "after" in marks())
            wait_until(lambda: not Task.objects.exclude(status="finished").exists())
        assert f"end {SECRET}" not in marks()
        assert "killed: cancelled, or taken over by another supervisor" in caplog.text
        assert set(rows()) <= {after}
        assert found(ADA, SECRET) == []

    @pytest.mark.parametrize("delete", [False, True])
    def test_what_an_atomic_one_writes_is_rolled_back(self, delete, tmp_path, caplog):
        """Killed; or, where a row that is gone may have been settled by its worker, at its end."""
        free = tmp_path / "free"
        with live_supervisor(WORKERS_COUNT=1, DELETE_TASKS_ON_COMPLETE=delete):
            AtomicWait(str(free)).delay(subject=ADA)
            wait_until(lambda: marks() == ["waits"])
            assert steering.erase(ADA) == Erased(running=1)
            if delete:
                free.touch()
            Write("after").delay()
            wait_until(lambda: "after" in marks())

        assert sorted(marks()) == ["after", "waits"]
        assert ("killed: cancelled, or taken" in caplog.text) is not delete


class TestLocked:
    """By others: whoever erases waits for them, and nobody waits long for whoever erases."""

    def test_what_is_locked_goes_as_soon_as_it_is_free(self):
        held, free = Nothing(1).delay(subject=ADA), Nothing(2).delay(subject=ADA)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(in_thread(steering.erase, ADA)))
        with locking(held):
            thread.start()
            wait_until(lambda: [task.pk for task in rows()] == [held.pk])
        thread.join(30)

        assert (answers, rows()) == ([Erased(waiting=2)], [])
        assert free.pk

    def test_what_stays_locked_is_counted(self, monkeypatch):
        monkeypatch.setattr(erasing, "PAUSES_SECONDS", (0, 0.01))
        held = Nothing(1).delay(subject=ADA)
        Nothing(2).delay(subject=ADA)

        with locking(held):
            assert steering.erase(ADA) == Erased(waiting=1, left=1)
            with pytest.raises(CommandError, match="1 row left: another transaction has"):
                partisan("erase", "--subject", ADA, "--yes")
        assert steering.erase(ADA) == Erased(waiting=1)

    def test_a_schedule_that_somebody_changes(self, monkeypatch):
        monkeypatch.setattr(erasing, "PAUSES_SECONDS", (0, 0.01))
        schedules.create("acme", Nothing(), HOURLY, subject=ADA)
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params) as other:
            other.execute("SELECT FROM partisan_async_schedule FOR UPDATE")
            assert steering.erase(ADA) == Erased(left=1)
            other.rollback()
        assert steering.erase(ADA) == Erased(schedules=1)

    def test_two_at_once_erase_all_of_it_once(self):
        """Whichever deletes a row, the other goes on."""
        Nothing.bulk_delay([Nothing(n) for n in range(3000)], subject=ADA)
        schedules.create("acme", Nothing(), HOURLY, subject=ADA)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(in_thread(steering.erase, ADA)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert rows() == []
        assert sum(each.waiting for each in answers) == 3000
        assert sum(each.schedules for each in answers) == 1
        assert {each.left for each in answers} == {0}

    def test_each_thousand_is_a_transaction(self, monkeypatch):
        """Who enqueues or claims beside it waits for one at most."""
        Nothing.bulk_delay([Nothing(n) for n in range(2500)], subject=ADA)
        left = []

        def look(execute, sql, params, many, context):
            if "DELETE FROM partisan_async_task" in sql:
                left.append(in_thread(Task.objects.count, elsewhere=True))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(look):
            assert steering.erase(ADA) == Erased(waiting=2500)

        assert left == [2500, 1500, 500]

    def test_interrupted_what_was_erased_is(self):
        """And is told of in the log; the next time does the rest."""
        Nothing.bulk_delay([Nothing(n) for n in range(2500)], subject=ADA)
        seen = []

        def stop(execute, sql, params, many, context):
            if "DELETE FROM partisan_async_task" in sql:
                seen.append(sql)
                if len(seen) == 2:
                    raise KeyboardInterrupt
            return execute(sql, params, many, context)

        with connection.execute_wrapper(stop), pytest.raises(KeyboardInterrupt):
            steering.erase(ADA)

        assert len(rows()) == 1500
        assert steering.erase(ADA) == Erased(waiting=1500)

    def test_in_a_transaction_it_is_undone_with_it(self):
        Nothing().delay(subject=ADA)

        with transaction.atomic():
            assert steering.erase(ADA) == Erased(waiting=1)
            transaction.set_rollback(True)

        assert len(rows()) == 1

    @pytest.mark.parametrize("rule", [None, {"while_running": True}])
    def test_in_a_transaction_nobody_waits_for_its_end(self, monkeypatch, rule):
        """As no ``delay()`` waits for another caller's transaction."""
        monkeypatch.setattr(Sync, "UNIQUE", rule and Unique(**rule))
        Sync("ada").delay(subject=ADA)

        with transaction.atomic():
            steering.erase(ADA)
            began = time.monotonic()
            call = Sync("ada")
            made = in_thread(lambda: call.delay(subject=ADA).is_twin, elsewhere=True)
            assert time.monotonic() - began < 10

        assert made is False
        assert len(rows()) == 1


def in_thread(function, *args, elsewhere=False):
    """Call it in a connection of this thread's, or of another one's."""

    def call():
        try:
            return function(*args)
        finally:
            connections.close_all()

    if not elsewhere:
        return call()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join(60)
    return answers[0]


class TestRefused:
    """A row of the site refers to one of ours: it stays, and has nothing of anybody."""

    @pytest.mark.parametrize("status", ["new", "scheduled", "in_process", "finished", "error"])
    def test_it_is_emptied(self, status):
        kept, _ = Confide("ada", SECRET).delay(), Confide("ada", f"{SECRET}2").delay()
        failure = {"exception_class": "X", "message": SECRET, "traceback": SECRET}
        told = {"errors": [failure], "result": SECRET, "worker_ids": [SECRET], "traceparent": ADA}
        Task.objects.filter(pk=kept.pk).update(**state(status), **told)
        digest = bytes(kept.digest)

        with referring() as refer:
            refer(kept)
            erased = steering.erase(ADA)
            assert found(ADA, SECRET, digest) == []
            again = steering.erase(ADA)

        kind = KINDS.get(status, "waiting")
        expected = {"waiting": 1, "emptied": 1} | {kind: 1 + (kind == "waiting")}
        assert erased == Erased(**expected)
        assert again == Erased()
        (row,) = rows()
        assert (row.pk, row.status) == (kept.pk, "finished" if status == "finished" else "error")
        assert (row.args, row.kwargs, row.result, row.claimed_by) == ([], {}, None, None)
        assert row.finished_at is not None

    def test_run_again_by_hand_it_does_nothing_but_fail(self):
        """An operator may retry all that failed; without arguments it might do anything."""
        kept = Write(SECRET).delay(subject=ADA)
        with referring() as refer:
            refer(kept)
            steering.erase(ADA)
            steering.retry(processor="Write")
            run_pending(errors="keep")
            (row,) = rows()

        assert marks() == []
        assert "The row's arguments are not" in row.errors[-1]["message"]

    @pytest.mark.parametrize("how", ["", "DEFERRABLE INITIALLY DEFERRED"])
    def test_a_thousand_beside_it_go(self, how):
        """A reference that Django makes is looked at no sooner than at the commit."""
        tasks = Nothing.bulk_delay([Nothing(n) for n in range(1100)], subject=ADA)
        with referring(how) as refer:
            refer(tasks[7], tasks[1050])
            assert steering.erase(ADA) == Erased(waiting=1100, emptied=2)
            assert [task.pk for task in rows()] == [tasks[7].pk, tasks[1050].pk]

    def test_the_command_says_so(self):
        kept = Nothing().delay(subject=ADA)
        err = io.StringIO()
        with referring() as refer:
            refer(kept)
            partisan("erase", "--subject", ADA, "--yes", err=err)

        assert "1 of them have rows that the database keeps" in err.getvalue()

    def test_what_may_not_be_changed_either_is_left_and_not_waited_for(self, monkeypatch):
        """Nobody has it locked."""
        monkeypatch.setattr(erasing, "PAUSES_SECONDS", (0, 600))
        bad, good = Nothing(1).delay(subject=ADA), Nothing(2).delay(subject=ADA)

        with refusal(f"OLD.id = {bad.pk}", on="UPDATE OR DELETE"):
            assert steering.erase(ADA) == Erased(waiting=1, left=1)
            assert good.pk not in {task.pk for task in rows()}
        assert steering.erase(ADA) == Erased(waiting=1)

    def test_a_right_that_is_lacking_is_raised(self, as_owner):
        Nothing().delay(subject=ADA)
        with role() as name:
            as_owner(f"REVOKE DELETE ON partisan_async_task FROM {name}")
            with pytest.raises(DatabaseError, match="permission denied"):
                steering.erase(ADA)
        assert len(rows()) == 1


class TestTold:
    def test_the_log_says_that_somebody_erased_and_not_whom(self, caplog):
        caplog.set_level("INFO", logger="partisan_async")
        Nothing.bulk_delay([Nothing(SECRET)], subject=ADA), Nothing().delay(subject=ADA)

        partisan("erase", "--subject", ADA, "--yes")
        partisan("erase", "--subject", ADA, "--yes")

        (record,) = [each for each in caplog.records if getattr(each, "action", "") == "erase"]
        assert "steered: erase 2 rows of one subject, by " in record.getMessage()
        assert (record.count, record.way) == (2, "command")
        assert ADA not in caplog.text + str([vars(each) for each in caplog.records])
        assert SECRET not in caplog.text

    def test_receivers_hear_of_what_waited_or_ran_as_it_was(self):
        told = []

        def hear(sender, task, by, reason, **kwargs):
            told.append((sender, task.pk, task.args, task.subject, reason))

        runs, waits, done = (Nothing(n).delay(subject=ADA) for n in range(3))
        other = Other()
        other.claim(1), other.connection.close()
        Task.objects.filter(pk=done.pk).update(status="finished", finished_at=timezone.now())
        signals.task_cancelled.connect(hear)
        try:
            steering.erase(ADA)
        finally:
            signals.task_cancelled.disconnect(hear)

        reason = "its subject was erased"
        assert told == [
            (Nothing, runs.pk, [0], ADA, reason),
            (Nothing, waits.pk, [1], ADA, reason),
        ]


class TestCommand:
    def test_it_asks_and_says_how_much(self, monkeypatch):
        Nothing.bulk_delay([Nothing(n) for n in range(3)], subject=ADA)
        schedules.create("acme", Nothing(), HOURLY, subject=ADA)
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or "n")

        with pytest.raises(CommandError, match="Nothing was done"):
            partisan("erase", "--subject", ADA)
        assert asked == ["Erase 3 tasks, 1 schedule of subject 'customer:ada'? [y/N] "]
        assert len(rows()) == 3
        monkeypatch.setattr("builtins.input", lambda what: "y")
        assert partisan("erase", "--subject", ADA) == "erase: 3 tasks, 1 schedule.\n"
        assert partisan("erase", "--subject", ADA) == "erase: 0 tasks.\n"

    def test_it_tells_of_what_ran(self):
        Nothing().delay(subject=ADA)
        other = Other()
        other.claim()
        err = io.StringIO()

        partisan("erase", "--subject", ADA, "--yes", err=err)

        assert "1 of them ran. What a run enqueues before it is killed" in err.getvalue()
        other.connection.close()

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "the following arguments are required: --subject"),
            (["--subject="], "subject has 0 characters"),
            ([f"--subject={'x' * 256}"], "subject has 256 characters"),
        ],
    )
    def test_it_needs_a_subject(self, words, told):
        with pytest.raises(CommandError, match=told):
            partisan("erase", *words, "--yes")


class TestPlans:
    def test_it_reads_what_is_of_the_subject_alone(self):
        """Among a million rows of others, and of a subject with many."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, status,"
                " priority, execute_after, finished_at, subject)"
                " SELECT 'default', 'Nothing', '{}', 'finished', 10, now(), now(),"
                " CASE WHEN n % 3 = 0 THEN 'customer:' || n % 900 END"
                " FROM generate_series(1, 30000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
        plans = []

        def explain(execute, sql, params, *rest):
            if "partisan_async_task" in sql and not sql.startswith(("EXPLAIN", "SAVEPOINT")):
                with connection.cursor() as cursor:
                    cursor.cursor.execute(f"EXPLAIN {sql}", params)
                    plans.append((sql, "\n".join(row[0] for row in cursor.cursor.fetchall())))
            return execute(sql, params, *rest)

        with connection.execute_wrapper(explain):
            assert steering.erase("customer:3").ended > 30
            partisan("status", "--subject", "customer:6")
            assert steering.delete(subject="customer:9")
            assert (
                steering.prune(timedelta(0), statuses=["finished"], subject="customer:12").deleted
                > 30
            )

        assert len(plans) > 8
        for sql, plan in plans:
            assert "Seq Scan on partisan_async_task" not in plan, plan
            chooses = "subject = %" in sql or '"subject" = %' in sql
            if chooses and "%(ids)s" not in sql:
                assert "partisan_async_subject" in plan, plan


def test_json_of_a_result_is_searched_too():
    """The search of the tests finds what is in each kind of column."""
    task = Add(1, 2).delay(subject=ADA)
    Task.objects.filter(pk=task.pk).update(result={"deep": [SECRET]}, digest=b"\x01" * 32)

    assert found(SECRET, b"\x01" * 32) == [
        ("partisan_async_task", SECRET),
        ("partisan_async_task", b"\x01" * 32),
    ]
    assert json.dumps(found("nobody has this")) == "[]"
