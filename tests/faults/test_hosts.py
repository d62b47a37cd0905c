"""Several hosts, for real: each with a network and a name of its own, and one of them cut off.

A relay cannot show all of it: here the kernel's own timers decide when a connection is over, a
supervisor's connections stand on the server's side while nobody is at their other end, and no
supervisor can prove another's death.
"""

import os
import socket
from contextlib import ExitStack

import psutil
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.hosts import CannotMakeHostsError, LanPostgres, Switch
from tests.faults.partisan_tasks import Deposit, Linger, Nap
from tests.faults.site import SERVER_SETTINGS, Site


@pytest.fixture(scope="module")
def _lan():
    with ExitStack() as stack:
        try:
            switch = stack.enter_context(Switch())
            switch.host()
        except CannotMakeHostsError as error:
            pytest.skip(f"this machine cannot make hosts: {error}")
        server = LanPostgres(switch, settings=SERVER_SETTINGS)
        yield switch, stack.enter_context(Site(server))


@pytest.fixture
def lan(_lan, django_db_blocker):
    """A switch, with an empty site on it."""
    switch, site = _lan
    with django_db_blocker.unblock(), site.in_use():
        try:
            yield switch, site
        finally:
            site.end_supervisors()
            site.empty()


def start(site, switch, host, **settings):
    url = make_conninfo(site.url, host=switch.address)
    return site.start(url=url, launcher=host.launcher, **settings)


def ids(tasks):
    return sorted(task.pk for task in tasks)


class TestHosts:
    def test_each_has_a_name_and_a_network_of_its_own(self, lan):
        """Else the rest would prove nothing: on one host a death is seen at once."""
        switch, site = lan
        hosts = [switch.host(), switch.host()]
        supervisors = [start(site, switch, host, WORKERS_COUNT=1) for host in hosts]

        rows = site.execute(
            "SELECT hostname, host(client_addr) FROM partisan_async_supervisor, pg_stat_activity"
            " WHERE application_name = 'partisan_async default beat'"
        )
        ((listens,),) = site.execute("SHOW listen_addresses")
        ((backend,),) = site.execute("SELECT pg_backend_pid()")

        names = {name for name, _ in rows}
        assert names == {host.name for host in hosts}
        assert {address for _, address in rows} == {host.address for host in hosts}
        assert socket.gethostname() not in names
        assert listens == switch.address
        networks = [os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", backend)]
        networks += [os.readlink(f"/proc/{each.pid}/ns/net") for each in supervisors]
        assert len(set(networks)) == 4
        site.settle_down()

    def test_one_that_is_cut_off_and_let_back_in_loses_nothing(self, lan):
        """The other rescues its tasks, its outcomes are fenced, and it works on."""
        switch, site = lan
        away, here = switch.host(), switch.host()
        cut_off = start(site, switch, away, WORKERS_COUNT=2)
        endless, ended = Linger(600, 5).delay(), Linger(1, 5).delay()
        mine = {task.pk: site.running(task) for task in (endless, ended)}

        away.cut_off()
        heir = start(site, switch, here, WORKERS_COUNT=3)
        with site.load(rate=30) as load:
            cut_off.wait_for("lease lost", seconds=60)
            heir.wait_for("rescued", seconds=60)
            for task in (endless, ended):
                site.wait_until(lambda task=task: site.running(task).claim_seq == 2)
            away.let_in()
            cut_off.wait_for("lease regained", seconds=60)
            cut_off.wait_for("killed: cancelled, or taken over by another", seconds=60)
            cut_off.wait_for(f"fenced {ended.pk} ", seconds=60)
            # It works again, alone.
            heir.stop()
            after = [Nap(0.1).delay(), Deposit().delay()]
            site.wait_until_ended(*after)

        verdict = site.settle_down()

        assert set(verdict.duplicates) == {"rescued"}
        assert verdict.kept_out >= 1
        assert len(load.committed) > 50
        assert not psutil.pid_exists(mine[endless.pk].pid)
        for task in (endless, ended, *after):
            task.refresh_from_db()
        for task in (endless, ended):
            assert (task.status, task.claim_seq, task.tries) == ("finished", 2, 1)
            assert task.worker_ids[0].startswith(f"{here.name}/")
        for task in after:
            assert task.worker_ids[0].startswith(f"{away.name}/")

    def test_one_that_is_back_before_its_lease_has_lapsed_keeps_its_tasks(self, lan):
        """A cable that is plugged into another port costs nobody a second run."""
        switch, site = lan
        away, here = switch.host(), switch.host()
        cut_off = start(site, switch, away, ttl=30, WORKERS_COUNT=2)
        nap = Nap(3).delay()
        site.running(nap)
        start(site, switch, here, ttl=30)
        with site.load(rate=20):
            away.cut_off()
            cut_off.wait_for("beat failed", seconds=60)
            away.let_in()
            site.wait_until_ended(nap, Deposit().delay())

        verdict = site.settle_down()

        assert verdict.duplicates == {}
        assert "lease lost" not in cut_off.output

    def test_one_that_dies_is_rescued_by_the_clock(self, lan):
        """Its process cannot be looked up from another host, whatever its number is there."""
        switch, site = lan
        gone, here = switch.host(), switch.host()
        dead = start(site, switch, gone, ttl=6, WORKERS_COUNT=1)
        task = Linger(600, 1).delay()
        site.running(task)
        heir = start(site, switch, here, ttl=6, WORKERS_COUNT=1)
        ((before,),) = site.execute("SELECT clock_timestamp()")

        dead.kill()
        heir.wait_for(f"rescued 1: {task.pk} ", seconds=60)

        ((waited,),) = site.execute(f"SELECT clock_timestamp() - '{before}'::timestamptz")
        assert waited.total_seconds() > 4
        site.settle_down()
