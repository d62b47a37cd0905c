"""Behind a real pgbouncer: the supervisor, its workers, and who enqueues.

What does not prove itself by a poll must not be waited for by one: ``UNHURRIED`` has neither poll
nor beat for longer than a test waits.
"""

import psycopg
import pytest
from django.db import transaction
from django.test.utils import override_settings
from psycopg.conninfo import conninfo_to_dict

from partisan_async.embedded import django_database
from partisan_async.models import Supervisor, Task
from partisan_async.operate.doctor import reach
from tests.faults.partisan_tasks import AsyncNap, Deposit, Nap, Noop, Snooze, Stumble
from tests.faults.pgbouncer import Pgbouncer
from tests.faults.site import UNHURRIED

COMPLAINT = "NOTIFY cannot be relied on"
WOKEN = "is woken by NOTIFY"

WITHOUT_DATABASE = [
    (4, lambda rng: Noop(rng.random())),
    (1, lambda rng: Nap(0.05)),
    (2, lambda rng: AsyncNap(0.1)),
    (1, lambda rng: Stumble(2)),
    (1, lambda rng: Snooze(2, 0.1)),
]


@pytest.fixture
def pgbouncer(site):
    with Pgbouncer(site.url) as pgbouncer:
        yield pgbouncer


def way_around(site):
    """Return what LISTEN_DSN has to say: the server's own host and port, and nothing else."""
    server = conninfo_to_dict(site.url)
    return f"host={server['host']} port={server['port']}"


def last_beats():
    return set(Supervisor.objects.values_list("id", "last_seen_at"))


def assert_nothing_was_prepared(supervisor, pgbouncer):
    assert "prepared statement" not in supervisor.output + pgbouncer.log


class TestTransactionPooling:
    def test_it_is_noticed_and_said_once_and_polling_takes_over(self, site, pgbouncer):
        """Also when the listener has tried again and again; all kinds of tasks run meanwhile."""
        supervisor = site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.2)
        listeners = set()

        def tried_thrice():
            listeners.update(pgbouncer.clients("partisan_async default listen"))
            return len(listeners) >= 3

        with site.load(rate=30):
            site.wait_until(tried_thrice)
        verdict = site.settle_down(pooled=True)

        assert supervisor.output.count(COMPLAINT) == 1
        assert "a probe did not come back, as behind a transaction pooler" in supervisor.output
        assert WOKEN not in supervisor.output
        assert verdict.duplicates == {}
        assert_nothing_was_prepared(supervisor, pgbouncer)

    def test_the_server_connections_hear_of_no_task(self, site, pgbouncer):
        """A LISTEN stays with one; each NOTIFY would be a line in the pooler's log, for an hour."""
        supervisor = site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.2)
        supervisor.wait_for(COMPLAINT)

        channels = pgbouncer.channels()

        assert channels  # the probe's: they are looked for where they would be
        assert all(channel.startswith("partisan_async.probe.") for channel in channels)

    def test_listen_dsn_leads_around_it(self, site, pgbouncer):
        supervisor = site.start(url=pgbouncer.url, LISTEN_DSN=way_around(site), **UNHURRIED)
        supervisor.wait_for(WOKEN)
        before = last_beats()

        for number in range(5):
            site.wait_until_ended(Noop(number).delay())

        assert last_beats() == before
        with site.load(rate=30):
            site.wait_until(lambda: Task.objects.count() > 100)
        site.settle_down(pooled=True)
        assert "woken by NOTIFY" in supervisor.output
        assert COMPLAINT not in supervisor.output
        assert_nothing_was_prepared(supervisor, pgbouncer)

    def test_a_listen_dsn_that_leads_through_it_is_told_of(self, site, pgbouncer):
        dsn = f"host=127.0.0.1 port={pgbouncer.port}"
        supervisor = site.start(LISTEN_DSN=dsn, SLEEP_DELAY_SECONDS=0.2)

        supervisor.wait_for("as if LISTEN_DSN led to another database, or to a transaction pooler")
        Noop().delay()
        site.settle_down()

    def test_who_enqueues_through_it_wakes_a_supervisor_that_does_not(self, site, pgbouncer):
        supervisor = site.start(**UNHURRIED)
        supervisor.wait_for(WOKEN)
        before = last_beats()

        with site.enqueuing_through(pgbouncer.url):
            site.wait_until_ended(Noop("autocommit").delay())
            with transaction.atomic():
                both = [Noop(number).delay() for number in range(2)]
            site.wait_until_ended(*both)

        assert last_beats() == before
        site.settle_down()

    def test_prepare_threshold_is_right_whatever_the_options_say(self, site):
        """They hold for the ORM, also in tasks, as Django has it; and for nothing else."""
        with Pgbouncer(site.url, pool_size=2) as pgbouncer:
            database = django_database(pgbouncer.url)
            database["OPTIONS"]["prepare_threshold"] = 0
            supervisor = site.start(DATABASES={"default": database}, SLEEP_DELAY_SECONDS=0.1)
            with site.load(rate=40, mix=WITHOUT_DATABASE):
                site.wait_until(lambda: Task.objects.count() > 150)
            site.settle_down(pooled=True)

            assert_nothing_was_prepared(supervisor, pgbouncer)

    def test_the_servers_sessions_plan_as_before(self, site):
        """They are others', too: what a session of the supervisor's own is told is not for them."""
        with Pgbouncer(site.url, pool_size=1) as pgbouncer:
            site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.1)
            site.wait_until_ended(Noop().delay())

            with psycopg.connect(pgbouncer.url) as shared:
                told = (
                    "SELECT name FROM pg_settings WHERE source = 'session' AND name ~ 'plan|enable'"
                )
                assert shared.execute(told).fetchall() == []
            site.settle_down(pooled=True)

    def test_two_supervisors_behind_one_share_a_queue(self, site):
        """With fewer server connections than they have themselves; and one is killed at last."""
        with Pgbouncer(site.url, pool_size=2) as pgbouncer:
            pair = [site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.1) for _ in range(2)]
            with site.load(rate=40):
                for supervisor in pair:
                    supervisor.wait_for("claimed ")
                nap = Nap(3).delay(priority=1)
                site.running(nap)
                holder = Task.objects.get(pk=nap.pk).claimed_by
                first = Supervisor.objects.get(pk=holder)
                victim = next(each for each in pair if each.pid == first.process["pid"])
                victim.kill()
                site.wait_until_ended(nap)
            verdict = site.settle_down(pooled=True)

            assert set(verdict.duplicates) == {"rescued"}
            for supervisor in pair:
                assert_nothing_was_prepared(supervisor, pgbouncer)

    def test_its_end_under_load_costs_nobody_a_task(self, site, pgbouncer):
        """Once for a moment, and once for longer than the lease."""
        supervisor = site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.2)
        with site.load(rate=30):
            for words in ("beat failed", "lease lost"):
                site.wait_until_ended(Deposit().delay())
                pgbouncer.kill()
                supervisor.wait_for(words)
                pgbouncer.start()
            site.wait_until_ended(Deposit().delay())
        site.settle_down(pooled=True)

        assert_nothing_was_prepared(supervisor, pgbouncer)

    def test_the_servers_end_behind_it_costs_nobody_a_task(self, site, pgbouncer):
        supervisor = site.start(url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.2)
        with site.load(rate=30):
            for _ in range(2):
                site.wait_until_ended(Deposit().delay())
                site.restart("immediate")
            site.wait_until_ended(Deposit().delay())
        site.settle_down(pooled=True)

        assert_nothing_was_prepared(supervisor, pgbouncer)


def test_session_pooling_is_like_no_pooling(site):
    with Pgbouncer(site.url, pool_mode="session", pool_size=50) as pgbouncer:
        supervisor = site.start(url=pgbouncer.url, **UNHURRIED)
        supervisor.wait_for(WOKEN)
        before = last_beats()

        for number in range(5):
            site.wait_until_ended(Noop(number).delay())

        assert last_beats() == before
        with site.load(rate=30):
            site.wait_until(lambda: Task.objects.count() > 100)
        site.settle_down()
        assert COMPLAINT not in supervisor.output


QUEUES = (
    "queues 'cron', 'default', 'elsewhere', 'errands', 'metronome', 'rings', 'ticks', 'waiting'"
)


class TestDoctor:
    def test_it_sees_a_transaction_pooler_and_the_way_around_it(self, site, pgbouncer):
        with site.enqueuing_through(pgbouncer.url):
            found = list(reach.listen())
            with override_settings(LISTEN_DSN=way_around(site)):
                around = list(reach.listen())

        said = (
            f"By DATABASES a transaction pooler is in the way of NOTIFY, so that {QUEUES} are"
            " polled: set LISTEN_DSN to a way around it, such as 'host=db.internal port=5432'."
        )
        assert found == [(False, said)]
        assert around == [(True, f"{QUEUES} are woken by NOTIFY")]

    def test_a_session_pooler_is_in_nobodys_way(self, site):
        with (
            Pgbouncer(site.url, pool_mode="session") as pgbouncer,
            site.enqueuing_through(pgbouncer.url),
        ):
            found = list(reach.listen())

        assert found == [(True, f"{QUEUES} are woken by NOTIFY, by a pooler")]
