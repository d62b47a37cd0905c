"""Supervisors in the admin: whether they are alive, what their workers run, and a way to drain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from partisan_async import steering, store
from partisan_async.admin.question import CONFIRMED, Question, ask
from partisan_async.admin.rows import RowAdmin, may_see_dashboard
from partisan_async.models import Supervisor, readable
from partisan_async.operate import overview
from partisan_async.templatetags.partisan_async import short, span
from partisan_async.text.printable import MARK
from partisan_async.text.sizes import megabytes

NAMED = 5
"""Maximum number of a supervisor's running tasks named in the list."""

BACK = {"dashboard": "dashboard_changelist"}
"""Pages other than the list that a form may ask to return to."""

DRAINED = (
    _("It starts nothing more, and ends when all that it runs has ended."),
    _("A service manager may start another one in its place."),
)


class SupervisorList(ChangeList):
    """The supervisors, each with its state at the moment of the request."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        admin_of = cast("SupervisorAdmin", self.model_admin)
        self.result_list = admin_of.with_states(request, self.result_list)


@admin.register(Supervisor)
class SupervisorAdmin(RowAdmin):
    """Supervisors; there are few."""

    list_display = ("name", "queue_name", "status", "running", "heartbeat", "up")
    ordering = ("queue_name", "started_at")
    actions = ["drain"]
    fields = (
        *("status", "ends", "queue_name", "heartbeat", "up", "memory", "hostname", "process"),
        "id",
    )
    readonly_fields = ("status", "ends", "heartbeat", "up", "memory")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[SupervisorList]:
        return SupervisorList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Supervisor]:
        return super().get_queryset(request).filter(self.scope_of(request).of_queues)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may drain: only if no processor is hidden from them."""
        return super().has_steer_permission(request) and self.scope_of(request).processors is None

    def with_states(self, request: HttpRequest, supervisors: Iterable[Any]) -> list[Any]:
        """Add each supervisor's state; leave out supervisors that have gone since the query."""
        seen = self.scope_of(request).among(overview.supervisors())
        states = {state.id: state for state in seen}
        found = []
        for supervisor in supervisors:
            supervisor.state = states.get(str(supervisor.pk))
            if supervisor.state is not None:
                found.append(supervisor)
        return found

    @admin.display(description=_("supervisor"))
    def name(self, supervisor: Any) -> str:
        return short(supervisor.state.process, 60)

    @admin.display(description=_("status"))
    def status(self, supervisor: Any) -> str:
        return render_to_string(
            "admin/partisan_async/supervisor_status.html", {"supervisor": supervisor.state}
        )

    @admin.display(description=_("about to end"))
    def ends(self, supervisor: Any) -> str:
        return supervisor.state.farewell if supervisor.state.ending else gettext("no")

    @admin.display(description=_("runs"))
    def running(self, supervisor: Any) -> str:
        runs = [run for worker in supervisor.state.workers for run in worker.tasks]
        told = ", ".join(f"{short(run.processor, 40)} #{run.id}" for run in runs[:NAMED])
        more = sum(worker.running for worker in supervisor.state.workers) - len(runs[:NAMED])
        if more <= 0:
            return told
        if not told:
            return f"{more:,}"
        return gettext("%(tasks)s and %(count)s more") % {"tasks": told, "count": f"{more:,}"}

    @admin.display(description=_("last sign of life"))
    def heartbeat(self, supervisor: Any) -> str:
        return gettext("%(time)s ago") % {"time": span(supervisor.state.silent)}

    @admin.display(description=_("up for"))
    def up(self, supervisor: Any) -> str:
        return span(supervisor.state.up)

    @admin.display(description=_("memory"))
    def memory(self, supervisor: Any) -> str:
        state = supervisor.state
        return gettext("host %(own)s, workers %(workers)s") % {
            "own": megabytes(state.memory_bytes),
            "workers": megabytes(state.workers_bytes),
        }

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the supervisor with its state; ``None``: it is gone."""
        found = super().get_object(request, object_id, from_field)
        return next(iter(self.with_states(request, [found] if found else [])), None)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        state = context["original"].state
        context |= {
            "title": short(state.process, 80),
            "subtitle": None,
            "supervisor": state,
            "may_steer": self.has_steer_permission(request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description=_("Drain …"), permissions=["steer"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Supervisor]) -> HttpResponse:
        """Ask whether to drain supervisors; drain them once the user has confirmed."""
        supervisors = list(queryset)
        comes_from = request.POST.get("back", "")
        has_dashboard = may_see_dashboard(request, self.admin_site)
        back = BACK.get(comes_from if has_dashboard else "", "supervisor_changelist")
        where = reverse(f"admin:partisan_async_{back}", current_app=self.admin_site.name)
        if CONFIRMED in request.POST:
            with self.acting(request):
                with transaction.atomic(using=store.database()):
                    asked = [each for each in supervisors if steering.drain(each.pk)]
                self.put_down(request, asked, gettext_noop("Drain"))
                self.message_user(request, _told(len(asked)))
            return HttpResponseRedirect(where)
        names = [_name(each) for each in supervisors]
        question = Question(
            title=_title(names),
            sentences=DRAINED,
            things=[
                gettext("%(supervisor)s, queue %(queue)s")
                % {"supervisor": short(name, 80), "queue": short(each.queue_name, 80)}
                for name, each in zip(names, supervisors, strict=True)
            ],
            button=gettext("Drain, yes"),
            back=where,
            fields=[
                ("action", "drain"),
                ("back", comes_from),
                *((ACTION_CHECKBOX_NAME, str(each.pk)) for each in supervisors),
            ],
        )
        return ask(self, request, question)


def _told(count: int) -> str:
    return ngettext(
        "%(count)s supervisor drained: it ends when all that it runs has ended.",
        "%(count)s supervisors drained: each ends when all that it runs has ended.",
        count,
    ) % {"count": count}


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return gettext("Drain %(supervisor)s?") % {"supervisor": short(names[0], 60)}
    return ngettext("Drain %(count)s supervisor?", "Drain %(count)s supervisors?", len(names)) % {
        "count": len(names)
    }


def _name(supervisor: Supervisor) -> str:
    process = supervisor.process if isinstance(supervisor.process, dict) else {}
    return f"{supervisor.hostname}/{readable.text(process.get('pid', MARK))}"
