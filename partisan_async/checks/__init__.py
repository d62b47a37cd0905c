"""System checks: they find what is wrong with settings and processors before anything runs."""

from partisan_async.checks.configuration import check_django_tasks, check_settings
from partisan_async.checks.database import (
    check_database,
    check_own_database,
    check_pooler,
    check_pools,
)
from partisan_async.checks.limits import check_limits
from partisan_async.checks.processors import check_names, check_processors
from partisan_async.checks.schedules import check_schedules

__all__ = [
    "check_database",
    "check_django_tasks",
    "check_limits",
    "check_names",
    "check_own_database",
    "check_pooler",
    "check_pools",
    "check_processors",
    "check_schedules",
    "check_settings",
]
