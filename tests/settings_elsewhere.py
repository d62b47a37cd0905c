"""A site with a second PostgreSQL, in which its router wants nothing of the package."""

import os

from partisan_async.embedded import django_database
from tests.settings import *  # noqa: F403

DATABASES["elsewhere"] = django_database(os.environ["ELSEWHERE"])  # noqa: F405
DATABASE_ROUTERS = ["tests.settings_elsewhere.Router"]


class Router:
    """It goes by the model, as some do, and knows nothing of a migration without one."""

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        model = hints.get("model")
        is_ours = model is not None and model._meta.app_label == "partisan_async"
        return False if db == "elsewhere" and is_ours else None
