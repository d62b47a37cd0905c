"""Schedules in the admin: when each ticks next, and actions to switch it on, off, or run once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import get_language, gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from partisan_async import registry, schedule, steering, store
from partisan_async.admin import history
from partisan_async.admin.rows import RowAdmin, told_moment
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Schedule
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from partisan_async.steering import audit


@admin.register(Schedule)
class ScheduleAdmin(RowAdmin):
    list_display = (
        "processor_class", "queue_name", "when", "told_next_tick", "told_last_tick", "enabled",
        "in_the_code",
    )  # fmt: skip
    told_next_tick = told_moment("next_tick", _("next tick"))
    told_last_tick = told_moment("last_tick", _("last tick"))
    fields = (
        "processor_class", "queue_name", "schedule", "enabled", "told_next_tick", "told_last_tick",
        "set_by",
    )  # fmt: skip
    readonly_fields = ("told_next_tick", "told_last_tick")
    list_filter = ("enabled", "queue_name")
    search_fields = ("processor_class",)
    ordering = ("processor_class",)
    actions = ("switch_on", "switch_off", "run_once")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        registry.autodiscover()  # a web process may not have done so yet
        return super().get_queryset(request).filter(self.scope_of(request).condition)

    @admin.display(description=_("schedule"), ordering="schedule")
    def when(self, row: Schedule) -> str:
        processor = _scheduled(row)
        if processor is not None and processor.SCHEDULE is not None:
            known = schedule.of(processor.SCHEDULE)
            # The words for a cron expression exist only in English.
            has_words = isinstance(known, Every) or (get_language() or "en").startswith("en")
            if str(known) == row.schedule and has_words:
                return known.words
        return row.schedule  # as a supervisor with other code wrote it

    @admin.display(boolean=True, description=_("in the code"))
    def in_the_code(self, row: Schedule) -> bool:
        return _scheduled(row) is not None

    @admin.action(description=_("Switch on, from now on"), permissions=["steer"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        self._switch(
            request,
            rows,
            steering.switch_on,
            gettext_noop("Switch on"),
            gettext("Switched on: %(names)s."),
        )

    @admin.action(description=_("Switch off"), permissions=["steer"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        self._switch(
            request,
            rows,
            steering.switch_off,
            gettext_noop("Switch off"),
            gettext("Switched off: %(names)s."),
        )

    @admin.action(description=_("Run once now"), permissions=["steer"])
    def run_once(self, request: HttpRequest, rows: QuerySet[Schedule]) -> None:
        for row in rows:
            if processor := _scheduled(row):
                self._run_once(request, row, processor)
            else:
                wrong = gettext("%(processor)s has no schedule in the code; nothing was enqueued.")
                self.message_user(request, wrong % {"processor": row.pk}, messages.WARNING)

    def _switch(
        self,
        request: HttpRequest,
        rows: QuerySet[Schedule],
        switch: Callable[[Sequence[str]], list[str]],
        what: str,
        done: str,
    ) -> None:
        by_name = {row.pk: row for row in rows}
        with self.acting(request):
            switched = switch(list(by_name))
            self.put_down(request, [by_name[name] for name in switched if name in by_name], what)
            names = ", ".join(switched) or gettext("nothing")
            self.message_user(request, done % {"names": names})

    def _run_once(
        self, request: HttpRequest, row: Schedule, processor: type[BaseTaskProcessor]
    ) -> None:
        with self.acting(request):
            with transaction.atomic(using=store.database()):
                task = processor().delay()
            about = {"id": task.pk, "processor": row.pk}
            if task.is_twin:
                if task.status in WAITING:
                    told = gettext("Task %(id)s of %(processor)s waits already.")
                else:
                    told = gettext("Task %(id)s of %(processor)s stands for it: %(status)s.")
                    about["status"] = task.get_status_display()
                self.message_user(request, told % about)
                return
            audit.put_down("run-once", [f"{task.pk} {row.pk}"], task_id=task.pk)
            self.put_down(request, [row], history.ONCE % {"id": task.pk})
            told = gettext("Task %(id)s of %(processor)s is enqueued.")
            self.message_user(request, told % about)


def _scheduled(row: Schedule) -> type[BaseTaskProcessor] | None:
    """Return the processor of a row; ``None``: this code has no such processor or no SCHEDULE."""
    try:
        processor = registry.get(row.processor_class)
    except ProcessorClassNotFound:
        return None
    return processor if processor.SCHEDULE is not None else None
