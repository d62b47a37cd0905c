"""Tasks under limits, with all that befalls supervisors, and without the lock that limits rest on.

The long form is ``nox -s soak -- --limits --supervisors 4 --minutes 30 --seed 1``.
"""

import argparse
import shutil
from contextlib import ExitStack
from unittest import mock

import pytest

from tests.faults.limited import partisan_tasks as tasks
from tests.faults.limited import record
from tests.faults.limited.soak import APPS, LimitedSoak
from tests.faults.limited.verdict import judge_limits
from tests.faults.pgbouncer import Pgbouncer
from tests.faults.schedule import Fault
from tests.faults.site import FaultyPartisan, Site

LEASE = 5.5

SCHEDULE = [
    Fault(3, "kill a supervisor", 1),
    Fault(5, "kill a worker", 2),
    Fault(6, "stop a supervisor and its workers past its lease", 0, LEASE),
    Fault(8, "cut all connections of a supervisor", 2),
    Fault(10, "lose the acknowledgement of a statement", 3),
    Fault(13, "black-hole a supervisor past its lease", 1, LEASE),
    Fault(15, "terminate a backend", 5),
    Fault(20, "have the database's clock jump", 0, LEASE),
    Fault(27, "restart PostgreSQL", 0),
    Fault(32, "have the database's clock jump", 1, LEASE),
    Fault(35, "replace a supervisor in order", 0),
    Fault(37, "lose the acknowledgement of a settle", 2),
]


@pytest.fixture
def site(django_db_blocker):
    """A site of its own: its clock can jump."""
    with django_db_blocker.unblock(), Site() as site, site.in_use():
        yield site


class ShortSoak(LimitedSoak):
    """How long an open key waits depends on how busy the machine is, too."""

    wants_liveness = False


def test_a_mixed_load_under_faults(site):
    given = argparse.Namespace(seed=1, minutes=0.7, supervisors=4, rate=25)
    with ExitStack() as stack:
        soak = ShortSoak(site, given, stack)
        good = soak.run(SCHEDULE)
        folder = soak.keep_evidence()

    assert good, f"{soak.report(good)}\nlogs and stories: {folder}"
    shutil.rmtree(folder)
    assert len(soak.limits.figures.starts) == len(record.declared())


SLOW = """
CREATE FUNCTION faults_slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
CREATE TRIGGER faults_slow BEFORE UPDATE ON partisan_async_task FOR EACH ROW
    WHEN (OLD.status = 'limited' AND NEW.status = 'in_process') EXECUTE FUNCTION faults_slow();
"""
"""Claims under limits take a while after they have counted, so that they meet."""

ROUNDS = 40


def storm(site):
    """Have four supervisors run many short tasks of many keys; return what the rules say of it."""
    tasks.OnPrinter.bulk_delay([tasks.OnPrinter("return", f"{n % 50}", 0.02) for n in range(100)])
    site.wait_until_ended()
    around = record.Circumstances(limits=record.declared())
    return judge_limits(site.history(), around)


def start(site, count=4, **options):
    site.execute(record.TRIGGER)
    site.execute(SLOW)
    for _ in range(count):
        site.start(INSTALLED_APPS=APPS, WORKERS_COUNT=2, **options)


def overruns(verdict):
    rules = [each.rule for each in verdict.violations]
    return rules.count("no more are claimed than may run"), rules.count("no more run than may")


def test_claims_of_eight_supervisors_overrun_nothing(site):
    start(site, 8)

    verdict = storm(site)

    assert verdict.ok, str(verdict)
    site.settle_down()


def test_claims_behind_a_pooler_of_transactions_overrun_nothing(site):
    """Each begins with what it relies on; which session it gets does not matter."""
    with Pgbouncer(site.url, pool_size=12) as pgbouncer:
        start(site, url=pgbouncer.url, SLEEP_DELAY_SECONDS=0.2)
        verdict = storm(site)
        site.settle_down(pooled=True)

    assert verdict.ok, str(verdict)


def test_without_the_lock_the_suite_sees_overruns(site):
    """Else the other tests prove nothing. How soon depends on who meets whom: it goes on until."""
    program = ("-m", "tests.faults.limited.without_lock")
    with mock.patch.object(FaultyPartisan, "program", program):
        start(site)

    for _ in range(ROUNDS):
        claimed, ran = overruns(storm(site))
        if claimed and ran:
            return
    pytest.fail(f"no overrun in {ROUNDS} rounds")
