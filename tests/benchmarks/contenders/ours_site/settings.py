"""A small Django site: contenttypes, auth, the tasks."""

import json
import os

from partisan_async.embedded import django_database

SECRET_KEY = "benchmark"
USE_TZ = True
DATABASES = {"default": django_database(os.environ["DATABASE_URL"]) | {"CONN_MAX_AGE": None}}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "partisan_async",
    "ours_site",
]
PARTISAN_CONFIG = {"default": json.loads(os.environ.get("CONFIGURATION", "{}"))}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)-7s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "partisan_async": {
            "handlers": ["stderr"],
            "level": os.environ.get("LOG_LEVEL", "INFO"),
        }
    },
}
