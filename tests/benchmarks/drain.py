"""Drain: how fast a backlog of jobs that do nothing is worked off, and at what price."""

from __future__ import annotations

from tests.benchmarks import tree
from tests.benchmarks.bench import Bench


def drain(bench: Bench, *, share: float) -> dict[str, float]:
    """Return jobs per second from the first job's first line to the moment when none is left.

    And the CPU that a job costs, in microseconds: of the workers' processes, and of PostgreSQL; and
    its statements, in a pass of their own, since to log them costs more than some of them.

    :param share: of the contender's jobs.
    """
    jobs = max(1, round(bench.contender.jobs * share))
    figures = drain_once(bench, jobs)
    counted = max(1, jobs // 10)
    bench.call("fill", counted)
    bench.log_statements()
    before = bench.statements()
    with bench.workers():
        bench.wait_until_done()
        statements = bench.statements() - before
    return figures | {"statements": statements / counted}


def drain_once(bench: Bench, jobs: int) -> dict[str, float]:
    """Return the same of so many jobs, but for the statements."""
    bench.call("fill", jobs)
    with bench.connect() as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    bench.forget_times()
    with bench.workers() as pids:
        bench.wait_for_times("FIRST_LINES", 1)
        workers, server = tree.cpu_seconds(*pids), bench.server_cpu_seconds()
        end = bench.wait_until_done()
        workers = tree.cpu_seconds(*pids) - workers
        server = bench.server_cpu_seconds() - server
        began = min(bench.times("FIRST_LINES"))
    return {
        "jobs_per_second": jobs / (end - began),
        "worker_microseconds": workers / jobs * 1e6,
        "server_microseconds": server / jobs * 1e6,
    }
