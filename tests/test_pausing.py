"""One processor is paused, at night; the others of its queue run as always."""

import asyncio
import html
import io
import json
import re
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from partisan_async import steering, store
from partisan_async.models import PausedProcessor, PausedQueue, Schedule, Supervisor, Task
from partisan_async.operate import overview, reasons
from partisan_async.operate.doctor import tasks as looks
from partisan_async.store import Statement
from partisan_async.supervisor.parking import Parking
from partisan_async.supervisor.report import queue_depth
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.site_rules import refusal
from tests.test_dashboard import nodes
from tests.testapp.partisan_tasks import Nothing, Sleep, Write, WriteElsewhere, WriteUnique

TTL = timedelta(seconds=30)


def partisan(*arguments, err=None):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=err or io.StringIO())
    return out.getvalue()


def execute(statement):
    with connection.cursor() as cursor:
        cursor.execute(*statement)
        return cursor.fetchall() if cursor.description else []


def crowd(count, processor="Nothing", queue="default"):
    """Enqueue many without a word to anybody."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO partisan_async_task
                (queue_name, processor_class, arguments, status, priority, execute_after)
            SELECT %s, %s, '{"args": [], "kwargs": {}}', 'new', 10, now() - interval '1 h'
            FROM generate_series(1, %s)
            """,
            [queue, processor, count],
        )
        cursor.execute("ANALYZE partisan_async_task")


def parked(**which):
    return Task.objects.filter(status="scheduled", parked_from__isnull=False, **which)


def park_all(queue="default"):
    while execute(store.park(queue)) != [(0,)]:
        pass


@pytest.fixture
def me(db):
    me = uuid.uuid4()
    execute(store.beat([store.Beat(me, "default")], hostname="h", process="{}", ttl=TTL))
    return me


@pytest.mark.django_db(transaction=True)
class TestLive:
    """With slow beats, so that what happens at once was told by NOTIFY."""

    @pytest.fixture
    def supervisor(self):
        with live_supervisor(WORKERS_COUNT=2, beat_seconds=20, ttl_seconds=100) as supervisor:
            yield supervisor

    def test_what_runs_goes_on_others_run_and_nothing_of_it_starts(self, supervisor, caplog):
        caplog.set_level("INFO", "partisan_async")
        running = Sleep(1, "running").delay()
        wait_until(lambda: "start running" in marks())

        assert steering.pause(processor="Sleep")
        wait_until(lambda: "paused: processor Sleep of queue 'default'" in caplog.text)
        late = Sleep(0, "late").delay()
        other = Write("other").delay()
        wait_until(lambda: ended(running, other))
        wait_until(lambda: parked().exists())

        late.refresh_from_db()
        assert (late.claim_seq, late.is_parked) == (0, True)
        assert steering.resume(processor="Sleep")
        wait_until(lambda: ended(late))
        wait_until(lambda: not PausedProcessor.objects.exists())
        assert "resumed: processor Sleep of queue 'default'" in caplog.text

    def test_what_was_claimed_and_not_started_is_given_back(self, supervisor, caplog):
        caplog.set_level("INFO", "partisan_async")
        measured = Sleep.bulk_delay([Sleep(0.02, number) for number in range(5)])
        wait_until(lambda: ended(*measured))
        Sleep.bulk_delay([Sleep(0.02, number) for number in range(5, 400)])
        wait_until(lambda: "start 20" in marks())

        steering.pause(processor="Sleep")
        wait_until(lambda: not Task.objects.filter(status="in_process").exists())

        assert "given back" in caplog.text
        done = Task.objects.filter(status="finished").count()
        wait_until(lambda: parked().count() == 400 - done)

    def test_one_that_starts_during_the_pause_starts_nothing_of_it(self):
        steering.pause(processor="Write")
        task = Write().delay()

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(Nothing().delay()))

        task.refresh_from_db()
        assert task.claim_seq == 0

    def test_without_notify_it_is_seen_by_the_next_beat(self):
        with live_supervisor(WORKERS_COUNT=1, listen=False, beat_seconds=0.2):
            wait_until(Supervisor.objects.exists)  # it may be up before its first beat
            steering.pause(processor="Write")
            beaten = Supervisor.objects.get().last_seen_at
            wait_until(lambda: Supervisor.objects.get().last_seen_at > beaten)
            task = Write().delay()
            wait_until(lambda: parked(pk=task.pk).exists())

            steering.resume(processor="Write")
            wait_until(lambda: ended(task))

    def test_one_that_is_refused_to_be_parked_holds_up_nobody(self, caplog):
        """A trigger of the site's: side work never ends the main work."""
        caplog.set_level("INFO", "partisan_async")
        steering.pause(processor="Write")
        Write().delay()

        with refusal("NEW.parked_from IS NOT NULL"), live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: "tasks of paused processors were not set aside" in caplog.text)
            wait_until(lambda: ended(Nothing().delay()))

        assert Task.objects.get(processor_class="Write").claim_seq == 0

    def test_what_a_dead_supervisor_ran_of_it_waits_for_the_end_of_the_pause(self):
        task = Write().delay()
        Task.objects.update(status="in_process", claimed_by=uuid.uuid4())
        steering.pause(processor="Write")

        with live_supervisor(WORKERS_COUNT=1, beat_seconds=0.1, ttl_seconds=0.4) as supervisor:
            wait_until(lambda: supervisor.parts.lease.steady)
            wait_until(lambda: ended(Nothing().delay()))
            task.refresh_from_db()
            assert (task.status, task.claim_seq) == ("in_process", 0)
            assert any("Its processor was paused" in said for said in reasons.why(task))

            steering.resume(processor="Write")
            wait_until(lambda: ended(task))

    def test_its_schedule_goes_on_ticking(self):
        """A tick is a call like any other; of unique ones one waits."""
        steering.pause(processor="Tick")

        def last_tick():
            return Schedule.objects.get(processor_class="Tick").last_tick

        with live_supervisor("ticks", WORKERS_COUNT=1):
            wait_until(lambda: parked(processor_class="Tick").exists())
            first = last_tick()
            wait_until(lambda: last_tick() > first)

        assert Task.objects.get(processor_class="Tick").claim_seq == 0

    def test_100000_of_it_in_front_keep_nobody_of_the_others(self, supervisor, caplog):
        caplog.set_level("INFO", "partisan_async")
        steering.pause(processor="Nothing")
        wait_until(lambda: "paused: processor Nothing" in caplog.text)
        crowd(100_000)

        other = Write("other").delay()
        wait_until(lambda: ended(other))

        assert not Task.objects.filter(processor_class="Nothing", claim_seq__gt=0).exists()
        wait_until(lambda: parked().count() == 100_000)


@pytest.mark.django_db
class TestStatements:
    def test_without_a_pause_a_claim_is_what_it_was(self, me):
        """A queue without one pays nothing, and no plan changes for it."""
        assert store.claim(me, "default", 5, TTL) == store.claim(
            me, "default", 5, TTL, store.Among(paused=())
        )
        assert "processor_class <>" not in store.claim(me, "default", 5, TTL).sql

    def test_without_a_pause_nothing_is_sent(self):
        class Never:
            role = ""

            async def execute(self, statement):
                raise AssertionError(statement)

        parking = Parking("default", Never())
        parking.on_sight(frozenset(), ending=False)
        turn = parking.turn()

        with pytest.raises(StopIteration, match="False"):
            turn.send(None)

    def test_after_it_is_parked_a_claim_reads_what_it_takes(self, me):
        with connection.cursor() as cursor:
            # Its index is as large as what others have left in it.
            cursor.execute("TRUNCATE partisan_async_task CASCADE")
        crowd(10_000)
        crowd(100, "Write")
        steering.pause(processor="Nothing")
        among = store.Among(paused=["Nothing"])

        assert self.read_by(store.claim(me, "default", 5, TTL, among)) == 10_005
        Task.objects.filter(status="in_process").update(status="new", claimed_by=None)
        park_all()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE partisan_async_task")

        assert parked().count() == 10_000
        assert self.read_by(store.claim(me, "default", 5, TTL, among)) == 5

    def plan(self, statement):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", statement.params)
            (plan,) = cursor.fetchone()
        return nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])

    def read_by(self, statement):
        (scan,) = [
            node
            for node in self.plan(statement)
            if node.get("Index Name") == "partisan_async_ready"
        ]
        return scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)

    def test_the_end_of_one_pause_reads_none_of_what_others_parked(self, me):
        """Claims wait for it meanwhile."""
        steering.pause(processor="Nothing")
        crowd(20_000)
        park_all()
        steering.pause(processor="Write")
        crowd(10, "Write")
        park_all()
        PausedProcessor.objects.filter(processor_class="Write").update(resumed_at=timezone.now())
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE partisan_async_task")

        assert self.scanned(store.end_pauses()) <= 10
        assert self.scanned(store.unpark("default")) <= 10 + 10  # and each once more, to write it
        assert Task.objects.filter(status="new").count() == 10
        assert self.scanned(store.end_pauses()) == 0
        assert [each.processor for each in overview.pauses()] == ["Nothing"]

    def scanned(self, statement):
        """How many rows of tasks it has read."""
        scans = [
            node
            for node in self.plan(statement)
            if node.get("Relation Name") == "partisan_async_task"
            and node["Node Type"] != "ModifyTable"
            and node.get("Alias") == "t"
        ]
        assert scans
        assert "Seq Scan" not in {node["Node Type"] for node in scans}
        return sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )

    def test_what_another_pause_holds_goes_over_to_that_one(self):
        """No claim is to pass over it in between."""
        steering.pause(processor="Nothing")
        steering.pause("default", processor="Nothing")
        crowd(5)
        park_all()

        assert steering.resume("", processor="Nothing")
        assert [execute(store.unpark("default")) for _ in range(2)] == [[(5,)], [(0,)]]
        execute(store.end_pauses())
        assert parked().count() == 5
        assert [(each.queue_name, each.parked) for each in overview.pauses()] == [("default", 5)]
        assert steering.resume(processor="Nothing")
        assert execute(store.unpark("default")) == [(5,)]
        assert Task.objects.filter(status="new", parked_from=None).count() == 5

    @pytest.mark.parametrize("moment", ["infinity", "9999-12-30", "9999-01-01"])
    @pytest.mark.parametrize("was_parked", [False, True])
    def test_what_is_far_for_another_reason_is_parked_nowhere(self, moment, was_parked):
        """Everybody who counts says the same of a row."""
        if was_parked and moment == "9999-01-01":
            pytest.skip("that is what parked rows look like")
        task = Write().delay()
        steering.pause(processor="Write")
        if was_parked:
            park_all()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_task SET status = 'scheduled', execute_after = %s", [moment]
            )

        task.refresh_from_db()
        assert not task.is_parked
        ((queue,), (pause,)) = overview.queues(10), overview.pauses()
        assert (queue.scheduled, queue.parked, pause.parked) == (1, 0, 0)
        assert execute(store.parked_queues()) == []
        assert execute(Statement(queue_depth._QUEUE, {"queue_name": "default"}))[0][1:3] == (1, 0)

    def test_a_row_that_is_locked_makes_no_turn_wait(self):
        """Else 100,000 are set aside in minutes."""

        class Connection:
            role = ""

            async def execute(self, statement):
                return [(999,)]

        parking = Parking("default", Connection())
        parking.on_sight(frozenset({"Nothing"}), ending=False)

        assert asyncio.run(parking.turn()) is True

    def test_what_is_parked_comes_back_as_it_was(self):
        task = Write().delay()
        due = Task.objects.get(pk=task.pk).execute_after
        steering.pause(processor="Write")
        park_all()
        assert parked().get().parked_from == due

        steering.resume(processor="Write")
        while execute(store.unpark("default")) != [(0,)]:
            pass
        execute(store.end_pauses())

        task.refresh_from_db()
        assert (task.status, task.execute_after, task.parked_from) == ("new", due, None)
        assert not PausedProcessor.objects.exists()

    def test_who_is_scheduled_for_that_very_moment_is_left_alone(self):
        far = datetime(9999, 1, 1, tzinfo=UTC)
        task = Write().delay()
        Task.objects.update(status="scheduled", execute_after=far)

        assert execute(store.unpark("default")) == [(0,)]

        task.refresh_from_db()
        assert (task.status, task.execute_after) == ("scheduled", far)

    @pytest.mark.parametrize("steer", [steering.run_now, lambda ids: steering.cancel(ids)])
    def test_what_is_steered_meanwhile_is_parked_no_more(self, steer):
        """A pause of its own, after a retry, must not look like that of its processor."""
        task = Write().delay()
        steering.pause(processor="Write")
        park_all()

        assert steer([task.pk]) == [task.pk]
        steering.retry([task.pk])

        task.refresh_from_db()
        assert (task.status, task.parked_from) == ("new", None)

    def test_an_older_release_s_run_now_leaves_none_that_looks_parked(self):
        """It does not know the column."""
        task = Write().delay()
        steering.pause(processor="Write")
        park_all()
        later = timezone.now() + timedelta(minutes=1)
        Task.objects.update(execute_after=later)

        task.refresh_from_db()
        assert not task.is_parked
        with timezone.override("America/New_York"):
            Task.objects.update(execute_after=datetime(9999, 1, 1, tzinfo=UTC))
            assert Task.objects.get().is_parked

    def test_an_identical_call_finds_it_waiting(self):
        task = WriteUnique(1).delay()
        steering.pause(processor="WriteUnique")
        park_all()

        assert WriteUnique(1).delay() == task

    def test_in_one_queue_and_in_all(self):
        steering.pause("default", processor="Nothing")
        steering.pause("elsewhere", processor="Write")
        crowd(3)
        crowd(3, queue="elsewhere")
        park_all()
        park_all("elsewhere")
        assert set(parked().values_list("queue_name", flat=True)) == {"default"}

        steering.pause(processor="Nothing")
        park_all("elsewhere")
        assert parked().count() == 6

        steering.resume("default", processor="Nothing")
        assert execute(store.unpark("default")) == [(3,)]  # over to the other pause
        assert execute(store.unpark("default")) == [(0,)]
        assert parked().count() == 6

    def test_run_pending_starts_nothing_of_it(self):
        task = Write().delay()
        steering.pause(processor="Write")

        assert run_pending() == []
        steering.resume(processor="Write")
        assert [ran.task for ran in run_pending()] == [task]

    def test_a_pause_that_ends_and_begins_again_is_news(self):
        assert steering.pause(processor="Write")
        assert not steering.pause(processor="Write")
        Write().delay()
        park_all()
        assert steering.resume(processor="Write")
        assert not steering.resume(processor="Write")
        assert steering.pause(processor="Write")
        assert [each.ending for each in overview.pauses()] == [False]

    def test_nothing_named_is_said(self):
        for steer in (steering.pause, steering.resume):
            with pytest.raises(TypeError, match="Say what"):
                steer()


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_what_is_parked_beside_the_resume_is_brought_back(self):
        """A park that is under way must not leave rows that nobody looks for any more."""
        steering.pause(processor="Nothing")
        crowd(5)
        outcome = []

        def resume():
            outcome.append(steering.resume(processor="Nothing"))
            connections.close_all()

        with transaction.atomic():
            assert execute(store.park("default")) == [(5,)]
            other = threading.Thread(target=resume)
            other.start()
            wait_until(lambda: self.somebody_waits() or not other.is_alive())
        other.join()

        assert outcome == [True]
        assert Task.objects.filter(status="new").count() == 5
        assert not PausedProcessor.objects.exists()

    def somebody_waits(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return cursor.fetchone()[0]

    def test_a_resume_in_an_open_transaction_holds_up_no_supervisor(self):
        steering.pause(processor="Nothing")
        crowd(5)
        parked_then = []

        def park():
            parked_then.append(execute(store.park("default")))
            connections.close_all()

        with transaction.atomic():
            steering.resume(processor="Nothing")
            other = threading.Thread(target=park)
            other.start()
            other.join(60)
            assert not other.is_alive()

        assert parked_then == [[(0,)]]

    def test_a_row_that_is_locked_keeps_the_pause_until_it_is_back(self):
        """Else nobody would look for it."""
        steering.pause(processor="Nothing")
        crowd(1)
        park_all()

        def resume():
            steering.resume(processor="Nothing")
            connections.close_all()

        with transaction.atomic():
            parked().select_for_update().get()
            other = threading.Thread(target=resume)
            other.start()
            other.join(60)
            assert not other.is_alive()
        assert [each.ending for each in overview.pauses()] == [True]

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(ended)
            wait_until(lambda: not PausedProcessor.objects.exists())

    @pytest.mark.parametrize("rest", ["supervisor", "command"])
    def test_a_resume_makes_the_caller_wait_no_longer_than_agreed(self, monkeypatch, rest):
        """A web request would run into its time limit: of millions that takes minutes."""
        monkeypatch.setattr("partisan_async.steering.pauses.BROUGHT_BACK_SECONDS", 0.0)
        steering.pause(processor="Nothing")
        crowd(2 * store.PARKED_AT_ONCE + 1)
        park_all()

        steering.resume(processor="Nothing")

        assert parked().count() == store.PARKED_AT_ONCE + 1
        assert [each.ending for each in overview.pauses()] == [True]
        if rest == "supervisor":
            with live_supervisor(WORKERS_COUNT=1):
                wait_until(lambda: not PausedProcessor.objects.exists())
        else:
            partisan("resume", "--all")
        assert not parked().exists()
        assert not PausedProcessor.objects.exists()

    def test_the_migration_back_leaves_none_parked(self):
        """The release before knows of no pause, and would never look for it."""
        steering.pause(processor="Nothing")
        crowd(3)
        park_all()
        try:
            call_command("migrate", "partisan_async", "0008", verbosity=0)
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM partisan_async_task WHERE status = 'new'")
                assert cursor.fetchone() == (3,)
        finally:
            call_command("migrate", "partisan_async", verbosity=0)


@pytest.mark.django_db
class TestSeen:
    @pytest.fixture
    def task(self):
        task = Write().delay()
        steering.pause(processor="Write")
        park_all()
        task.refresh_from_db()
        return task

    def test_by_why(self, task):
        (said, *_) = reasons.why(task)

        assert said.startswith("Its processor was paused in every queue at ")
        assert said.endswith("To resume it: manage.py partisan resume --processor Write")
        assert not any("scheduled until" in said for said in reasons.why(task))

        steering.resume(processor="Write")
        assert any("is resumed: a supervisor makes it ready" in s for s in reasons.why(task))

    def test_by_why_before_it_is_parked(self):
        task = Write().delay()
        steering.pause("default", processor="Write")

        (said, *_) = reasons.why(task)

        assert said.endswith(
            "resume it: manage.py partisan resume --processor Write --queue-name default"
        )
        assert not any("next" in said for said in reasons.why(task))

    def test_by_status(self, task):
        assert "paused processor" in partisan("status")
        assert "manage.py partisan resume --processor Write" in partisan("status")
        told = json.loads(partisan("status", "--json"))
        assert told["paused_processors"][0]["processor"] == "Write"
        (queue,) = told["queues"]
        assert (queue["ready"], queue["scheduled"], queue["parked"]) == (0, 0, 1)

    def test_by_run_now_and_retry(self, task):
        """Else one waits for what was said to run."""
        way_out = "for the end of a pause: manage.py partisan resume --processor Write"
        other = WriteElsewhere().delay()
        Task.objects.filter(pk=other.pk).update(
            status="scheduled", execute_after=timezone.now() + timedelta(hours=1)
        )
        err = io.StringIO()

        partisan("run-now", other.pk, err=err)
        assert err.getvalue() == ""
        partisan("run-now", task.pk, err=err)
        assert err.getvalue() == f"1 of them waits {way_out}\n"
        Write.bulk_delay([Write(1), Write(2)])
        Task.objects.update(status="error", finished_at=timezone.now())
        partisan("retry", "--queue", "default", "--yes", err=err)
        assert err.getvalue().splitlines()[1:] == [f"3 of them wait {way_out}"]
        partisan("cancel", "--all", "--yes", err=err)
        assert len(err.getvalue().splitlines()) == 2

    def test_by_doctor(self, task):
        ((well, said),) = looks.paused_processors()

        assert not well
        assert said.startswith("Processor Write has been paused in every queue since ")
        assert said.endswith(", and tasks of it wait: manage.py partisan resume --processor Write")

    def test_by_the_list_of_tasks(self, task, admin_client):
        page = admin_client.get(reverse("admin:partisan_async_task_changelist")).text

        assert "Paused</span>" in page
        assert "s ago" in page

    def test_by_the_dashboard_which_pauses_and_resumes_it(self, admin_client):
        task = Write().delay()
        page = reverse("admin:partisan_async_dashboard_changelist")

        answer = admin_client.post(page, {"pause_processor": "Write"}, follow=True).text
        assert "Processor Write is paused: what runs goes on" in answer
        assert "Paused processors" in answer
        assert PausedProcessor.objects.get().processor_class == task.processor_class

        answer = admin_client.post(page, {"resume_processor": "Write"}, follow=True).text
        assert "Processor Write is resumed." in answer
        entries = [(e.get_change_message(), e.object_repr) for e in LogEntry.objects.order_by("id")]
        assert entries == [("Pause", "Write"), ("Resume", "Write")]

    def test_by_a_row_of_the_dashboard_that_resumes_it_alone(self, admin_client):
        """Others of the processor may stand for other reasons."""
        page = reverse("admin:partisan_async_dashboard_changelist")
        for queue in (None, "default", "a&b #c"):
            steering.pause(queue, processor="Write")

        shown = admin_client.get(page).text
        buttons = re.findall(r'formaction="([^"]*)" name="resume_processor" value="Write"', shown)
        assert len(buttons) == 3
        left = ["", "a&b #c", "default"]
        for number, action in ((1, "a&b #c"), (0, "")):
            answer = admin_client.post(
                page + html.unescape(buttons[number]), {"resume_processor": "Write"}, follow=True
            )
            left.remove(action)
            assert [each.queue_name for each in overview.pauses() if not each.ending] == left
            where = f" in queue {html.escape(action)}" if action else ""
            assert f"Processor Write{where} is resumed." in answer.text
        assert LogEntry.objects.count() == 2

    def test_who_may_only_look_cannot_pause_it(self, django_user_model):
        user = django_user_model.objects.create_user("look", is_staff=True)
        client = Client()
        client.force_login(user)

        answer = client.post(
            reverse("admin:partisan_async_dashboard_changelist"), {"pause_processor": "Write"}
        )

        assert answer.status_code == 403
        assert not PausedProcessor.objects.exists()

    def test_the_dashboard_offers_it_for_what_fails(self, admin_client):
        from partisan_async.models import Tally

        minute = timezone.now().replace(second=0, microsecond=0)
        Tally.objects.create(minute=minute, queue_name="default", processor_class="Write", failed=3)

        page = admin_client.get(reverse("admin:partisan_async_dashboard_changelist")).text

        assert 'name="pause_processor" value="Write"' in page


@pytest.mark.django_db
class TestCommand:
    def test_several(self):
        said = partisan("pause", "--processor", "Write", "--processor", "Nothing")

        assert said == "Processor Write is paused.\nProcessor Nothing is paused.\n"
        assert partisan("pause", "--processor", "Write") == "Processor Write was already paused.\n"
        assert partisan("resume", "--processor", "Write") == "Processor Write is resumed.\n"
        assert partisan("resume", "--processor", "Write") == "Processor Write was not paused.\n"

    @pytest.mark.parametrize("queue", [["default"], ["--queue-name", "default"]])
    def test_in_one_queue(self, queue):
        assert partisan("pause", "--processor", "Write", *queue) == (
            "Processor Write is paused in queue 'default'.\n"
        )
        assert PausedProcessor.objects.get().queue_name == "default"

    def test_what_is_paused_elsewhere_still_is_said(self):
        steering.pause(processor="Write")
        err = io.StringIO()

        partisan("resume", "--processor", "Write", "--queue-name", "default", err=err)

        assert err.getvalue() == (
            "Processor Write is still paused in every queue:"
            " manage.py partisan resume --processor Write\n"
        )

    @pytest.mark.parametrize(
        "words", [["nosuch"], ["--queue-name", "nosuch"], ["--processor", "Wriet"]]
    )
    @pytest.mark.parametrize("verb", ["pause", "resume"])
    def test_a_name_that_nobody_knows_is_asked_about(self, monkeypatch, words, verb):
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or "n")

        with pytest.raises(CommandError, match="Nothing was done"):
            partisan(verb, *words)

        assert "Nobody knows a " in asked[0]
        right = "similar are 'Write'" if "Wriet" in words else "known are 'default', 'elsewhere'"
        assert right in asked[0]
        assert not PausedQueue.objects.exists()
        assert not PausedProcessor.objects.exists()
        partisan(verb, *words, "--yes")

    def test_the_way_out_can_be_pasted_into_a_shell(self):
        steering.pause("the; rm -rf", processor="Write")

        (pause,) = overview.pauses()
        assert pause.way_out.endswith(" --processor Write --queue-name 'the; rm -rf'")

    def test_nobody_there_to_ask(self, monkeypatch):
        def nobody(_):
            raise EOFError

        monkeypatch.setattr("builtins.input", nobody)

        with pytest.raises(CommandError, match=r"Pass --yes\."):
            partisan("pause", "nosuch")

    def test_queues_several_and_all(self):
        WriteElsewhere().delay()

        assert partisan("pause", "default", "elsewhere").count("is paused") == 2
        assert "'elsewhere' was already paused" in partisan("pause", "--all")
        names = {each.queue_name for each in PausedQueue.objects.all()}
        assert {"default", "elsewhere"} <= names
        partisan("resume", "--all")
        assert not PausedQueue.objects.exists()

    def test_all_that_is_paused_is_resumed_and_said(self):
        """It is the way back to a release that knows of no processor's pause."""
        steering.pause("elsewhere")
        for queue in (None, "default"):
            steering.pause(queue, processor="Write")
        err = io.StringIO()

        said = partisan("resume", "--all", err=err).splitlines()

        assert "Queue 'elsewhere' is resumed." in said
        assert said[-2:] == [
            "Processor Write is resumed.",
            "Processor Write is resumed in queue 'default'.",
        ]
        assert all(each.ending for each in overview.pauses())
        assert not PausedQueue.objects.exists()
        assert err.getvalue() == ""

    def test_to_pause_all_leaves_processors_alone(self):
        steering.pause("default", processor="Write")

        assert "Processor" not in partisan("pause", "--all")
        assert PausedProcessor.objects.count() == 1

    def test_every_pause_that_is_left_is_said(self):
        """Else the tasks of a processor would wait on, in a queue that was just resumed."""
        for queue in ("default", "-else; where"):
            steering.pause(queue)
        steering.pause("default", processor="Write")
        err = io.StringIO()

        partisan("resume", "default", err=err)

        assert err.getvalue().splitlines() == [
            (
                "Queue '-else; where' is still paused: manage.py partisan resume"
                " --queue-name='-else; where'"
            ),
            (
                "Processor Write is still paused in queue 'default':"
                " manage.py partisan resume --processor Write --queue-name default"
            ),
        ]

    def test_all_beside_a_name_is_refused(self):
        with pytest.raises(CommandError, match="--all is all queues"):
            partisan("pause", "--all", "default")
        with pytest.raises(CommandError, match="Say which"):
            partisan("pause")

    @pytest.mark.parametrize("option", ["--queue", "--queue-name", "--queue_name"])
    def test_each_spelling_of_the_queue(self, option):
        Write().delay()
        WriteElsewhere().delay()

        assert partisan("cancel", option, "elsewhere", "--yes") == "cancel: 1 task.\n"

    def test_cancel_all(self):
        Write().delay()
        WriteElsewhere().delay(execute_after=timezone.now() + timedelta(days=1))

        assert partisan("cancel", "--all", "--yes") == "cancel: 2 tasks.\n"
        with pytest.raises(CommandError, match="--all is all of them"):
            partisan("cancel", "--all", "--queue", "default", "--yes")
