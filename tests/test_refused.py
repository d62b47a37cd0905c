"""What the database refuses is the row's: it ends as it can, and nobody else notices."""

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, connections

from partisan_async import steering
from partisan_async.claim import Claim, Settlement
from partisan_async.models import Supervisor, Tally, Task
from partisan_async.operate import reasons
from partisan_async.policy import Finished
from partisan_async.supervisor import around, claimer, parking, refused
from partisan_async.supervisor.report import tally
from partisan_async.testing import live_supervisor
from tests.claims import claim
from tests.conftest import DEADLINE_SECONDS, ended, marks, wait_until
from tests.encoded import database
from tests.process import environment, partisan
from tests.site_rules import constraint, execute, refusal, role, trigger
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncWait,
    Fail,
    Keep,
    Nothing,
    PostponeTooFar,
    Retry,
    Wait,
    Write,
)

pytestmark = pytest.mark.django_db(transaction=True)


def status(task):
    return Task.objects.values_list("status", flat=True).get(pk=task.pk)


class TestOutcomes:
    def test_a_row_that_is_always_refused_is_left_and_its_neighbours_are_written(self, caplog):
        """It is said once, and the task is not run again, neither by this one nor by a beat."""
        bad = Write("bad").delay()
        with (
            refusal(f"NEW.id = {bad.pk} AND NEW.claimed_by IS NULL"),
            live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1) as supervisor,
        ):
            others = [Write(number).delay() for number in range(100)]
            wait_until(lambda: ended(*others))
            wait_until(lambda: f"left {bad.pk} Write" in caplog.text)
            seen = Supervisor.objects.get().last_seen_at
            wait_until(lambda: (Supervisor.objects.get().last_seen_at - seen).seconds >= 1)

            assert status(bad) == "in_process"
            assert supervisor.parts.settler.left() == {bad.pk}

            bad.refresh_from_db()
            assert "is about to run there" in reasons.why(bad)[0]
            bad.claimed_at -= timedelta(minutes=2)
            assert "how it ended could not be written" in reasons.why(bad)[0]

        assert caplog.text.count(f"left {bad.pk} Write") == 1
        assert "the site refuses it" in caplog.text
        assert "locked" not in caplog.text
        assert marks().count("bad") == 1

    @pytest.mark.parametrize("state", ["42501", "42P01", "08006", "XX000", "57014", "U0001"])
    def test_neighbours_are_written_whatever_class_the_error_is_of(self, state, monkeypatch):
        """A trigger may raise any: as one that asks another server, or a table without a right.

        What may pass is tried again by itself, and written when it has passed.
        """
        monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.1)
        does = f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}'"
        is_bad = "NEW.arguments::text LIKE '%\"bad\"%' AND NEW.claimed_by IS NULL"
        with live_supervisor(WORKERS_COUNT=1) as supervisor:
            with trigger(does, is_bad):
                bad = Write("bad").delay()
                others = [Write(number).delay() for number in range(50)]
                wait_until(lambda: ended(*others))
                assert status(bad) == "in_process"
            if state == "U0001":
                assert supervisor.parts.settler.left() == {bad.pk}
            else:
                wait_until(ended)

        assert marks().count("bad") == 1

    def test_what_is_left_can_be_cancelled_and_run_again_when_it_is_mended(self):
        bad = Write("bad").delay()
        refusing = ExitStack()
        refusing.enter_context(refusal(f"NEW.id = {bad.pk} AND NEW.claimed_by IS NULL"))
        with refusing, live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1) as supervisor:
            wait_until(lambda: supervisor.parts.settler.left() == {bad.pk})
            refusing.close()
            assert steering.cancel([bad.pk]) == [bad.pk]
            wait_until(lambda: not supervisor.parts.settler.left())
            assert steering.retry([bad.pk]) == [bad.pk]
            wait_until(ended)

        assert status(bad) == "finished"
        assert marks() == ["bad", "bad"]

    def test_a_successor_runs_what_is_left_so_often_and_no_more(self):
        """Each successor may be one under which it passes; twenty are enough."""
        bad = Write("bad").delay()
        Task.objects.update(interrupted=19)
        with refusal(f"NEW.id = {bad.pk} AND NEW.claimed_by IS NULL"):
            for runs in (1, 2, 2):
                with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1, ttl_seconds=0.5) as one:
                    wait_until(lambda n=runs: marks().count("bad") == n)
                    wait_until(lambda one=one: one.parts.lease.steady)
                    good = Write("good").delay()
                    wait_until(lambda task=good: ended(task))

        assert (status(bad), marks().count("bad")) == ("in_process", 2)

    def test_a_retry_whose_error_is_refused_is_a_retry_without_its_text(self, caplog):
        with (
            constraint("errors::text NOT LIKE '%timed out%'"),
            live_supervisor(WORKERS_COUNT=1),
        ):
            task = Retry("secret", 1).delay()
            neighbours = [Fail("ValueError", "kept").delay() for _ in range(5)]
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.tries) == ("finished", 2)
        (error,) = task.errors
        assert error["exception_class"] == "builtins.TimeoutError"
        assert "could not be stored" in error["message"]
        assert "the text of its outcome cannot be stored" in caplog.text
        assert [Task.objects.get(pk=n.pk).errors[0]["message"] for n in neighbours] == ["kept"] * 5

    def test_a_result_that_is_refused_is_left_out_and_the_task_has_finished(self):
        with (
            constraint("result IS NULL OR result::text NOT LIKE '%bad%'"),
            live_supervisor(WORKERS_COUNT=1),
        ):
            bad, good = Keep("bad").delay(), Keep("good").delay()
            wait_until(ended)

        bad.refresh_from_db(), good.refresh_from_db()
        assert (bad.status, bad.result) == ("finished", None)
        assert (good.status, good.result) == ("finished", "good")

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_what_the_databases_encoding_cannot_hold_is_replaced(self, encoding):
        """In a database that is as old as some are."""
        with database(encoding) as url, partisan(DATABASE_URL=url) as running:
            rows = json.loads(run(url))
            assert "is replaced or left out" in running.output
        kept = "caf?" if encoding == "SQL_ASCII" else "café"
        assert [(row["status"], row["tries"]) for row in rows] == [
            ("finished", 1),
            ("error", 1),
            ("finished", 2),
            ("finished", 1),
        ]
        assert rows[0]["result"] == f"{kept} ?"
        assert rows[1]["errors"][0]["message"] == f"{kept} ?"
        assert rows[1]["errors"][0]["traceback"]
        assert rows[2]["errors"][0]["message"] == f"{kept} ?"
        assert rows[3]["errors"][0]["message"] == f"{kept} ?"

    def test_one_that_was_to_run_again_beyond_all_time_ends_in_error(self):
        """No moment is so far: it would be refused for ever."""
        with live_supervisor(WORKERS_COUNT=1):
            bad, good = PostponeTooFar().delay(), Write("good").delay()
            wait_until(ended)

        bad.refresh_from_db()
        assert (bad.status, bad.tries, status(good)) == ("error", 1, "finished")
        (error,) = bad.errors
        assert error["exception_class"] == "builtins.OverflowError"
        assert error["message"] == "It was to run again after 115740740 days, 17:46:40."

    def test_rows_that_are_locked_are_not_refused(self, tmp_path):
        """However many somebody has locked, others are run."""
        most = refused.MOST + 5
        path = tmp_path / "go on"
        tasks = [AsyncWait(str(path)).delay() for _ in range(most)]
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with (
            psycopg.connect(**params) as other,
            live_supervisor(
                WORKERS_COUNT=1, ASYNC_CONCURRENCY=most, MAX_QUEUE_SIZE=most
            ) as supervisor,
        ):
            wait_until(lambda: Mark.objects.count() == most)
            other.execute("SELECT FROM partisan_async_task FOR UPDATE")
            path.touch()
            wait_until(lambda: len(supervisor.parts.settler._unwritten.locked) == most)
            after = Write("after").delay()
            wait_until(lambda: ended(after))
            assert not any(ended(task) for task in tasks)
            other.rollback()

    def test_what_waits_is_claimed_as_soon_as_outcomes_are_taken_again(self, monkeypatch):
        """And not at the next beat: while so many are refused nothing is run."""
        monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.5)
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=300, ttl_seconds=900) as supervisor:
            does = "RAISE EXCEPTION 'no' USING ERRCODE = '42501'"
            with trigger(does, "NEW.status = 'finished'"):
                for number in range(2 * refused.MOST):
                    Write(number).delay()
                wait_until(lambda: not supervisor.parts.settler.has_room())
                after = Write("after").delay()
                wait_until(lambda: supervisor.parts.agenda.ready)
            wait_until(lambda: ended(after))


def test_what_is_anothers_by_now_is_forgotten_whole():
    """Of what it kept of the claim, nothing is to count or to be tried."""
    kept = refused.Refused()
    late, left = (
        Settlement(
            Claim(pk, 1, "default", "Write", "{}", 10, 0, 0, 0, False, 0, 0, 0.0),
            Finished(),
            None,
        )
        for pk in (1, 2)
    )
    assert not kept.put(late, 0.0, psycopg.errors.InsufficientPrivilege())
    assert kept.put(left, 0.0, psycopg.errors.CheckViolation())
    assert (kept.waiting, kept.left(), kept.attempts(late.claim)) == (1, {2}, 1)

    kept.drop({late.claim.key, left.claim.key, (3, 1)})

    assert (kept.claims(), kept.left(), kept.waiting) == ([], set(), 0)
    assert kept.attempts(late.claim) == 0
    assert kept._due == {}


SCRIPT = """
import json, time
import django
django.setup()
from partisan_async import registry
registry.autodiscover()
from partisan_async.models import Task
from tests.testapp.partisan_tasks import Cry, CryOnce, Keep, PutOffOnce
for kind in (Keep, Cry, CryOnce, PutOffOnce):
    kind(codes=[99, 97, 102, 233, 32, 8594]).delay()
deadline = time.monotonic() + %s
while Task.objects.exclude(status__in=("finished", "error")):
    assert time.monotonic() < deadline, list(Task.objects.values())
    time.sleep(0.05)
names = ("status", "tries", "result", "errors")
print(json.dumps(list(Task.objects.order_by("id").values(*names))))
"""


def run(url):
    """Enqueue tasks there, wait for their ends, and return their rows as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT % DEADLINE_SECONDS],
        env=environment(DATABASE_URL=url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestTimeouts:
    def test_one_that_always_times_out_holds_no_other_up(self, caplog, monkeypatch):
        """A batch that fails while the connection works is written in parts."""
        monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.2)
        slow = Write("slow").delay()
        ((name,),) = [[connection.settings_dict["NAME"]]]
        execute(f"ALTER DATABASE {name} SET statement_timeout = '300ms'")
        try:
            with (
                trigger("PERFORM pg_sleep(5)", f"NEW.id = {slow.pk} AND NEW.claimed_by IS NULL"),
                live_supervisor(WORKERS_COUNT=1),
            ):
                others = [Write(number).delay() for number in range(60)]
                wait_until(lambda: ended(*others))
                assert status(slow) == "in_process"
                execute("ALTER TABLE partisan_async_task DISABLE TRIGGER site_rule")
                wait_until(ended)
        finally:
            execute(f"ALTER DATABASE {name} RESET statement_timeout")
            connections["default"].close()

        assert "settle failed, trying again: canceling statement" in caplog.text
        assert marks().count("slow") == 1

    def test_what_is_too_much_three_times_is_written_without_its_text(self, monkeypatch, caplog):
        """It may be too large for the server as it is; that it ended is what counts."""
        monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.1)
        execute("CREATE SEQUENCE attempts_made")
        does = "PERFORM nextval('attempts_made'); RAISE EXCEPTION 'big' USING ERRCODE = '54000'"
        try:
            with trigger(does, "NEW.result IS NOT NULL"), live_supervisor(WORKERS_COUNT=1):
                task = Keep("much").delay()
                wait_until(ended)
            with connection.cursor() as cursor:
                cursor.execute("SELECT last_value FROM attempts_made")
                assert cursor.fetchone() == (3,)
        finally:
            execute("DROP SEQUENCE attempts_made")

        task.refresh_from_db()
        assert (task.status, task.result, task.claim_seq) == ("finished", None, 1)
        assert "the text of its outcome cannot be stored" in caplog.text


@pytest.mark.parametrize("line", ["passed over", "left", "unstorable"])
def test_a_line_about_a_refused_row_does_not_tell_its_arguments(line, caplog):
    """PostgreSQL's detail quotes the whole row that it refuses; a log is read by more people."""
    task = Keep("a secret").delay()
    is_whole = {"passed over": "status <> 'in_process'", "unstorable": "result IS NULL"}
    with (
        constraint(is_whole.get(line, "claimed_by IS NOT NULL OR claim_seq = 0")),
        live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1),
    ):
        wait_until(lambda: line in {getattr(each, "event", "") for each in caplog.records})

    (said,) = [each for each in caplog.records if getattr(each, "event", "") == line]
    assert said.task_id == task.pk
    assert 'violates check constraint "site_rule"' in said.getMessage()
    assert "a secret" not in caplog.text


class TestClaims:
    """A batch begins at the same end each time: one row there must not be in all others' way."""

    def test_a_row_that_cannot_be_claimed_is_passed_over(self, caplog):
        bad = [Write("bad").delay(priority=1) for _ in range(3)]
        ids = ", ".join(str(task.pk) for task in bad)
        with (
            refusal(f"NEW.id IN ({ids}) AND NEW.status = 'in_process'"),
            live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2),
        ):
            good = [Write("good").delay() for _ in range(20)]
            wait_until(lambda: ended(*good))

        assert {status(task) for task in bad} == {"new"}
        for task in bad:
            assert caplog.text.count(f"passed over {task.pk}:") == 1
        told = {
            (each.task_id, each.processor_class, each.queue_name, each.claim_seq)
            for each in caplog.records
            if getattr(each, "event", "") == "passed over"
        }
        assert told == {(task.pk, "Write", "default", 0) for task in bad}

    @pytest.mark.parametrize("state", ["42501", "42P01", "08006", "XX000", "57014", "P0001"])
    def test_whatever_class_the_error_is_of(self, state):
        """A trigger may raise any: as one that asks another server, or a table without a right."""
        bad = Write("bad").delay(priority=1)
        does = f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}'"
        with (
            trigger(does, f"NEW.id = {bad.pk} AND NEW.status = 'in_process'"),
            live_supervisor(WORKERS_COUNT=1, MAX_QUEUE_SIZE=1, MIN_QUEUE_SIZE=1),
        ):
            good = [Write("good").delay() for _ in range(20)]
            wait_until(lambda: ended(*good))

        assert status(bad) == "new"

    @pytest.mark.parametrize("state", ["42501", "42P01", "08006", "XX000"])
    def test_where_all_are_refused_for_now_none_is_passed_over(self, state, caplog):
        """A full disk, or a right that is missing, is no row's."""
        does = f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}'"
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1):
            with trigger(does, "NEW.status = 'in_process'"):
                tasks = [Write(number).delay() for number in range(30)]
                wait_until(lambda: "claim failed" in caplog.text)
            wait_until(lambda: ended(*tasks))

        assert "passed over" not in caplog.text

    def test_it_is_claimed_when_that_is_mended(self, monkeypatch):
        monkeypatch.setattr(around, "PASSED_OVER_SECONDS", 0.3)
        bad = Write("bad").delay()
        refusing = ExitStack()
        # Before the first claim, which would take it.
        refusing.enter_context(refusal(f"NEW.id = {bad.pk} AND NEW.status = 'in_process'"))
        with refusing, live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            good = Write("good").delay()
            wait_until(lambda: ended(good))
            refusing.close()
            wait_until(ended)

        assert marks() == ["good", "bad"]

    def test_a_due_row_that_cannot_be_made_ready_is_passed_over(self, caplog):
        bad, good = Write("bad").delay(), Write("good").delay()
        Task.objects.update(status="scheduled")
        with (
            refusal(f"NEW.id = {bad.pk} AND NEW.status = 'new'"),
            live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2),
        ):
            wait_until(lambda: ended(good))

        assert status(bad) == "scheduled"
        assert f"passed over {bad.pk}: the database refuses to make ready it" in caplog.text

    def test_an_orphan_that_cannot_be_rescued_is_passed_over(self, caplog):
        bad, good = Write("bad").delay(), Write("good").delay()
        Task.objects.update(status="in_process", claimed_by="00000000-0000-0000-0000-000000000007")
        with (
            refusal(f"NEW.id = {bad.pk}"),
            live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1, ttl_seconds=0.5),
        ):
            wait_until(lambda: ended(good))

        assert status(bad) == "in_process"
        assert f"passed over {bad.pk}:" in caplog.text


class TestRights:
    """A restart would heal nothing, and would end what runs: it goes on, and says what to grant."""

    @pytest.fixture
    def supervise(self, transactional_db):
        with role() as name:
            yield name

    def test_without_the_right_to_claim_it_waits_and_says_what_to_grant(
        self, supervise, as_owner, caplog
    ):
        as_owner(f"REVOKE UPDATE ON partisan_async_task FROM {supervise}")
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            task = Write().delay()
            grant = f'ON partisan_async_task TO "{supervise}"'
            wait_until(lambda: grant in caplog.text)
            seen = Supervisor.objects.get().last_seen_at
            wait_until(lambda: Supervisor.objects.get().last_seen_at > seen)
            assert status(task) == "new"
            as_owner(f"GRANT UPDATE ON partisan_async_task TO {supervise}")
            wait_until(ended)

        told = [r for r in caplog.records if r.levelname == "CRITICAL"]
        assert [r.message.split(" failed")[0] for r in told] == ["claim"]
        assert "claim works again" in caplog.text

    def test_without_the_right_to_set_tasks_aside_it_says_once_what_to_grant(
        self, supervise, as_owner, caplog, monkeypatch
    ):
        monkeypatch.setattr(parking, "AGAIN_SECONDS", 0.2)
        steering.pause(processor="Write")
        as_owner(f"REVOKE UPDATE ON partisan_async_pausedprocessor FROM {supervise}")
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            task = Write().delay()
            grant = f'ON partisan_async_pausedprocessor TO "{supervise}"'
            wait_until(lambda: grant in caplog.text)
            wait_until(lambda: ended(Nothing().delay()))
            as_owner(f"GRANT UPDATE ON partisan_async_pausedprocessor TO {supervise}")
            wait_until(lambda: Task.objects.get(pk=task.pk).is_parked)

        told = [r for r in caplog.records if r.levelname == "CRITICAL"]
        assert [r.message.split(" failed")[0] for r in told] == [
            "setting aside tasks of paused processors"
        ]
        assert "setting aside tasks of paused processors works again" in caplog.text

    def test_what_ran_without_the_right_to_settle_is_written_when_it_is_there(
        self, supervise, as_owner, caplog, tmp_path
    ):
        path = tmp_path / "go on"
        with live_supervisor(WORKERS_COUNT=1):
            tasks = [Wait(str(path)).delay(), *(Write(number).delay() for number in range(5))]
            wait_until(lambda: Mark.objects.exists())
            as_owner(f"REVOKE UPDATE ON partisan_async_task FROM {supervise}")
            path.touch()
            wait_until(lambda: "settle failed, and will until somebody mends it" in caplog.text)
            as_owner(f"GRANT UPDATE ON partisan_async_task TO {supervise}")
            wait_until(ended)

        assert {row.claim_seq for row in Task.objects.filter(pk=tasks[0].pk)} == {1}
        assert marks().count("waits") == 1

    @pytest.mark.parametrize("right", ["INSERT", "UPDATE", "DELETE"])
    def test_without_a_right_to_tallies_tasks_run(
        self, supervise, as_owner, caplog, monkeypatch, right
    ):
        monkeypatch.setattr(tally, "WRITE_EVERY_SECONDS", 0.1)
        as_owner(f"REVOKE {right} ON partisan_async_tally FROM {supervise}")
        with live_supervisor(WORKERS_COUNT=1):
            Write().delay()
            lost = "counts for the dashboard were not written: permission denied"
            wait_until(lambda: lost in caplog.text)
            Write().delay()
            wait_until(ended)

        told = [each for each in caplog.records if getattr(each, "event", "") == "not tallied"]
        assert [each.levelname for each in told].count("WARNING") == 1

    @pytest.mark.parametrize("right", ["INSERT", "UPDATE", "SELECT"])
    def test_without_a_right_to_its_own_row_it_says_so_and_begins_when_it_has_it(
        self, supervise, as_owner, caplog, right
    ):
        as_owner(f"REVOKE {right} ON partisan_async_supervisor FROM {supervise}")
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            task = Write().delay()
            wait_until(lambda: "beat failed, and will until somebody mends it" in caplog.text)
            assert status(task) == "new"
            as_owner(f"GRANT {right} ON partisan_async_supervisor TO {supervise}")
            wait_until(ended)

    def test_without_the_right_to_remove_its_row_it_ends_in_order(
        self, supervise, as_owner, caplog
    ):
        as_owner(f"REVOKE DELETE ON partisan_async_supervisor FROM {supervise}")
        with live_supervisor(WORKERS_COUNT=1):
            Write().delay()
            wait_until(ended)

        assert "this supervisor's row could not be removed: permission denied" in caplog.text


class TestTables:
    def test_a_column_that_is_missing_for_a_while_ends_nothing(self, caplog, tmp_path):
        """What runs goes on, and is written when the column is back."""
        path = tmp_path / "go on"
        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.2):
            task = Wait(str(path)).delay()
            wait_until(lambda: Mark.objects.exists())
            execute("ALTER TABLE partisan_async_task RENAME worker_ids TO gone")
            path.touch()
            try:
                wait_until(lambda: "settle failed, and will until" in caplog.text)
                assert "manage.py migrate" in caplog.text
            finally:
                execute("ALTER TABLE partisan_async_task RENAME gone TO worker_ids")
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.claim_seq) == ("finished", 1)

    @pytest.mark.timeout(900)
    def test_where_nothing_can_be_written_no_more_is_run(self, caplog, monkeypatch):
        """Else the whole queue would run, and nothing of it would ever be known."""
        monkeypatch.setattr(refused, "LONGEST_PAUSE_SECONDS", 0.2)
        # More than are run before the first answer comes, on a busy machine, too.
        tasks = Write.bulk_delay(Write(number) for number in range(1500))
        refusing = ExitStack()
        refusing.enter_context(refusal("NEW.status = 'finished'"))  # before the first can run
        with refusing, live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1) as supervisor:
            wait_until(lambda: "settle failed" in caplog.text)
            for _ in range(40):
                seen = Supervisor.objects.get().last_seen_at
                wait_until(lambda s=seen: Supervisor.objects.get().last_seen_at > s)
            assert Mark.objects.count() < 1300
            refusing.close()
            left = supervisor.parts.settler.left()
            assert len(left) == refused.MOST
            rest = [task for task in tasks if task.pk not in left]
            wait_until(lambda: ended(*rest), seconds=500)

        assert len(set(marks())) == 1500


@pytest.mark.parametrize("are_ends", [False, True])
def test_what_is_given_back_says_nothing_of_what_the_database_refuses(are_ends):
    """Else each give-back would have twenty more rows left, where none of them is to blame."""
    kept = refused.Refused()

    def put(number):
        settlement = Settlement(claim(id=number), Finished(), None)
        return kept.put(settlement, 0.0, psycopg.errors.CheckViolation())

    assert all(put(number) for number in range(refused.MOST))
    kept.note_written([claim(id=99)], are_ends=are_ends)

    assert put(100) == are_ends


class TestTally:
    def test_a_sequence_behind_its_table_costs_the_figures_and_nothing_else(
        self, monkeypatch, caplog
    ):
        """As after a logical replication, which copies no sequences."""
        monkeypatch.setattr(tally, "WRITE_EVERY_SECONDS", 0.1)
        with live_supervisor(WORKERS_COUNT=1):
            Write().delay()
            wait_until(lambda: Tally.objects.exists())
            execute(
                "UPDATE partisan_async_tally SET id = 1, minute = minute - interval '1 h'",
                "SELECT setval('partisan_async_tally_id_seq', 1, false)",
            )
            Write().delay()
            wait_until(lambda: "were not written: duplicate key" in caplog.text)
            Write().delay()
            wait_until(ended)
            wait_until(lambda: Tally.objects.count() == 2)

    def test_a_count_that_has_come_to_its_end_stays_there(self, monkeypatch):
        monkeypatch.setattr(tally, "WRITE_EVERY_SECONDS", 0.1)
        with live_supervisor(WORKERS_COUNT=1):
            Write().delay()
            wait_until(lambda: Tally.objects.exists())
            Tally.objects.update(finished=2**31 - 1, run_seconds=0)
            Write().delay()
            wait_until(lambda: Tally.objects.filter(run_seconds__gt=0).exists())

        assert max(Tally.objects.values_list("finished", flat=True)) == 2**31 - 1


def test_a_fault_in_what_it_cannot_do_without_stops_it_in_order(monkeypatch, caplog):
    """Never half dead: whoever started it starts a whole one."""

    async def fail(self):
        raise ZeroDivisionError

    monkeypatch.setattr(claimer.Claimer, "_take", fail)
    with pytest.raises(ZeroDivisionError), live_supervisor(WORKERS_COUNT=1) as supervisor:
        wait_until(lambda: "stopping: an unexpected error" in caplog.text)
        assert supervisor.parts.stop.begun.is_set()

    assert not Supervisor.objects.exists()


def test_what_is_done_beside_the_tasks_ends_nothing(monkeypatch, caplog):
    """Whatever befalls it: a fault in it is a line in the log."""
    failed = threading.Event()

    async def fail(self):
        failed.set()
        raise ZeroDivisionError

    monkeypatch.setattr(tally.Tally, "keep", fail)
    with live_supervisor(WORKERS_COUNT=1):
        Write().delay()
        wait_until(ended)
        assert failed.is_set()

    assert (
        "counting for the dashboard failed by an unexpected error; it starts again in 30 s"
        in caplog.text
    )
