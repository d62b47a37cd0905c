"""Tasks in the admin: their list, the page of each, and the actions on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.text import format_lazy
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from partisan_async import steering
from partisan_async.admin import other_arguments, task_list
from partisan_async.admin.question import CONFIRMED
from partisan_async.admin.rows import RowAdmin, may_see_dashboard, told_moment
from partisan_async.admin.sight import PageWays, may, sees_arguments, told_key, told_subject
from partisan_async.admin.steerings import STEERINGS, Steering
from partisan_async.admin.task_filters import (
    EndedFilter,
    ProcessorFilter,
    QueueFilter,
    StatusFilter,
)
from partisan_async.admin.task_list import (
    WALKED,
    TaskList,
    TaskPaginator,
)
from partisan_async.admin.task_question import ask_about, task_url
from partisan_async.admin.task_row import lines_of
from partisan_async.admin.task_values import (
    SHOWN_CHARACTERS,
    key,
    pretty,
    size,
    told_error,
    without_frame,
    without_text,
)
from partisan_async.enqueue.sensitive import masked
from partisan_async.models import Task, readable
from partisan_async.operate import overview, reasons
from partisan_async.templatetags.partisan_async import short, span

AT_ONCE = 1_000
"""Maximum number of tasks steered by one statement."""

_OTHERS = _(
    "The others had changed in between, another transaction has them locked, or the database"
    " refuses them."
)


def _action(each: Steering) -> Callable[..., HttpResponse]:
    def act(model_admin: TaskAdmin, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse:
        return model_admin.steer(request, queryset, each)

    act.__name__ = each.name
    decorate = admin.action(
        description=format_lazy("{} …", each.label), permissions=[each.permission]
    )
    return decorate(act)


@admin.register(Task)
class TaskAdmin(RowAdmin):
    """Tasks, fast among millions: see ``task_list``."""

    list_display_links = ("id", "processor")
    list_filter = (StatusFilter, QueueFilter, ProcessorFilter, EndedFilter)
    search_fields = ("pk",)  # only makes Django show the box; ``task_list`` searches
    paginator = TaskPaginator
    actions = [_action(each) for each in STEERINGS]
    readonly_fields = (
        "state", "whose", "told_limit_key", "is_suspect", "workers", "told_created_at",
        "told_execute_after", "told_parked_from", "told_started_at", "told_last_attempted_at",
        "told_finished_at", "told_claimed_at", "told_first_tried_at", "told_stopped_at",
    )  # fmt: skip
    told_created_at = told_moment("created_at", _("created at"))
    told_execute_after = told_moment("execute_after", _("execute after"))
    told_parked_from = told_moment("parked_from", _("parked from"))
    told_started_at = told_moment("started_at", _("started at"))
    told_last_attempted_at = told_moment("last_attempted_at", _("last attempted at"))
    told_finished_at = told_moment("finished_at", _("finished at"))
    told_first_tried_at = told_moment("first_tried_at", _("first tried at"))
    told_stopped_at = told_moment("stopped_at", _("stopped at"))
    told_claimed_at = told_moment("claimed_at", _("claimed at"))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.give_other_arguments)
        return [
            path("<str:object_id>/arguments/", view, name=other_arguments.VIEW),
            *super().get_urls(),
        ]

    def give_other_arguments(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form for a task's other arguments, or retry it with those of the form."""
        return other_arguments.answer(self, request, object_id)

    def get_fieldsets(self, request: HttpRequest, obj: Task | None = None) -> Any:
        return ((_("Row"), {"fields": lines_of(obj)}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).filter(self.scope_of(request).condition)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may retry tasks and run them now."""
        return may(request, "retry_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may cancel tasks."""
        return may(request, "cancel_task")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[TaskList]:
        return TaskList

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        call = ("call",) if sees_arguments(request) else ()
        if request.GET.get("status") == Task.STATUS_ERROR:
            error = "last_error" if call else "error_name"
            return ("id", "processor", "when", error, "queue_name", *call)
        return ("id", "processor", "state", "when", "queue_name", *call)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # Only by the filters: no index would serve other lookups.
        return lookup in {each.parameter_name for each in self.list_filter}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            "counted": overview.COUNTED,
            "walked": WALKED,
            "search_seconds": task_list.SEARCH_SECONDS,
        }
        return super().changelist_view(request, context | (extra_context or {}))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return queryset, False

    # In the list

    @admin.display(description=_("processor"))
    def processor(self, task: Task) -> str:
        return short(task.processor_class, 60)

    @admin.display(description=_("arguments"))
    def call(self, task: Task) -> str:
        told: str | None = task.told_arguments  # type: ignore[attr-defined]
        if told is not None:
            return without_frame(masked(task.processor_class, told))
        size: int = task.arguments_bytes  # type: ignore[attr-defined]
        return ngettext("%(count)s byte", "%(count)s bytes", size) % {"count": f"{size:,}"}

    @admin.display(description=_("status"))
    def state(self, task: Task) -> str:
        return render_to_string("admin/partisan_async/status.html", {"task": task})

    @admin.display(description=_("when"))
    def when(self, task: Task) -> str:
        moment: datetime | str | None = (
            task.finished_at
            or task.claimed_at
            or (task.parked_from if task.is_parked else task.execute_after)
            or task.created_at
        )
        now: datetime = task.now  # type: ignore[attr-defined]
        if not isinstance(moment, datetime):
            return moment or ""
        seconds = (now - moment).total_seconds()
        said = gettext("%(time)s ago") if seconds >= 0 else gettext("in %(time)s")
        return said % {"time": span(abs(seconds))}

    @admin.display(description=_("last error"))
    def last_error(self, task: Task) -> str:
        name = self.error_name(task)
        return short(f"{name}: {task.error_message}", 100) if name else ""  # type: ignore[attr-defined]

    @admin.display(description=_("last error"))
    def error_name(self, task: Task) -> str:
        return (task.error_class or "").rpartition(".")[2]  # type: ignore[attr-defined]

    # On its page

    @admin.display(description=_("subject"))
    def whose(self, task: Task) -> str:
        return task.told_subject  # type: ignore[attr-defined, no-any-return]

    @admin.display(description=_("limit key"))
    def told_limit_key(self, task: Task) -> str:
        return task.told_key  # type: ignore[attr-defined, no-any-return]

    @admin.display(description=_("suspect"))
    def is_suspect(self, task: Task) -> str:
        return gettext("yes") if task.suspect else gettext("no")

    @admin.display(description=_("worker processes"))
    def workers(self, task: Task) -> str:
        ids = task.worker_ids
        return ", ".join(map(readable.text, ids)) if isinstance(ids, list) else readable.text(ids)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Task | None:
        """Return the task, with the beginnings of its arguments and its result."""
        if (pk := key(object_id)) is None:
            return None
        tasks = self.get_queryset(request).defer("arguments", "result", "digest")
        for name in ("arguments", "result") if sees_arguments(request) else ():
            tasks = tasks.annotate(**{f"told_{name}": pretty(name), f"{name}_size": size(name)})
        task: Task | None = tasks.filter(pk=pk).first()
        if (told := getattr(task, "told_arguments", None)) is not None and task is not None:
            shown = masked(task.processor_class, told, indent=4)
            task.told_arguments = shown  # type: ignore[attr-defined]
        return task

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        task: Task = context["original"]
        errors = task.errors if isinstance(task.errors, list) else [task.errors]
        alias, sees = self.get_queryset(request).db, sees_arguments(request)
        task.told_subject = told_subject(request, task.subject)  # type: ignore[attr-defined]
        task.told_key = told_key(request, task.limit_key)  # type: ignore[attr-defined]
        context |= {
            "title": f"{short(task.processor_class, 80)} #{task.pk}",
            "subtitle": None,
            "why": self._why(request, task),
            "sees_arguments": sees,
            "errors_newest_first": [
                error if sees else without_text(error)
                for error in (told_error(error, alias) for error in errors[::-1])
            ],
            "steerings": _possible(self, request, task),
            "other_arguments": other_arguments.way_to(self, request, task),
            "shown_characters": SHOWN_CHARACTERS,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def _why(self, request: HttpRequest, task: Task) -> list[str]:
        if task.status == Task.STATUS_FINISHED:
            return []
        may_see = may_see_dashboard(request, self.admin_site)
        return reasons.why(task, PageWays(request, self.scope_of(request), may_see))

    # Steering

    def steer(self, request: HttpRequest, chosen: QuerySet[Task], what: Steering) -> HttpResponse:
        """Ask the user to confirm; do it once they have."""
        if CONFIRMED not in request.POST:
            return ask_about(self, request, chosen, what)
        words = request.POST.get("ids", "").split(",")
        ids = [pk for word in words if (pk := key(word)) is not None]
        tasks = self.get_queryset(request).only("id", "processor_class", "status").in_bulk(ids)
        # The form could name tasks that the user may not see.
        seen = [pk for pk in ids if pk in tasks]
        do = what.do
        if what.asks_why:
            reason = request.POST.get("reason", "")
            do = partial(steering.cancel, by=request.user.get_username(), reason=reason)
        done: list[int] = []
        with self.acting(request) as acting:
            for start in range(0, len(seen), AT_ONCE):
                done += do(seen[start:][:AT_ONCE])
        flag = DELETION if what.key == "delete" else CHANGE
        self.put_down(request, [tasks[pk] for pk in done], what.label, flag)
        if done or not acting.refused:
            about = {"done": f"{len(done):,}", "chosen": f"{len(ids):,}", "number": len(ids)}
            said = what.done % about
            if len(done) < len(ids) and not acting.refused:
                said = f"{said} {_OTHERS}"
            self.message_user(request, said, messages.SUCCESS if done else messages.WARNING)
        back = request.get_full_path()
        if "from_page" in request.POST and what.key != "delete" and len(ids) == 1:
            back = task_url(self, "change", ids[0])
        return HttpResponseRedirect(back)


def _possible(model_admin: TaskAdmin, request: HttpRequest, task: Task) -> list[Steering]:
    names = model_admin.get_actions(request)
    return [each for each in STEERINGS if each.name in names and task.status in each.statuses]
