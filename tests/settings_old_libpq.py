"""As with a libpq before 17: nothing can be cancelled but by a call that blocks."""

import psycopg

from tests.settings import *  # noqa: F403


def block(connection):
    raise AssertionError("the blocking cancel is never used")


psycopg.capabilities.has_cancel_safe = lambda check=False: False
psycopg.Connection.cancel = psycopg.AsyncConnection.cancel = block
