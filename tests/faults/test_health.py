"""A database that is away: the supervisor waits for it, and nobody must restart it for that."""

import socket
import uuid

import pytest

from tests.faults.partisan_tasks import Deposit, Nap
from tests.test_health import get, port_of


@pytest.fixture
def relay(site):
    relay = site.relay()
    yield relay
    relay.close()


@pytest.fixture
def manager():
    """A socket as systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"partisan-{uuid.uuid4().hex}"
        manager.bind(f"\0{name}")
        manager.settimeout(60)
        yield manager, f"@{name}"


def test_it_stays_alive_and_only_is_not_ready(site, relay, manager, monkeypatch):
    """To restart would end what runs, on all hosts at once, and would not bring it back."""
    hears, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    supervisor = site.start("--health-port", "0", url=site.relayed(relay))
    port = port_of(supervisor)
    nap = Nap(8).delay()
    site.running(nap)
    assert get(port, "/ready") == (200, "ok\n")

    relay.open.clear()
    supervisor.wait_for("lease lost", seconds=60)
    assert get(port, "/ready")[0] == 503
    hears.setblocking(False)
    with pytest.raises(BlockingIOError):
        while hears.recv(4096):
            pass
    hears.settimeout(60)
    # For longer than two leases, after which a heartbeat that is stuck would count as dead.
    for _ in range(5):
        assert hears.recv(4096).startswith(b"WATCHDOG=1\n")
        assert get(port, "/live") == (200, "ok\n")
    shown = get(port, "/metrics")
    assert shown[0] == 200
    assert 'partisan_lease_held{queue="default"} 0.0' in shown[1]
    assert "partisan_queue_tasks" not in shown[1]

    relay.open.set()
    site.wait_until(lambda: get(port, "/ready")[0] == 200)
    site.wait_until_ended(nap, Deposit().delay())
    verdict = site.settle_down()
    assert verdict.duplicates == {}


def test_its_figures_are_those_of_the_ledger(site):
    """With workers killed, errors and postpones among it: each run is counted once."""
    supervisor = site.start("--health-port", "0")
    port = port_of(supervisor)
    with site.load(rate=40) as load:
        site.wait_until(lambda: len(load.committed) > 100)
    site.wait_until_ended()

    status, text = get(port, "/metrics")

    counted = sum(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("partisan_run_seconds_count")
    )
    starts = sum(event.kind == "start" for event in site.events())
    assert status == 200
    assert counted == starts > 0
    site.settle_down()
