"""What the supervisors of the fault tests run with; ``FAULTS_SETTINGS`` is JSON of changes."""

import json
import os

from partisan_async.embedded import django_database

DATABASES = {"default": django_database(os.environ["DATABASE_URL"])}
INSTALLED_APPS = ["partisan_async", "tests.faults"]
SECRET_KEY = "not a secret: tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# So that the dotted names of rows are looked for, too.
TASKS = {"default": {"BACKEND": "partisan_async.tasks_backend.PartisanBackend"}}

globals().update(json.loads(os.environ.get("FAULTS_SETTINGS", "{}")))
