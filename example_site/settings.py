"""The settings of a small site: what has to do with background tasks stands first."""

import os
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured

from partisan_async.embedded import django_database

CHECKOUT = Path(__file__).resolve().parents[1]

# Worker processes import the settings too, so no server is started here.
if not os.environ.get("DATABASE_URL"):
    raise ImproperlyConfigured(
        "DATABASE_URL is not set. Set it to a PostgreSQL database, such as"
        " postgresql://user:password@localhost/gallery, or put `python -m partisan_async.embedded`"
        " before the command to run it with a database of its own that is thrown away after."
    )
DATABASES = {"default": django_database(os.environ["DATABASE_URL"])}

PARTISAN_CONFIG = {
    # What is not named here has its default. Four workers, also on two cores: two of them may make
    # larger pictures, see MakeRendition, and thumbnails need not wait for these.
    "default": {"WORKERS_COUNT": 4, "SHUTDOWN_GRACE_SECONDS": 5},
    # What waits for others and computes nothing: one process does much of it at a time.
    "announcements": {"WORKERS_COUNT": 1, "ASYNC_CONCURRENCY": 20},
}

# Django's own tasks, such as those of reusable apps, run by the same supervisors.
TASKS = {"default": {"BACKEND": "partisan_async.tasks_backend.PartisanBackend"}}

INSTALLED_APPS = [
    "partisan_async",
    "example_site.gallery",
    "example_site.notices",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]

# Printed by the worker that "sends" them.
MANAGERS = ["manager@example.org"] if django.VERSION >= (6, 0) else [("", "manager@example.org")]
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

DEBUG = True
SECRET_KEY = "no secret: for the example alone"
ROOT_URLCONF = "example_site.urls"
ASGI_APPLICATION = "example_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
MEDIA_ROOT = Path(os.environ.get("EXAMPLE_MEDIA") or CHECKOUT / "media")
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
