"""django-q2 under measurement; see ``contender.py``."""

import os
import sys
import time

os.environ["DJANGO_SETTINGS_MODULE"] = "q2_site.settings"


def install():
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def work():
    os.execv(sys.executable, [sys.executable, "-m", "django", "qcluster"])


def fill(count):
    from django_q.tasks import async_task

    for number in range(int(count)):
        async_task("q2_site.tasks.noop", number)


enqueue = fill


def ping(pauses):
    from django_q.tasks import async_task

    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        async_task("q2_site.tasks.arrive", time.monotonic())


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
