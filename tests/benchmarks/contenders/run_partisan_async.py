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
    options = os.environ.get("OPTIONS", "").split()
    command = [sys.executable, "-m", "django", "start_partisan", "--async", *options]
    os.execv(sys.executable, command)


def fill(count):
    from ours_site import partisan_tasks

    job = getattr(partisan_tasks, os.environ.get("JOB", "Noop"))
    job.bulk_delay(job(number) for number in range(int(count)))


def fill_naps(count, seconds):
    from ours_site.partisan_tasks import Nap

    Nap.bulk_delay(Nap(float(seconds), number) for number in range(int(count)))


def ping(pauses):
    from ours_site.partisan_tasks import Arrive

    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        Arrive(time.monotonic()).delay()


def ping_each(queues, seconds):
    """Enqueue a job a second in each of so many queues, evenly spread over the second."""
    from ours_site.partisan_tasks import Arrive

    for number in range(int(queues) * int(seconds)):
        time.sleep(1 / int(queues))
        Arrive(time.monotonic()).delay(queue_name=f"q{number % int(queues)}")


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
    import asyncio
    import statistics

    return statistics.median(asyncio.run(_claim(int(count))))


async def _claim(count):
    import uuid
    from datetime import timedelta

    from partisan_async import store
    from partisan_async.store import Statement
    from partisan_async.supervisor.connection import Connection

    me, times = uuid.uuid4(), []
    connection = Connection("default", "bench", timedelta(minutes=1), prepares=True)
    started = (
        "INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name)"
        " VALUES (%(me)s, 'bench', '{}', 'default')"
    )
    await connection.execute(Statement(started, {"me": me}))
    for _ in range(count):
        began = time.perf_counter()
        await connection.execute(store.claim(me, "default", 10, timedelta(hours=1)))
        times.append(time.perf_counter() - began)
    given_back = (
        "UPDATE partisan_async_task SET status = 'new', claimed_by = NULL WHERE claimed_by = %(me)s"
    )
    await connection.execute(Statement(given_back, {"me": me}))
    await connection.close()
    return times


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
