"""django-tasks-db under measurement; see ``contender.py``."""

import asyncio
import os
import sys
import time

os.environ["DJANGO_SETTINGS_MODULE"] = "tasks_db_site.settings"


def install():
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def work():
    interval = os.environ.get("INTERVAL", "1")
    command = ["-m", "django", "db_worker", "--no-startup-delay", "--interval", interval]
    os.execv(sys.executable, [sys.executable, *command])


def fill(count):
    from tasks_db_site.tasks import noop

    for number in range(int(count)):
        noop.enqueue(number)


enqueue = fill


def ping(pauses):
    from tasks_db_site.tasks import arrive

    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        arrive.enqueue(time.monotonic())


def enqueue_async(count):
    from tasks_db_site.tasks import noop

    async def enqueue_all():
        for number in range(int(count)):
            await noop.aenqueue(number)

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
