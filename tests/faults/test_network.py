"""The network between a supervisor and the server: gone, back, late, and cut again and again."""

import random
import socket
import threading
import time

import psutil
import pytest
from django.db import OperationalError
from psycopg.conninfo import conninfo_to_dict

from partisan_async.models import Task
from tests.faults.partisan_tasks import (
    AsyncNap,
    Deposit,
    Linger,
    Nap,
    Noop,
    Resume,
    TellingBreak,
)
from tests.faults.site import DEADLINE_SECONDS
from tests.relay import Relay, _Link

CLAIM = b"FOR UPDATE SKIP LOCKED)\nUPDATE partisan_async_task t\nSET status = 'in_process'"
SETTLE = b"set_config('lock_timeout'"
PROMOTE = b"promoted AS ("
BEAT = b"WITH beat AS ("
INSERT = b"INSERT INTO partisan_async_task"
WAKE = b"pg_notify(c.channel, 'new')"


@pytest.fixture
def relay(site):
    relay = site.relay()
    yield relay
    relay.close()


class LateRelay(Relay):
    """Holds one statement back until ``late`` is set, whatever becomes of who sent it.

    So does the network: what was sent into a black hole is sent again by the kernel when that is
    over, after ever longer pauses, also when the connection was closed meanwhile.
    """

    def __init__(self, target):
        self.caught, self.late, self.arrived = (threading.Event() for _ in range(3))
        self._wanted = self._asked = None
        super().__init__(target)

    def hold_back(self, matching):
        """Hold back the next statement with these bytes in it."""
        self._wanted = matching

    def _mark(self, link, data):
        super()._mark(link, data)
        if self._wanted and self._wanted in data and not self.caught.is_set():
            self.caught.set()
            self.late.wait()
            self.arrived.set()
        if self._asked and self._asked in data and not self.caught.is_set():
            link.late, link.__class__ = self.late, _LateLink
            self.caught.set()

    def hold_the_answer_back(self, matching):
        """Hold back what comes in answer to the next statement with these bytes in it."""
        self._asked = matching

    def close(self):
        self.late.set()
        super().close()


class _LateLink(_Link):
    """Whether it is doomed cannot be said before ``late``, nor anything be answered."""

    @property
    def doomed(self):
        self.late.wait()
        return False


def wait_until_idle(site):
    """Wait until a supervisor has had nothing to ask about tasks for a moment."""
    quiet = """
    SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '% claim' AND state = 'idle'
        AND state_change < clock_timestamp() - interval '0.5 s'
    """
    site.wait_until(lambda: site.execute(quiet), "the claims' connection is idle")


class TestBlackHole:
    def test_shorter_than_the_lease_it_is_not_even_noticed_by_the_others(self, site, relay):
        """What runs goes on, and is written when the network is back."""
        cut_off = site.start(ttl=20, url=site.relayed(relay))
        site.start(ttl=20)
        with site.load(rate=30):
            nap = Nap(3).delay()
            site.running(nap)
            relay.open.clear()
            cut_off.wait_for("beat failed", seconds=60)
            relay.open.set()
            site.wait_until_ended(nap, Deposit().delay())

        verdict = site.settle_down()

        assert "lease lost" not in cut_off.output
        assert verdict.duplicates == {}

    def test_longer_than_the_lease_another_takes_over_and_its_own_runs_are_killed(
        self, site, relay
    ):
        """Back again, it writes nothing that is not its own any more, and works on."""
        cut_off = site.start(url=site.relayed(relay), WORKERS_COUNT=2)
        endless, ended = Linger(600, 5).delay(), Linger(1, 5).delay()
        mine = {task.pk: site.running(task) for task in (endless, ended)}
        relay.open.clear()
        heir = site.start(WORKERS_COUNT=3)
        with site.load(rate=30):
            heir.wait_for("rescued", seconds=60)
            for task in (endless, ended):
                site.wait_until(lambda task=task: site.running(task).claim_seq == 2)
            relay.open.set()
            cut_off.wait_for("killed: cancelled, or taken over by another", seconds=60)
            cut_off.wait_for(f"fenced {ended.pk} ", seconds=60)
            heir.stop()
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert set(verdict.duplicates) == {"rescued"}
        assert verdict.kept_out >= 1
        assert f": {endless.pk} Linger" in line(
            cut_off, "killed: cancelled, or taken over by another supervisor"
        )
        assert not psutil.pid_exists(mine[endless.pk].pid)
        for task in (endless, ended):
            task.refresh_from_db()
            assert (task.claim_seq, task.tries) == (2, 1)
            assert task.worker_ids != [worker_id(mine[task.pk])]

    def test_alone_on_its_queue_it_finds_its_claims_as_they_were(self, site, relay):
        """Nobody has taken them: what ran meanwhile is written, and runs once."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=3)
        during, beyond = Nap(1).delay(), Nap(9).delay()
        for task in (during, beyond):
            site.running(task)
        with site.load(rate=30):
            relay.open.clear()
            supervisor.wait_for("lease lost", seconds=60)
            relay.open.set()
            supervisor.wait_for("lease regained", seconds=60)
            site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert verdict.duplicates == {}
        for task in (during, beyond):
            task.refresh_from_db()
            assert (task.status, task.claim_seq, task.tries) == ("finished", 1, 1)
        assert "fenced" not in supervisor.output


def line(supervisor, words):
    return next(line for line in supervisor.output.splitlines() if words in line)


def worker_id(event):
    return f"{socket.gethostname()}/{event.pid}"


class TestLate:
    """The kernel sends what was under way when the network is back, though nobody waits for it."""

    @pytest.fixture
    def relay(self, site):
        parameters = conninfo_to_dict(site.url)
        relay = LateRelay((parameters["host"], int(parameters["port"])))
        yield relay
        relay.close()

    def test_a_claim_that_arrives_after_it_was_given_up_keeps_no_task(self, site, relay):
        """The rows it takes are held by a supervisor that lives, and that does not know of them."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=1)
        relay.hold_back(CLAIM)
        first = Noop("first").delay()
        assert relay.caught.wait(DEADLINE_SECONDS)
        supervisor.wait_for("claim failed", seconds=60)
        site.wait_until_ended(first)
        nap = Nap(2).delay()
        site.running(nap)
        waiting = [Noop(number).delay() for number in range(30)]

        relay.late.set()

        site.wait_until_ended(nap, *waiting, seconds=40)
        verdict = site.settle_down()
        assert verdict.duplicates == {}

    def test_a_claim_of_the_dead_takes_nothing(self, site, relay):
        """Its sender has not beaten for longer than the lease: nobody would run what it takes."""
        supervisor = site.start(url=site.relayed(relay))
        relay.hold_back(CLAIM)
        task = Noop().delay()
        assert relay.caught.wait(DEADLINE_SECONDS)
        supervisor.kill()
        lapsed = (
            "SELECT 1 FROM partisan_async_supervisor WHERE last_seen_at < now() - interval '3 s'"
        )
        site.wait_until(lambda: site.execute(lapsed), "its lease has lapsed")

        relay.late.set()
        assert relay.arrived.wait(DEADLINE_SECONDS)
        left = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '% claim'"
        site.wait_until(lambda: not site.execute(left), "its session has ended")

        task.refresh_from_db()
        assert (task.status, task.claim_seq) == ("new", 0)
        site.start()
        verdict = site.settle_down()
        assert verdict.duplicates == {}

    def test_a_wake_that_comes_while_a_claim_is_under_way_is_kept(self, site, relay):
        """It is about a row which that claim has not seen; no beat and no poll comes to help."""
        unhurried = {"beat": 3600, "ttl": 7200, "SLEEP_DELAY_SECONDS": 3600}
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=2, **unhurried)
        supervisor.wait_for("is woken by NOTIFY", seconds=60)
        wait_until_idle(site)
        relay.hold_the_answer_back(CLAIM)
        seen = Noop("seen").delay()
        site.wait_until(lambda: Task.objects.get(pk=seen.pk).status == "in_process")

        unseen = Noop("unseen").delay()
        time.sleep(0.5)  # the wake is on its way; nothing tells from outside that it came
        relay.late.set()

        site.wait_until_ended(seen, unseen, seconds=30)
        site.settle_down()

    def test_a_settle_that_arrives_after_it_was_repeated_changes_nothing(self, site, relay):
        """The row may be another's by then, or this one's again under another claim."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=1)
        relay.hold_back(SETTLE)
        task = Resume(4).delay()
        assert relay.caught.wait(DEADLINE_SECONDS)
        supervisor.wait_for("settle failed", seconds=60)
        site.wait_until(lambda: site.running(task).claim_seq == 2)

        relay.late.set()
        assert relay.arrived.wait(DEADLINE_SECONDS)

        verdict = site.settle_down()
        task.refresh_from_db()
        assert (task.postpones, task.tries, task.claim_seq) == (1, 1, 2)
        assert verdict.duplicates == {}


class TestLostAnswers:
    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            pytest.param(CLAIM, "claim failed", id="claim"),
            pytest.param(PROMOTE, "claim failed", id="promote"),
            pytest.param(SETTLE, "settle failed", id="settle"),
            pytest.param(BEAT, "beat failed", id="beat"),
        ],
    )
    def test_to_a_statement_no_task_is_lost_or_run_twice(self, site, relay, statement, told):
        """It has taken effect, and the connection ends before the supervisor hears of it."""
        supervisor = site.start(url=site.relayed(relay))
        with site.load(rate=50):
            for _ in range(4):
                before = relay.lost_answers
                relay.lose_answers(1, matching=statement)
                site.wait_until(lambda n=before: relay.lost_answers > n, f"{statement!r} was sent")
                site.wait_until_ended(Deposit().delay())

        verdict = site.settle_down()

        assert told in supervisor.output
        assert verdict.duplicates == {}

    def test_a_claim_whose_answer_was_lost_is_found_by_its_supervisor(self, site, relay):
        """Nobody else would: to all others it lives, and holds the rows."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=1)
        wait_until_idle(site)
        relay.lose_answers(1, matching=CLAIM)

        task = Noop().delay()

        supervisor.wait_for("found 1: ", seconds=60)
        site.settle_down()
        task.refresh_from_db()
        assert (task.status, task.claim_seq) == ("finished", 1)

    def test_an_outcome_that_was_written_is_not_called_fenced(self, site, relay):
        """The repeat finds the row settled, and by whom: nobody has to look into it."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=1)
        relay.lose_answers(1, matching=SETTLE)

        task = Noop().delay()

        site.settle_down()
        task.refresh_from_db()
        assert (task.status, task.claim_seq) == ("finished", 1)
        assert "fenced" not in supervisor.output

    def test_to_the_wake_for_what_tells_of_an_end_delays_it_by_a_beat_at_most(self, site, relay):
        """Its row is there with the end itself; the supervisors of its queue look by themselves."""
        supervisor = site.start(url=site.relayed(relay), WORKERS_COUNT=1)
        relay.lose_answers(1, matching=WAKE)

        task = TellingBreak().delay()

        supervisor.wait_for("the NOTIFY about 1 task(s) of an ON_ERROR failed: ", seconds=60)
        site.settle_down()
        (report,) = Task.objects.filter(processor_class="Report")
        assert (report.args, report.status) == ([task.pk], "finished")

    def test_who_enqueues_is_told_of_an_error_and_the_task_runs_once(self, site, relay):
        """The row was committed: the caller cannot know, and no call is lost without an error."""
        site.start()
        with site.enqueuing_through(site.relayed(relay)):
            Noop("connects").delay()
            relay.lose_answers(1, matching=INSERT)
            with pytest.raises(OperationalError):
                Noop("unknown").delay()

        site.settle_down()

        assert [task.args for task in Task.objects.order_by("id")] == [["connects"], ["unknown"]]
        assert len(site.events()) == 4


class TestCuts:
    def test_again_and_again_they_cost_nobody_a_task(self, site, relay):
        """Every few hundred milliseconds all connections of two supervisors and their workers."""
        for _ in range(2):
            site.start(ttl=30, url=site.relayed(relay))
        rng = random.Random(7)
        with site.load(rate=50) as load:
            for _ in range(25):
                relay.cut()
                time.sleep(rng.uniform(0.1, 0.5))
            site.wait_until_ended(Deposit().delay(), AsyncNap(0.1).delay())

        verdict = site.settle_down()

        assert len(load.committed) > 100
        assert verdict.duplicates == {}
