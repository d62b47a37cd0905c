"""Supervisors in the admin: whether they live, what their workers run, and an end in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse

from partisan_async import overview, readable, steering
from partisan_async.admin.question import CONFIRMED, Question, ask
from partisan_async.admin.rows import RowAdmin
from partisan_async.models import Supervisor
from partisan_async.templatetags.partisan_async import short, span

NAMED = 5
"""So many of the tasks that a supervisor runs are named in the list."""

BACK = {"dashboard": "dashboard_changelist"}
"""Where a form may say that it came from, besides the list."""

DRAINED = (
    "It starts nothing more, and ends when all that it runs has ended.",
    "A service manager may start another one in its place.",
)


class SupervisorList(ChangeList):
    """The supervisors, each with its state at the moment of the request."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = _with_states(self.result_list)


@admin.register(Supervisor)
class SupervisorAdmin(RowAdmin):
    """Supervisors; there are few."""

    list_display = ("name", "queue_name", "status", "running", "heartbeat", "up")
    ordering = ("queue_name", "started_at")
    actions = ["drain"]
    fields = ("status", "queue_name", "heartbeat", "up", "hostname", "process", "id")
    readonly_fields = ("status", "heartbeat", "up")

    class Media:
        css = {"all": ["partisan_async/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[SupervisorList]:
        return SupervisorList

    @admin.display(description="supervisor")
    def name(self, supervisor: Any) -> str:
        return short(supervisor.state.process, 60)

    @admin.display(description="status")
    def status(self, supervisor: Any) -> str:
        return render_to_string(
            "admin/partisan_async/supervisor_status.html", {"supervisor": supervisor.state}
        )

    @admin.display(description="runs")
    def running(self, supervisor: Any) -> str:
        runs = [run for worker in supervisor.state.workers for run in worker.tasks]
        told = ", ".join(f"{short(run.processor, 40)} #{run.id}" for run in runs[:NAMED])
        more = sum(worker.running for worker in supervisor.state.workers) - len(runs[:NAMED])
        return f"{told} and {more:,} more" if told and more > 0 else told

    @admin.display(description="last sign of life")
    def heartbeat(self, supervisor: Any) -> str:
        return f"{span(supervisor.state.silent)} ago"

    @admin.display(description="up for")
    def up(self, supervisor: Any) -> str:
        return span(supervisor.state.up)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the supervisor with its state; it may be gone at any time."""
        found = super().get_object(request, object_id, from_field)
        return next(iter(_with_states([found] if found else [])), None)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        state = context["original"].state
        context |= {
            "title": short(state.process, 80),
            "subtitle": None,
            "supervisor": state,
            "may_steer": self.has_steer_permission(request),
            "sees_tasks": request.user.has_perm("partisan_async.view_task"),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Drain …", permissions=["steer"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Supervisor]) -> HttpResponse:
        """Ask whether to drain supervisors; or drain them, where the answer is there."""
        supervisors = list(queryset)
        back = BACK.get(request.POST.get("back", ""), "supervisor_changelist")
        where = reverse(f"admin:partisan_async_{back}", current_app=self.admin_site.name)
        if CONFIRMED in request.POST:
            asked = [each for each in supervisors if steering.drain(each.pk)]
            self.put_down(request, asked, "Drain")
            noun = "1 supervisor" if len(asked) == 1 else f"{len(asked)} supervisors"
            self.message_user(request, f"{noun} drained: it ends when all that it runs has ended.")
            return HttpResponseRedirect(where)
        names = [_name(each) for each in supervisors]
        noun = short(names[0], 60) if len(names) == 1 else f"{len(names)} supervisors"
        question = Question(
            title=f"Drain {noun}?",
            sentences=DRAINED,
            things=[
                f"{short(name, 80)}, queue {short(each.queue_name, 80)}"
                for name, each in zip(names, supervisors, strict=True)
            ],
            button="Drain, yes",
            back=where,
            fields=[
                ("action", "drain"),
                ("back", request.POST.get("back", "")),
                *((ACTION_CHECKBOX_NAME, str(each.pk)) for each in supervisors),
            ],
        )
        return ask(self, request, question)


def _name(supervisor: Supervisor) -> str:
    process = supervisor.process if isinstance(supervisor.process, dict) else {}
    return f"{supervisor.hostname}/{readable.text(process.get('pid', readable.MARK))}"


def _with_states(supervisors: Iterable[Any]) -> list[Any]:
    states = {state.id: state for state in overview.supervisors()}
    found = []
    for supervisor in supervisors:
        supervisor.state = states.get(str(supervisor.pk))
        if supervisor.state is not None:  # else it went away in between
            found.append(supervisor)
    return found
