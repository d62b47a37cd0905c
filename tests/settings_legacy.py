"""A site whose tasks are in PostgreSQL, with an old SQLite beside it and no router."""

import os

from tests.settings import *  # noqa: F403

DATABASES["legacy"] = {  # noqa: F405
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("LEGACY", ":memory:"),
}
