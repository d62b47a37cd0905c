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


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb not in ("work",):
        import django

        django.setup()
        from django.db import connection

        connection.ensure_connection()
    began = time.perf_counter()
    globals()[verb](*arguments)
    print(time.perf_counter() - began)
