"""Tasks in the admin: looked at one by one and in a list, and steered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION
from django.db.models import QuerySet, TextField
from django.db.models.expressions import Func
from django.db.models.functions import Cast, Left, Length
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.text import format_lazy
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from partisan_async import steering
from partisan_async.admin import task_list
from partisan_async.admin.question import CONFIRMED, Question, ask
from partisan_async.admin.rows import RowAdmin, may_see_dashboard, told_moment
from partisan_async.admin.sight import HIDDEN, PageWays, may, sees_arguments
from partisan_async.admin.task_list import (
    LISTED,
    TOLD_CHARACTERS,
    WALKED,
    EndedFilter,
    ProcessorFilter,
    QueueFilter,
    StatusFilter,
    TaskList,
    TaskPaginator,
)
from partisan_async.models import Task, readable
from partisan_async.operate import overview, reasons
from partisan_async.templatetags.partisan_async import short, span
from partisan_async.text import moments

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise, StrPromise

SHOWN_CHARACTERS = 20_000
"""So much of a task's arguments and of its result is on its page."""

NAMED = 20
"""So many tasks are named before something is done with them."""

AT_ONCE = 1_000
"""So many tasks are steered by one statement."""


_OTHERS = _(
    "The others had changed in between, another transaction has them locked, or the database"
    " refuses them."
)


@dataclass(frozen=True)
class Steering:
    """Something that can be done with tasks.

    :param key: of ``steering.ACTIONS``.
    :param done: what it says of them afterwards; "number" of it is how many were chosen.
    :param permission: who may do it, as ``has_…_permission`` of the admin.
    :param asks_why: the reason is kept, and who it was.
    """

    key: str
    label: StrPromise
    done: StrPromise
    permission: str
    warning: StrPromise
    dangerous: bool = False
    asks_why: bool = False

    @property
    def name(self) -> str:
        """The name of the admin's action."""
        return self.key.replace("-", "_")

    @property
    def do(self) -> Callable[[Sequence[int]], list[int]]:
        """What does it."""
        return steering.ACTIONS[self.key][0]

    @property
    def statuses(self) -> tuple[str, ...]:
        """What it can be done in."""
        return steering.ACTIONS[self.key][1]


STEERINGS = (
    Steering(
        "retry",
        _("Retry"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks run again.",
            "%(done)s of %(chosen)s tasks run again.",
            "number",
        ),
        "retry",
        _("What ended in error runs again, with all counts at zero; the errors stay to be seen."),
    ),
    Steering(
        "run-now",
        _("Run now"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks run now.",
            "%(done)s of %(chosen)s tasks run now.",
            "number",
        ),
        "retry",
        _("What is scheduled is due at once."),
    ),
    Steering(
        "cancel",
        _("Cancel"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks are cancelled.",
            "%(done)s of %(chosen)s tasks are cancelled.",
            "number",
        ),
        "cancel",
        _(
            "What waits or runs ends in error. What runs is killed with its worker process: what it"
            " has done by then, outside of a transaction, stays done."
        ),
        dangerous=True,
        asks_why=True,
    ),
    Steering(
        "delete",
        _("Delete"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks are deleted.",
            "%(done)s of %(chosen)s tasks are deleted.",
            "number",
        ),
        "forget",
        _("The rows, with arguments, errors and results, are gone for good."),
        dangerous=True,
    ),
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
    search_fields = ("pk",)  # for the search box to be there; ``task_list`` searches
    paginator = TaskPaginator
    actions = [_action(each) for each in STEERINGS]
    fieldsets = (
        (
            _("Row"),
            {
                "fields": (
                    ("queue_name", "priority", "state"),
                    ("told_created_at", "told_execute_after", "told_parked_from"),
                    ("told_started_at", "told_last_attempted_at", "told_finished_at"),
                    ("tries", "postpones"),
                    ("lost", "is_suspect", "unrecognised", "interrupted"),
                    ("claim_seq", "claimed_by", "told_claimed_at"),
                    "workers",
                )
            },
        ),
    )
    readonly_fields = (
        "state", "is_suspect", "workers", "told_created_at", "told_execute_after",
        "told_parked_from", "told_started_at", "told_last_attempted_at", "told_finished_at",
        "told_claimed_at",
    )  # fmt: skip
    told_created_at = told_moment("created_at", _("created at"))
    told_execute_after = told_moment("execute_after", _("execute after"))
    told_parked_from = told_moment("parked_from", _("parked from"))
    told_started_at = told_moment("started_at", _("started at"))
    told_last_attempted_at = told_moment("last_attempted_at", _("last attempted at"))
    told_finished_at = told_moment("finished_at", _("finished at"))
    told_claimed_at = told_moment("claimed_at", _("claimed at"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).filter(self.scope_of(request).condition)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may have tasks run again, or now."""
        return may(request, "retry_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may have tasks cancelled."""
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
        # By nothing besides: no index would help.
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
            return _without_frame(told)
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
        """Return the task, with what is shown of its arguments and its result."""
        if (pk := _key(object_id)) is None:
            return None
        tasks = self.get_queryset(request).defer("arguments", "result", "digest")
        for name in ("arguments", "result") if sees_arguments(request) else ():
            tasks = tasks.annotate(**{f"told_{name}": _pretty(name), f"{name}_size": _size(name)})
        return tasks.filter(pk=pk).first()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        task: Task = context["original"]
        errors = task.errors if isinstance(task.errors, list) else [task.errors]
        alias, sees = self.get_queryset(request).db, sees_arguments(request)
        context |= {
            "title": f"{short(task.processor_class, 80)} #{task.pk}",
            "subtitle": None,
            "why": self._why(request, task),
            "sees_arguments": sees,
            "errors_newest_first": [
                error if sees else _without_text(error)
                for error in (_told(error, alias) for error in errors[::-1])
            ],
            "steerings": self._possible(request, task),
            "shown_characters": SHOWN_CHARACTERS,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def _why(self, request: HttpRequest, task: Task) -> list[str]:
        if task.status == Task.STATUS_FINISHED:
            return []
        may_see = may_see_dashboard(request, self.admin_site)
        return reasons.why(task, PageWays(request, self.scope_of(request), may_see))

    def _possible(self, request: HttpRequest, task: Task) -> list[Steering]:
        names = self.get_actions(request)
        return [each for each in STEERINGS if each.name in names and task.status in each.statuses]

    # Steering

    def steer(self, request: HttpRequest, chosen: QuerySet[Task], what: Steering) -> HttpResponse:
        """Ask whether to do it; or do it, where the answer is there."""
        if CONFIRMED not in request.POST:
            return self._ask(request, chosen, what)
        words = request.POST.get("ids", "").split(",")
        ids = [pk for word in words if (pk := _key(word)) is not None]
        tasks = self.get_queryset(request).only("id", "processor_class", "status").in_bulk(ids)
        # What this user cannot see is none of those that they were asked about.
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
            back = self._url("change", ids[0])
        return HttpResponseRedirect(back)

    def _ask(self, request: HttpRequest, chosen: QuerySet[Task], what: Steering) -> HttpResponse:
        rows = list(chosen.values_list("pk", "processor_class", "status")[:LISTED])
        able = [(pk, name) for pk, name, status in rows if status in what.statuses]
        if not able:
            self.message_user(request, _told_unable(what), messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        sentences: list[StrOrPromise] = [what.warning]
        if others := len(rows) - len(able):
            said = ngettext(
                "%(count)s of those you chose are in another state, and stay as is.",
                "%(count)s of those you chose are in another state, and stay as is.",
                others,
            )
            sentences.append(said % {"count": f"{others:,}"})
        if len(rows) == LISTED:
            said = gettext("No more than %(count)s at once: do it again for the rest.")
            sentences.append(said % {"count": f"{LISTED:,}"})
        from_page = "from_page" in request.POST
        fields = [
            ("action", what.name),
            (ACTION_CHECKBOX_NAME, str(able[0][0])),
            ("ids", ",".join(str(pk) for pk, _ in able)),
            *([("from_page", "1")] if from_page else []),
        ]
        title = ngettext("%(action)s: %(count)s task?", "%(action)s: %(count)s tasks?", len(able))
        question = Question(
            title=title % {"action": what.label, "count": f"{len(able):,}"},
            sentences=sentences,
            things=[f"{pk} {short(name, 80)}" for pk, name in able[:NAMED]],
            more=max(0, len(able) - NAMED),
            fields=fields,
            button=gettext("%(action)s, yes") % {"action": what.label},
            back=self._url("change", able[0][0]) if from_page else request.get_full_path(),
            dangerous=what.dangerous,
            asks_why=what.asks_why,
        )
        return ask(self, request, question)

    def _url(self, view: str, *args: Any) -> str:
        name = f"admin:partisan_async_task_{view}"
        return reverse(name, args=args, current_app=self.admin_site.name)


def _told_unable(what: Steering) -> str:
    labels = dict(Task.STATUS_CHOICES)
    able = gettext(" or ").join(str(labels[status]).lower() for status in what.statuses)
    told = gettext("Nothing was done: %(action)s is for tasks that are %(statuses)s.")
    return told % {"action": str(what.label).lower(), "statuses": able}


def _without_frame(told: str) -> str:
    """Return the beginning of a call's JSON without what is the same for all calls."""
    is_whole = len(told) < TOLD_CHARACTERS
    if told.startswith(_KEYWORDS):
        rest = told.removeprefix(_KEYWORDS)
        return rest.removesuffix("}}") if is_whole else rest
    if is_whole and told.startswith(_POSITIONAL) and told.endswith(_NO_KEYWORDS):
        return told.removeprefix(_POSITIONAL).removesuffix(_NO_KEYWORDS)
    return (told.removesuffix("}") if is_whole else told).removeprefix('{"args": ')


_KEYWORDS = '{"args": [], "kwargs": {'
_POSITIONAL, _NO_KEYWORDS = '{"args": [', '], "kwargs": {}}'


def _told(error: Any, alias: str) -> dict[str, Any]:
    if not isinstance(error, dict):
        return {"message": readable.text(error)}
    told = {
        key: each if isinstance(each, str) else readable.text(each) for key, each in error.items()
    }
    with suppress(TypeError, ValueError, KeyError, OverflowError):
        return told | {"at": moments.read(error["at"], alias)}
    return told


def _key(word: str) -> int | None:
    """Return the number of a task that an address or a form names."""
    if not re.fullmatch(r"-?[0-9]{1,19}", word):
        return None
    return int(word) if readable.is_key(int(word)) else None


def _without_text(error: dict[str, Any]) -> dict[str, Any]:
    shown = {key: error[key] for key in ("exception_class", "try", "at") if key in error}
    return shown | {"message": HIDDEN}


def _pretty(column: str) -> Left:
    pretty = Func(column, function="jsonb_pretty", output_field=TextField())
    return Left(pretty, SHOWN_CHARACTERS)


def _size(column: str) -> Length:
    return Length(Cast(column, TextField()))
