"""The statements, on a real server: who may write what, and by which plan."""

import json
import uuid
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from partisan_async import store
from partisan_async.claim import Attempt, Settlement
from partisan_async.models import Supervisor, Task
from partisan_async.policy import (
    MAX_INTERRUPTED,
    Deferred,
    Failed,
    Failure,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from tests.testapp.partisan_tasks import Nothing, Write, WriteElsewhere, WriteFirst, WriteUnique

TTL = timedelta(seconds=30)
BOOM = Failure("builtins.ValueError", "boom", "Traceback …")


def execute(statement):
    with connection.cursor() as cursor:
        cursor.execute(*statement)
        return cursor.fetchall() if cursor.description else []


def beat(me, **changes):
    """Beat once; what comes back, but for the id."""
    process = {"hostname": "h", "process": "{}", "ttl": TTL, "home": None}
    own = {name: changes.pop(name) for name in list(changes) if name not in process}
    said = store.Beat(me, **{"queue_name": "default"} | own)
    rows = execute(store.beat([said], **process | changes))
    return rows[0][:-1]


@pytest.fixture
def me(db):
    me = uuid.uuid4()
    beat(me)
    return me


def claim(me, limit=10, queue_name="default"):
    return store.claims(execute(store.claim(me, queue_name, limit, TTL)))


RAN = Attempt(1.0, "host/1")


def settle(me, claim, decision, attempt=RAN):
    return execute(store.settle(me, [Settlement(claim, decision, attempt)]))


def delete(me, claim, **options):
    return execute(store.delete_finished(me, [Settlement(claim, Finished(), None)], **options))


def die(me):
    Supervisor.objects.filter(pk=me).update(last_seen_at=timezone.now() - timedelta(minutes=5))


class TestClaim:
    def test_it_takes_the_lowest_priority_number_first_then_the_oldest(self, me):
        last, first, second = Write(1).delay(), WriteFirst(2).delay(), WriteFirst(3).delay()

        assert [c.id for c in claim(me)] == [first.pk, second.pk, last.pk]

    def test_it_takes_no_more_than_asked(self, me):
        tasks = [Write(n).delay() for n in range(5)]

        assert [c.id for c in claim(me, 2)] == [tasks[0].pk, tasks[1].pk]
        assert Task.objects.filter(status="in_process", claimed_by=me).count() == 2

    def test_it_leaves_other_queues_and_the_future_alone(self, me):
        Write().delay(execute_after=timezone.now() + timedelta(hours=1))

        assert claim(me) == []
        assert claim(me, queue_name="elsewhere") == []

    def test_each_claim_has_its_own_number(self, me):
        Write().delay()

        (first,) = claim(me)
        settle(me, first, GivenBack(), None)
        (second,) = claim(me)

        assert (first.claim_seq, second.claim_seq) == (1, 2)

    def test_who_has_not_beaten_cannot_claim(self, me):
        """A supervisor that was stopped for longer than its lease must not go on blindly."""
        Write().delay()
        die(me)

        assert claim(me) == []
        beat(me)
        assert len(claim(me)) == 1

    def test_a_stranger_cannot_claim(self, me):
        Write().delay()

        assert claim(uuid.uuid4()) == []

    def test_the_row_says_in_process_if_and_only_if_somebody_holds_it(self, me):
        task = Write().delay()

        for wrong in ({"status": "in_process"}, {"claimed_by": me}):
            with pytest.raises(IntegrityError), transaction.atomic():
                Task.objects.filter(pk=task.pk).update(**wrong)


class TestSettle:
    @pytest.mark.parametrize(
        ("decision", "status", "counts"),
        [
            (Finished(), "finished", {"tries": 1}),
            (Failed(BOOM), "error", {"tries": 1}),
            (Failed(BOOM, lost=True), "error", {"tries": 1, "lost": 1}),
            (Retried(timedelta(seconds=9), BOOM), "scheduled", {"tries": 1}),
            (Retried(timedelta(0), BOOM), "new", {"tries": 1}),
            (Postponed(timedelta(seconds=9)), "scheduled", {"postpones": 1}),
            (Postponed(timedelta(0)), "new", {"postpones": 1}),
            (Suspected(None), "new", {"suspect": True}),
            (Suspected(BOOM), "new", {"suspect": True, "lost": 1}),
            (Deferred(timedelta(seconds=60), BOOM), "scheduled", {"unrecognised": 1}),
            (GivenBack(), "new", {}),
            (Interrupted(timedelta(seconds=8), BOOM), "scheduled", {"interrupted": 1}),
            (Interrupted(timedelta(seconds=60), BOOM, counted=False), "scheduled", {}),
        ],
    )
    def test_each_decision_writes_its_columns(self, me, decision, status, counts):
        Write().delay()
        (claimed,) = claim(me)

        settle(me, claimed, decision)

        task = Task.objects.get()
        assert task.status == status
        assert (task.claimed_by, task.claimed_at) == (None, None)
        none = {"tries": 0, "postpones": 0, "lost": 0, "unrecognised": 0, "suspect": False}
        none |= {"interrupted": 0}
        assert {name: getattr(task, name) for name in none} == none | counts
        assert (task.finished_at is not None) == (status in ("finished", "error"))
        untold = isinstance(decision, Interrupted | Deferred)
        failure = None if untold else getattr(decision, "failure", None)
        assert bool(task.errors) == (failure is not None)
        if status == "scheduled":
            seconds = (task.execute_after - timezone.now()).total_seconds()
            assert decision.pause.total_seconds() - 2 < seconds <= decision.pause.total_seconds()

    def test_counters_survive_a_failure(self, me):
        """The ancestor's fail() erased them."""
        Write().delay()
        for decision in (Retried(timedelta(0), BOOM), Postponed(timedelta(0)), Failed(BOOM)):
            (claimed,) = claim(me)
            settle(me, claimed, decision)

        task = Task.objects.get()
        assert (task.tries, task.postpones) == (2, 1)
        assert [error["try"] for error in task.errors] == [1, 2]

    def test_an_error_tells_what_happened(self, me):
        Write().delay()
        (claimed,) = claim(me)

        settle(me, claimed, Failed(BOOM))

        (error,) = Task.objects.get().errors
        assert error.pop("at")
        assert error == {
            "exception_class": "builtins.ValueError",
            "message": "boom",
            "traceback": "Traceback …",
            "try": 1,
        }

    def test_the_newest_errors_and_workers_are_kept(self, me):
        Write().delay()
        for number in range(13):
            (claimed,) = claim(me)
            failure = Failure("E", str(number))
            settle(me, claimed, Retried(timedelta(0), failure), Attempt(0.0, f"host/{number}"))

        task = Task.objects.get()
        assert [error["message"] for error in task.errors] == [str(n) for n in range(3, 13)]
        assert task.worker_ids == [f"host/{n}" for n in range(3, 13)]

    def test_results_are_kept_to_the_letter(self, me):
        """Whatever an array of PostgreSQL's would read in them."""
        results = [
            "",
            "NULL",
            None,
            "{}",
            'a "b"',
            "\\",
            '\\"',
            ",",
            " \t\n",
            "\u2028",
            "it's",
            [1, None],
        ]
        Nothing.bulk_delay([Nothing(n) for n in range(len(results))])

        for each, result in zip(claim(me, 20), results, strict=True):
            settle(me, each, Finished(json.dumps(result)))

        assert [t.result for t in Task.objects.order_by("pk")] == results

    def test_the_times_of_the_runs(self, me):
        Write().delay()
        (claimed,) = claim(me)
        settle(me, claimed, Postponed(timedelta(0)), Attempt(10.0, "host/1"))
        (claimed,) = claim(me)
        settle(me, claimed, Finished(), (2.0, "host/1"))

        task = Task.objects.get()
        assert 1.9 < (task.finished_at - task.last_attempted_at).total_seconds() < 2.1
        assert task.started_at < task.last_attempted_at - timedelta(seconds=7)

    def test_a_mixed_batch_goes_in_one_statement(self, me, django_assert_num_queries):
        for number in range(3):
            Write(number).delay()
        claims = claim(me)
        decisions = [Finished(), Failed(BOOM), Postponed(timedelta(seconds=5))]
        batch = [
            Settlement(c, d, Attempt(0.1, "w")) for c, d in zip(claims, decisions, strict=True)
        ]

        with django_assert_num_queries(1):
            rows = execute(store.settle(me, batch))

        assert len(rows) == 3
        assert [t.status for t in Task.objects.order_by("id")] == ["finished", "error", "scheduled"]


class TestFence:
    @pytest.fixture
    def zombie(self, me):
        """A claim that somebody else has taken over, and its old holder."""
        Write().delay()
        (old,) = claim(me)
        other = uuid.uuid4()
        beat(other)
        die(me)
        (new,) = store.claims(
            execute(store.rescue(other, "default", 5, TTL, dead=[], by_clock=True))
        )
        beat(me)
        return me, old, other, new

    def test_only_the_last_holder_settles(self, zombie):
        me, old, other, new = zombie

        assert settle(me, old, Failed(BOOM)) == []
        assert Task.objects.get().status == "in_process"
        assert settle(other, new, Finished()) == [(new.id,)]
        assert settle(me, old, Failed(BOOM)) == []
        assert Task.objects.get().status == "finished"

    def test_only_the_last_holder_deletes(self, zombie):
        me, old, other, new = zombie

        assert delete(me, old) == []
        assert delete(other, new) == [(new.id,)]

    def test_an_old_claim_of_my_own_is_fenced_too(self, me):
        """The same supervisor, the same row, one claim later."""
        Write().delay()
        (old,) = claim(me)
        settle(me, old, GivenBack(), None)
        (new,) = claim(me)

        assert settle(me, old, Finished()) == []
        assert settle(me, new, Finished()) == [(new.id,)]

    def test_to_settle_twice_does_nothing_more(self, me):
        """A settle whose answer was lost is sent again."""
        Write().delay()
        (claimed,) = claim(me)

        assert settle(me, claimed, Retried(timedelta(0), BOOM)) == [(claimed.id,)]
        assert settle(me, claimed, Retried(timedelta(0), BOOM)) == []
        assert Task.objects.get().tries == 1


class TestBackToWaiting:
    def test_the_row_keeps_its_uniqueness(self, me):
        task = WriteUnique(1).delay()
        (claimed,) = claim(me)

        settle(me, claimed, Postponed(timedelta(hours=1)))

        assert WriteUnique(1).delay() == task

    def test_where_a_twin_waits_the_digest_is_given_up(self, me):
        task = WriteUnique(1).delay()
        (claimed,) = claim(me)
        twin = WriteUnique(1).delay()
        settlement = Settlement(claimed, Postponed(timedelta(0)), None)

        with pytest.raises(IntegrityError), transaction.atomic():
            execute(store.settle(me, [settlement]))
        execute(store.settle(me, [settlement], gently=True))

        assert {row.pk: row.digest is None for row in Task.objects.all()} == {
            task.pk: True,
            twin.pk: False,
        }


class TestRescue:
    @pytest.fixture
    def orphan(self, me):
        """A row claimed by a supervisor that no longer beats; and a live one."""
        Write().delay()
        (claimed,) = claim(me)
        die(me)
        other = uuid.uuid4()
        beat(other)
        return me, claimed, other

    def rescue(self, me, limit=5, dead=(), by_clock=True):
        return store.claims(
            execute(store.rescue(me, "default", limit, TTL, dead=list(dead), by_clock=by_clock))
        )

    def test_a_silent_ones_task_is_claimed_anew(self, orphan):
        _, old, other = orphan

        (new,) = self.rescue(other)

        assert (new.id, new.claim_seq) == (old.id, old.claim_seq + 1)
        assert Task.objects.get().claimed_by == other
        assert (new.lost, new.suspect) == (0, False)

    def test_a_live_ones_task_is_not(self, orphan):
        me, _, other = orphan
        beat(me)

        assert self.rescue(other) == []

    def test_without_the_clock_only_proven_deaths_count(self, orphan):
        me, _, other = orphan

        assert self.rescue(other, by_clock=False) == []
        assert len(self.rescue(other, by_clock=False, dead=[me])) == 1

    def test_rows_of_a_deleted_supervisor_are_found(self, orphan):
        me, _, other = orphan
        Supervisor.objects.filter(pk=me).delete()

        assert len(self.rescue(other)) == 1

    def test_no_more_than_there_is_room_for(self, me):
        for number in range(4):
            Write(number).delay()
        claim(me)
        other = uuid.uuid4()
        beat(other)

        assert len(self.rescue(other, limit=3, dead=[me])) == 3

    def test_a_starting_supervisor_does_not_reset_what_runs_elsewhere(self, me):
        """The ancestor took over the running rows of every host."""
        Write().delay()
        (claimed,) = claim(me)
        other = uuid.uuid4()
        beat(other)

        assert self.rescue(other) == []
        assert settle(me, claimed, Finished()) == [(claimed.id,)]

    def test_a_row_that_all_its_supervisors_died_of_is_left_alone(self, orphan):
        """Whatever it is that ends them, the next one must not meet it for ever."""
        me, _, other = orphan
        Task.objects.update(interrupted=MAX_INTERRUPTED - 1)

        (last,) = self.rescue(other)
        die(other)
        heir = uuid.uuid4()
        beat(heir)

        assert last.interrupted == MAX_INTERRUPTED
        assert self.rescue(heir) == []
        assert self.rescue(heir, dead=[other], by_clock=False) == []
        assert beat(heir)[2] is False
        execute(store.forget([me, other]))
        assert list(Supervisor.objects.values_list("pk", flat=True)) == [heir]

    def test_giving_back_and_an_outcome_say_nothing_against_a_row(self, orphan):
        """Claims alone prove nothing: what waits in a buffer is claimed and given back each
        second."""
        _, _, other = orphan
        self.rescue(other)
        for _ in range(2 * MAX_INTERRUPTED):
            (claimed,) = store.claims(execute(store.held(other)))
            settle(other, claimed, GivenBack(), None)
            claim(other)
        task = Task.objects.get()
        assert (task.claim_seq, task.interrupted) == (2 + 2 * MAX_INTERRUPTED, 1)

        (claimed,) = store.claims(execute(store.held(other)))
        settle(other, claimed, Retried(timedelta(0), BOOM))

        assert Task.objects.get().interrupted == 0

    def test_supervisors_are_forgotten_when_no_claim_names_them(self, orphan):
        me, _, other = orphan

        execute(store.forget([me]))
        assert Supervisor.objects.filter(pk=me).exists()
        self.rescue(other)
        execute(store.forget([me]))
        assert not Supervisor.objects.filter(pk=me).exists()


class TestClock:
    """The database's clock was a year ahead for a while, and is right again."""

    YEAR = timedelta(days=365)

    def ahead(self, me, **delta):
        seen = timezone.now() + (timedelta(**delta) or self.YEAR)
        Supervisor.objects.filter(pk=me).update(last_seen_at=seen)

    def test_a_sign_of_life_from_far_ahead_is_silence(self, me):
        Write().delay(), WriteElsewhere().delay()
        claim(me)
        self.ahead(me)
        Supervisor.objects.create(
            id=uuid.uuid4(),
            process={},
            queue_name="elsewhere",
            last_seen_at=timezone.now() + self.YEAR,
        )
        other = uuid.uuid4()
        _, _, orphans, others, *_ = beat(other, hostname="far away")

        assert orphans
        assert {row[0]: row[3] for row in json.loads(others)} == {str(me): True}
        assert execute(store.unserved(TTL)) == [("elsewhere",)]
        rescue = store.rescue(other, "default", 5, TTL, dead=[], by_clock=True)
        assert len(execute(rescue)) == 1

    def test_who_gave_it_claims_nothing_until_the_next_beat_which_sets_it_right(self, me):
        Write().delay()
        self.ahead(me)

        assert claim(me) == []
        beat(me)
        assert abs(Supervisor.objects.get().last_seen_at - timezone.now()) < TTL
        assert len(claim(me)) == 1

    def test_a_beat_that_comes_late_takes_the_newest_one_not_back(self, me):
        self.ahead(me, seconds=9)
        before = Supervisor.objects.get().last_seen_at

        beat(me)

        assert Supervisor.objects.get().last_seen_at == before


class TestPromote:
    def test_due_rows_become_ready_and_the_next_time_is_told(self, me):
        now = timezone.now()
        due = Write(1).delay(execute_after=now + timedelta(hours=1))
        Write(2).delay(execute_after=now + timedelta(hours=2))
        Task.objects.filter(pk=due.pk).update(execute_after=now - timedelta(seconds=1))

        ((promoted, seconds, limited),) = execute(store.promote("default"))

        assert (promoted, limited) == (1, [])
        assert 7100 < seconds <= 7200
        assert Task.objects.get(pk=due.pk).status == "new"
        assert execute(store.promote("elsewhere")) == [(0, None, [])]


class TestBeat:
    def test_it_sees_what_a_lost_notification_would_have_told(self, me):
        assert beat(me)[:3] == (False, None, False)
        Write().delay()
        Write().delay(execute_after=timezone.now() + timedelta(seconds=100))

        ready, due_seconds, orphans, *_ = beat(me)

        assert (ready, orphans) == (True, False)
        assert 95 < due_seconds <= 100

    def test_it_sees_what_i_hold_and_do_not_know_of(self, me):
        """A claim that was given up may reach the server late."""
        other = uuid.uuid4()
        beat(other)
        tasks = [Write(number).delay() for number in range(3)]
        claim(other, 1), claim(me, 2)

        assert set(beat(me)[5]) == {task.pk for task in tasks[1:]}
        assert beat(me, known=[tasks[1].pk])[5] == [tasks[2].pk]
        assert beat(me, known=[task.pk for task in tasks])[5] == []

    def test_it_sees_what_was_taken_from_me(self, me):
        """One that does not listen has no other way to learn that a running task was cancelled."""
        tasks = [Write(number).delay() for number in range(3)]
        claim(me, 3)
        execute(store.cancel([tasks[1].pk], BOOM))

        assert beat(me, known=[task.pk for task in tasks])[6] == [tasks[1].pk]
        assert beat(me, known=[tasks[0].pk, tasks[2].pk])[6] == []

    def test_it_sees_neighbours_and_silent_ones(self, me):
        neighbour, silent, far = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        beat(neighbour)
        beat(silent, hostname="far away")
        beat(far, hostname="far away")
        die(silent)

        others = {row[0]: row[3] for row in json.loads(beat(me)[3])}

        assert others == {str(neighbour): False, str(silent): True}

    def test_a_supervisor_whose_row_was_removed_is_there_again(self, me):
        Supervisor.objects.all().delete()

        beat(me)

        assert Supervisor.objects.get().pk == me

    def test_unserved_queues_are_those_with_waiting_rows_and_nobody_alive(self, me):
        """Whoever named the queue: no processor has to."""
        Write().delay()
        WriteElsewhere().delay()
        other = Write().delay()
        Task.objects.filter(pk=other.pk).update(queue_name="another")

        assert execute(store.unserved(TTL)) == [("another",), ("elsewhere",)]

    def test_a_queue_that_only_ticks_come_to_is_unserved_without_a_row(self, me):
        """Nobody is there to enqueue them, so that nothing would ever wait."""
        assert execute(store.unserved(TTL, ["default", "ticks"])) == [("ticks",)]


class TestPlans:
    """A claim that reads more than it takes is slow exactly when the queue is long."""

    @pytest.fixture
    def crowd(self, me):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO partisan_async_task
                    (queue_name, processor_class, arguments, status, priority, execute_after,
                     finished_at)
                SELECT 'default', 'Nothing', '{"args": [], "kwargs": {}}', s.status, 10,
                       now() + s.later, s.ended
                FROM generate_series(1, 100000) n,
                    (VALUES ('new', '0 s'::interval, NULL::timestamptz),
                            ('scheduled', '1 h', NULL), ('finished', '0 s', now()))
                    AS s (status, later, ended)
                """
            )
            cursor.execute("ANALYZE partisan_async_task")
        return me

    def plan(self, statement):
        with connection.cursor() as cursor:
            sql = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}"
            cursor.execute(sql, statement.params)
            (plan,) = cursor.fetchone()
        return json.loads(plan) if isinstance(plan, str) else plan

    def scans(self, statement):
        def walk(node):
            if node.get("Relation Name") == "partisan_async_task" and "Scan" in node["Node Type"]:
                yield node["Node Type"], node.get("Index Name"), node["Actual Rows"]
            for child in node.get("Plans", ()):
                yield from walk(child)

        return list(walk(self.plan(statement)[0]["Plan"]))

    def test_a_claim_reads_the_ready_index_and_no_more_rows_than_it_takes(self, crowd):
        scans = self.scans(store.claim(crowd, "default", 50, TTL))

        kind, index, rows = scans[0]
        assert (kind, index) == ("Index Scan", "partisan_async_ready")
        assert rows <= 50
        assert all("Seq" not in kind for kind, _, _ in scans)

    def test_promoting_reads_the_scheduled_index(self, crowd):
        scans = self.scans(store.promote("default"))

        assert {index for _, index, _ in scans} <= {
            "partisan_async_scheduled",
            "partisan_async_task_pkey",
        }

    def test_a_table_of_20000_rows_is_not_read_to_its_end_for_250_of_them(self, me):
        """It looks cheaper than 250 lookups, and takes three to eight times as long."""
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO partisan_async_task
                    (queue_name, processor_class, arguments, status, priority, execute_after)
                SELECT 'default', 'Nothing', '{"args": [], "kwargs": {}}', 'new', 10, now()
                FROM generate_series(1, 20000)
                """
            )
            cursor.execute("ANALYZE partisan_async_task")
        runs = [Settlement(c, Finished(), Attempt(0.1, "w")) for c in claim(me, 500)]
        others = [Settlement(c, GivenBack(), None) for c in claim(me, 250)]

        for statement in (
            store.claim(me, "default", 250, TTL),
            store.settle(me, runs[:250]),
            store.delete_finished(me, runs[250:]),
            store.settle(me, others),
        ):
            assert "Seq Scan" not in {kind for kind, _, _ in self.scans(statement)}

    def test_a_settle_goes_by_the_primary_key_with_5000_rows_held_and_a_snapshot_open(
        self, transactional_db
    ):
        """Through the index over claimed_by it would read every row I hold, dead ones too."""
        me = uuid.uuid4()
        beat(me)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO partisan_async_task
                    (queue_name, processor_class, arguments, status, priority, execute_after)
                SELECT 'default', 'Nothing', '{"args": [], "kwargs": {}}', 'new', 10, now()
                FROM generate_series(1, 5000)
                """
            )
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM partisan_async_task")
            claims = claim(me, 5000)
            batch = [Settlement(c, Finished(), Attempt(0.1, "w")) for c in claims[:10]]

            finished = [Settlement(c, Finished(), None) for c in claims[10:20]]
            others = [Settlement(c, GivenBack(), None) for c in claims[20:]]
            half = len(others) // 2

            for statement in (
                store.settle(me, batch),
                store.delete_finished(me, finished),
                store.settle(me, others[:half], gently=True),
                store.settle(me, others[half:]),
            ):
                plan = self.plan(statement)
                nodes = json.dumps(plan)
                assert "partisan_async_task_pkey" in nodes
                assert "partisan_async_claimed" not in nodes
                assert "Seq Scan" not in nodes


class TestQueryCounts:
    def test_a_task_that_goes_well_is_touched_by_three_statements(
        self, me, django_assert_num_queries
    ):
        with django_assert_num_queries(1):
            Nothing().delay()
        with django_assert_num_queries(1):
            (claimed,) = claim(me)
        with django_assert_num_queries(1):
            settle(me, claimed, Finished())
