"""The filters of the list of tasks: status, end, queue and processor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from partisan_async.models import Task
from partisan_async.operate import last_hour, overview
from partisan_async.settings import configured_queues

SPANS = {
    "5m": (_("Past 5 minutes"), timedelta(minutes=5)),
    "1h": (_("Past hour"), timedelta(hours=1)),
    "1d": (_("Past day"), timedelta(days=1)),
    "7d": (_("Past 7 days"), timedelta(days=7)),
}


class Choice(admin.SimpleListFilter):
    """A filter that only holds the chosen value; ``TaskList`` applies it by the best index."""

    parameter_name: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def has_output(self) -> bool:
        return True  # also if "All" is the only choice

    def _and_chosen(self, values: set[str]) -> list[tuple[str, str]]:
        chosen = {self.value() or ""} - {""}
        return [(value, value[:60]) for value in sorted(values | chosen)]


class StatusFilter(Choice):
    """By status."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Task.STATUS_CHOICES


class EndedFilter(Choice):
    """By the maximum time since the task ended."""

    title = _("when it ended")
    parameter_name = "ended"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(key, title) for key, (title, _) in SPANS.items()]


class QueueFilter(Choice):
    """By queue: the queues that have something to show, and those in the settings."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        scope = model_admin.scope_of(request)
        queues = overview.queues(at_most=overview.COUNTED)
        self.queues = scope.of(queues)
        names = {queue.name for queue in queues} | set(configured_queues())
        return self._and_chosen({name for name in names if scope.has_queue(name)})


class ProcessorFilter(Choice):
    """By processor: those that this process knows, and those that ran lately."""

    title = _("processor")
    parameter_name = "processor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        scope = model_admin.scope_of(request)
        hour = last_hour.last_hour(scope.queues, scope.names)
        return self._and_chosen(scope.known(each.name for each in hour.processors))
