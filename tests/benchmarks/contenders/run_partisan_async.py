"""partisan_async under measurement; see ``contender.py``."""

import asyncio
import os
import sys
import time

os.environ["DJANGO_SETTINGS_MODULE"] = "ours_site.settings"


def install():
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def work():
    os.execv(sys.executable, [sys.executable, "-m", "django", "start_partisan", "--async"])


def fill(count):
    from ours_site.partisan_tasks import Noop

    Noop.bulk_delay(Noop(number) for number in range(int(count)))


def fill_naps(count, seconds):
    from ours_site.partisan_tasks import Nap

    Nap.bulk_delay(Nap(float(seconds), number) for number in range(int(count)))


def ping(pauses):
    from ours_site.partisan_tasks import Arrive

    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        Arrive(time.monotonic()).delay()


def enqueue(count):
    from ours_site.partisan_tasks import Noop

    for number in range(int(count)):
        Noop("single", number).delay()


def enqueue_async(count):
    from ours_site.partisan_tasks import Noop

    async def enqueue_all():
        for number in range(int(count)):
            await Noop("async", number).adelay()

    asyncio.run(enqueue_all())


def enqueue_bulk(count):
    from ours_site.partisan_tasks import Noop

    Noop.bulk_delay(Noop("bulk", number) for number in range(int(count)))


def enqueue_orm(count):
    """Insert such rows by the ORM's ``create()``, and wake nobody: the price of Django itself."""
    from django.utils import timezone

    from partisan_async.models import Task

    for number in range(int(count)):
        Task.objects.create(
            queue_name="default",
            processor_class="Noop",
            arguments={"args": ["orm", number], "kwargs": {}},
            priority=10,
            execute_after=timezone.now(),
            digest=os.urandom(32),
        )


def claims(count):
    """Claim ten rows so often, and return the median time; give them back."""
    import statistics
    import uuid
    from datetime import timedelta

    import psycopg

    from partisan_async import store

    me, times = uuid.uuid4(), []
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.prepare_threshold = None
        connection.execute(
            "INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name)"
            " VALUES (%s, 'bench', '{}', 'default')",
            [me],
        )
        for _ in range(int(count)):
            began = time.perf_counter()
            connection.execute(*store.claim(me, "default", 10, timedelta(hours=1))).fetchall()
            times.append(time.perf_counter() - began)
        connection.execute(
            "UPDATE partisan_async_task SET status = 'new', claimed_by = NULL"
            " WHERE claimed_by = %s",
            [me],
        )
    return statistics.median(times)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb != "work":
        import django

        django.setup()
        from django.db import connection

        connection.ensure_connection()
    began = time.perf_counter()
    figure = globals()[verb](*arguments)
    print(time.perf_counter() - began if figure is None else figure)
