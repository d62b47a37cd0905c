"""What both releases run with."""

import os

from partisan_async.embedded import django_database

DATABASES = {"default": django_database(os.environ["DATABASE_URL"])}
INSTALLED_APPS = ["partisan_async", "tests.releases"]
SECRET_KEY = "not a secret: tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
