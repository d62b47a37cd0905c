"""A site with a second PostgreSQL, in which its router wants nothing of the package."""

import os

from partisan_async.embedded import django_database
from tests.settings import *  # noqa: F403

DATABASES["elsewhere"] = django_database(os.environ["ELSEWHERE"])  # noqa: F405
DATABASE_ROUTERS = ["tests.settings_elsewhere.Router"]


class Router:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return app_label != "partisan_async" if db == "elsewhere" else None
