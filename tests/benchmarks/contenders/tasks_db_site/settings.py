"""A small Django site with django-tasks-db."""

from site_settings import *  # noqa: F403

INSTALLED_APPS += ["django_tasks", "django_tasks_db"]  # noqa: F405
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
