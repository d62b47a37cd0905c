"""A project that sets up its sessions by a receiver."""

from django.db.backends.signals import connection_created

from tests.settings import *  # noqa: F403

WORKERS_COUNT = 1


def set_up(connection, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '17s'")


connection_created.connect(set_up)
