"""The smallest site the tests need."""

import os

from partisan_async.embedded import django_database

DATABASES = {
    "default": django_database(os.environ["DATABASE_URL"]),
    # The same database by another name, for a router to choose.
    "second": django_database(os.environ["DATABASE_URL"]) | {"TEST": {"MIRROR": "default"}},
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "partisan_async",
    "tests.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
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
ROOT_URLCONF = "tests.testapp.urls"
SECRET_KEY = "not a secret: tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
WORKERS_COUNT = 2
TASKS = {"default": {"BACKEND": "partisan_async.tasks_backend.PartisanBackend"}}
