"""Schedules in the admin: when each ticks next, and actions to switch it on, off, or run once.

Those that were made at run time are made, changed and deleted here, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import get_language, gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from partisan_async import registry, steering, store
from partisan_async.admin import history, schedule_page
from partisan_async.admin.question import CONFIRMED, Question, ask
from partisan_async.admin.rows import RowAdmin, told_moment
from partisan_async.admin.schedule_times import next_times, rule_of
from partisan_async.admin.sight import sees_arguments, told_subject
from partisan_async.enqueue.scheduled import schedules_of
from partisan_async.enqueue.sensitive import masked
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Schedule
from partisan_async.models.schedule import MADE
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.steering import audit
from partisan_async.steering.timetable import delete_schedules, run_once
from partisan_async.templatetags.partisan_async import short


@admin.register(Schedule)
class ScheduleAdmin(RowAdmin):
    list_display = (
        "name", "queue_name", "when", "told_next_tick", "told_last_success", "enabled",
        "can_tick",
    )  # fmt: skip
    told_next_tick = told_moment("next_tick", _("next tick"))
    told_last_tick = told_moment("last_tick", _("last tick"))
    told_last_success = told_moment("last_success", _("last success"))
    fields = (
        "processor_class", "told_processor", "queue_name", "schedule", "enabled", "told_next_tick",
        "told_last_tick", "told_last_success", "whose", "set_by",
    )  # fmt: skip
    readonly_fields = (
        "told_processor", "told_next_tick", "told_last_tick", "told_last_success", "whose",
    )  # fmt: skip
    list_filter = ("enabled", "queue_name")
    search_fields = ("processor_class", "processor")
    ordering = ("processor_class",)
    actions = ("switch_on", "switch_off", "run_once", "delete_made")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.edit)
        return [
            path("<path:object_id>/edit/", view, name=schedule_page.VIEW),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        registry.autodiscover()  # a web process may not have done so yet
        scope = self.scope_of(request)
        rows = super().get_queryset(request).filter(scope.of_queues)
        if scope.names is None:
            return rows
        names = list(scope.names)
        of_key = Q(processor__isnull=True, processor_class__in=names)
        return rows.filter(of_key | Q(processor__in=names))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may make schedules: they write its arguments."""
        return admin.ModelAdmin.has_add_permission(self, request) and sees_arguments(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form for a schedule; or make the one that is there."""
        return schedule_page.answer(self, request, None)

    def edit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form with a schedule that was made at run time; or change it."""
        return schedule_page.answer(self, request, object_id)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: Schedule = context["original"]
        known, sees = _known(row), sees_arguments(request)
        may_change = row.is_made and sees and self.has_steer_permission(request)
        arguments = masked(row.processor_name, _indented(row.arguments or ""), indent=2)
        row.told_subject = told_subject(request, row.subject)  # type: ignore[attr-defined]
        context |= {
            "times": [] if known is None else next_times(known, row.next_tick),
            "told_arguments": sees and row.is_made and arguments,
            "way_to_change": may_change and schedule_page.way_to(self, row),
            "may_delete": row.is_made and self.has_forget_permission(request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("name"), ordering="processor_class")
    def name(self, row: Schedule) -> str:
        if row.is_made:
            return f"{short(row.pk, 80)} ({short(row.processor_name, 80)})"
        return short(row.pk, 160)

    @admin.display(description=_("processor"))
    def told_processor(self, row: Schedule) -> str:
        return short(row.processor_name, 80)

    @admin.display(description=_("subject"))
    def whose(self, row: Schedule) -> str:
        return row.told_subject  # type: ignore[attr-defined, no-any-return]

    @admin.display(description=_("schedule"), ordering="schedule")
    def when(self, row: Schedule) -> str:
        known = _known(row)
        # The words for a cron expression exist only in English.
        has_words = isinstance(known, Every) or (get_language() or "en").startswith("en")
        if known is not None and has_words:
            return known.words
        return row.schedule  # as a supervisor with other code wrote it

    @admin.display(boolean=True, description=_("can tick here"))
    def can_tick(self, row: Schedule) -> bool:
        return _can_tick(row)

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
            if _can_tick(row):
                self._run_once(request, row)
                continue
            wrong = gettext("%(processor)s has no schedule in the code; nothing was enqueued.")
            if row.is_made:
                wrong = gettext(
                    "%(processor)s cannot tick here: this code lacks its processor, or cannot read"
                    " when it ticks; nothing was enqueued."
                )
            self.message_user(request, wrong % {"processor": row.pk}, messages.WARNING)

    @admin.action(description=_("Delete …"), permissions=["forget"])
    def delete_made(self, request: HttpRequest, rows: QuerySet[Schedule]) -> HttpResponse:
        """Ask whether to delete schedules; or delete them, where the answer is there."""
        name = "admin:partisan_async_schedule_changelist"
        where = reverse(name, current_app=self.admin_site.name)
        made = list(rows.filter(MADE))
        if not made:
            told = gettext("Nothing was done: what is in the code is deleted there.")
            self.message_user(request, told, messages.WARNING)
            return HttpResponseRedirect(where)
        if CONFIRMED in request.POST:
            self._delete(request, made)
            return HttpResponseRedirect(where)
        title = ngettext("Delete %(count)s schedule?", "Delete %(count)s schedules?", len(made))
        question = Question(
            title=title % {"count": len(made)},
            sentences=[_("They tick no more. The tasks that they have enqueued stay.")],
            things=[f"{short(each.pk, 80)} {short(each.schedule, 80)}" for each in made],
            button=gettext("Delete, yes"),
            back=where,
            fields=[
                ("action", "delete_made"),
                *((ACTION_CHECKBOX_NAME, each.pk) for each in made),
            ],
            dangerous=True,
        )
        return ask(self, request, question)

    def _delete(self, request: HttpRequest, made: Sequence[Schedule]) -> None:
        with self.acting(request):
            deleted = delete_schedules([each.pk for each in made])
            gone = [each for each in made if each.pk in deleted]
            self.put_down(request, gone, gettext_noop("Delete"), DELETION)
            names = ", ".join(deleted) or gettext("nothing")
            self.message_user(request, gettext("Deleted: %(names)s.") % {"names": names})

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

    def _run_once(self, request: HttpRequest, row: Schedule) -> None:
        with self.acting(request):
            try:
                with transaction.atomic(using=store.database()):
                    task = run_once(row)
            except (TypeError, ValueError) as error:
                # It may quote the arguments.
                told = str(error) if sees_arguments(request) else gettext("The call is refused.")
                self.message_user(request, told, messages.WARNING)
                return
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


def _processor(row: Schedule) -> type[BaseTaskProcessor] | None:
    """Return the processor of a row; ``None``: this code has no such processor, or does not have
    the schedule, and it was not made at run time."""
    try:
        processor: type[BaseTaskProcessor] = registry.get(row.processor_name)
    except ProcessorClassNotFound:
        return None
    if row.is_made:
        return processor
    return processor if row.pk in schedules_of(processor) else None


def _can_tick(row: Schedule) -> bool:
    """Tell whether this code knows what a schedule calls, and when."""
    return _processor(row) is not None and not (row.is_made and _known(row) is None)


def _known(row: Schedule) -> Cron | Every | None:
    """Return when a schedule ticks, if that is known here."""
    known: Cron | Every | None = None
    if row.is_made:
        known = rule_of(row)
    elif processor := _processor(row):
        known = schedules_of(processor)[row.pk]
    return known if str(known) == row.schedule else None


def _indented(arguments: str) -> str:
    """Return the JSON of a call as people read it."""
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
