"""procrastinate in Django under measurement; see ``contender.py``."""

import asyncio
import os
import sys
import time

os.environ["DJANGO_SETTINGS_MODULE"] = "procrastinate_site.settings"


def install():
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def work():
    concurrency = os.environ.get("CONCURRENCY", "1")
    command = ["-m", "django", "procrastinate", "worker", "--concurrency", concurrency]
    os.execv(sys.executable, [sys.executable, *command])


def fill(count):
    from procrastinate_site.tasks import noop

    for first in range(0, int(count), 1000):
        noop.batch_defer(*({"number": n} for n in range(first, min(first + 1000, int(count)))))


enqueue_bulk = fill


def ping(pauses):
    from procrastinate_site.tasks import arrive

    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        arrive.defer(sent=time.monotonic())


def enqueue(count):
    from procrastinate_site.tasks import noop

    for number in range(int(count)):
        noop.defer(number=number)


def enqueue_async(count):
    from procrastinate_site.tasks import noop

    async def enqueue_all():
        for number in range(int(count)):
            await noop.defer_async(number=number)

    asyncio.run(enqueue_all())


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb != "work":
        import django

        django.setup()
        from django.db import connection

        connection.ensure_connection()
    began = time.perf_counter()
    globals()[verb](*arguments)
    print(time.perf_counter() - began)
