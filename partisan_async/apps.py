"""The Django app: at ``ready()`` it registers the system checks and joins Django's own tasks."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from django.apps import AppConfig
from django.conf import settings
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from partisan_async.registry import Bridge

_API = {"django.tasks", "django_tasks"}


class PartisanAsyncConfig(AppConfig):
    name = "partisan_async"
    label = "partisan_async"
    verbose_name = _("Background tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from partisan_async import checks, registry  # noqa: F401  registers the system checks
        from partisan_async.models import labels

        registry.connect(_django_tasks)
        labels.attach()


def _django_tasks() -> Bridge | None:
    # Where nobody has Django's tasks there are none to be found, and to import the backport takes
    # two megabytes of each process: it loads the admin.
    if cast("Any", settings).is_overridden("TASKS") or not _API.isdisjoint(sys.modules):
        return _bridge()
    return None


@cache
def _bridge() -> Bridge | None:
    try:
        from partisan_async.django_tasks.bridge import BRIDGE
    except ImportError:  # neither Django 6 nor the backport
        return None
    return BRIDGE
