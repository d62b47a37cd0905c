"""Tasks and supervisors to look at, and not to change: rows are written by the package alone."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from partisan_async.models import Supervisor, Task


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    list_display = (
        "id", "processor_class", "status", "queue_name", "tries", "execute_after", "finished_at",
    )  # fmt: skip
    list_filter = ("status", "queue_name")
    search_fields = ("processor_class",)
    ordering = ("-id",)
    exclude = ("digest",)


@admin.register(Supervisor)
class SupervisorAdmin(ReadOnlyAdmin):
    list_display = ("id", "queue_name", "hostname", "started_at", "last_seen_at")
