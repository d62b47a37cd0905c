"""The dashboard: one page that shows the current state, and keeps itself up to date.

The page polls its live part. Under WSGI, a stream would occupy a process for each viewer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, gettext_noop

from partisan_async import registry, steering, store
from partisan_async.admin import limit_page, plot
from partisan_async.admin.rows import RowAdmin, may_see_dashboard
from partisan_async.models import Dashboard, PausedProcessor, PausedQueue
from partisan_async.operate import last_hour, overview
from partisan_async.templatetags.partisan_async import short
from partisan_async.validation import check_queue_name

PUT_DOWN = {"pause": gettext_noop("Pause"), "resume": gettext_noop("Resume")}
"""Entries in the histories of rows."""


@admin.register(Dashboard)
class DashboardAdmin(RowAdmin):
    """Serves the page and its live part in place of a list of rows."""

    def get_urls(self) -> list[URLPattern]:
        name = "partisan_async_dashboard"
        return [
            path("", self.admin_site.admin_view(self.page), name=f"{name}_changelist"),
            path("live/", self.admin_site.admin_view(self.live), name=f"{name}_live"),
            path("limit/", self.admin_site.admin_view(self.limit), name=limit_page.VIEW),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether the user may see tasks and supervisors."""
        return may_see_dashboard(request, self.admin_site)

    def page(self, request: HttpRequest) -> HttpResponse:
        """Show the page, or pause or resume the queue or processor that the form names."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        match request.method:
            case "GET" | "HEAD":
                return self._render(request, "admin/partisan_async/dashboard.html")
            case "POST":
                return self._pause_or_resume(request)
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])

    def live(self, request: HttpRequest) -> HttpResponse:
        """Show the part of the page that changes."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self._render(request, "admin/partisan_async/dashboard_live.html")

    def limit(self, request: HttpRequest) -> HttpResponse:
        """Show a limit with its keys; or set or clear what an operator allows there."""
        return limit_page.answer(self, request)

    def _render(self, request: HttpRequest, template: str) -> HttpResponse:
        request.current_app = self.admin_site.name
        scope = self.scope_of(request)
        hour = last_hour.last_hour(scope.queues, scope.names)
        known = scope.known(each.name for each in hour.processors)
        may_pause = request.user.has_perm("partisan_async.change_task")
        may_drain = request.user.has_perm("partisan_async.change_supervisor")
        queues = scope.of(overview.queues(at_most=overview.COUNTED))
        context = {
            "queues": queues,
            "has_limits": any(each.limited for each in queues),
            "limits": limit_page.limits_of(scope, queues),
            "keys_counted": limit_page.KEYS_COUNTED,
            "counted": overview.COUNTED,
            "pauses": [each for each in overview.pauses() if scope.has_pause(each, known)],
            "supervisors": scope.among(overview.supervisors()),
            "hour": hour,
            "throughput": plot.throughput(hour.minutes),
            "latency": plot.latency(hour.minutes),
            "plot": plot,
            "may_pause": may_pause,
            # A processor's pause holds in every queue, and a supervisor runs every processor of its
            # queue: so only users without that limit may pause or drain.
            "has_every_queue": scope.queues is None,
            "may_pause_processors": may_pause and scope.queues is None,
            "may_drain": may_drain and scope.processors is None,
        }
        if template.endswith("dashboard.html"):
            context |= self.admin_site.each_context(request)
            context |= {"title": gettext("Dashboard"), "opts": self.opts}
        return TemplateResponse(request, template, context)

    def _pause_or_resume(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm("partisan_async.change_task"):
            raise PermissionDenied
        for verb, steer in (("pause", steering.pause), ("resume", steering.resume)):
            name = request.POST.get(verb)
            if name is not None and not check_queue_name(name):
                self._steer_queue(request, name, verb, steer)
            name = request.POST.get(f"{verb}_processor")
            if name is not None and not check_queue_name(name):
                self._steer_processor(request, name, verb, steer)
        url = reverse("admin:partisan_async_dashboard_changelist", current_app=self.admin_site.name)
        return HttpResponseRedirect(url)

    def _steer_queue(
        self, request: HttpRequest, name: str, verb: str, steer: Callable[..., bool]
    ) -> None:
        if not self.scope_of(request).has_all_of_queue(name):
            raise PermissionDenied
        with self.acting(request):
            if steer(name):
                self.put_down(request, [PausedQueue(queue_name=name)], PUT_DOWN[verb])
            self.message_user(request, _told_of_queue(verb, name))

    def _steer_processor(
        self, request: HttpRequest, name: str, verb: str, steer: Callable[..., bool]
    ) -> None:
        if not self.scope_of(request).has_all_of_processor(name):
            raise PermissionDenied
        # The queue is in the address, since a button sends only one value. Empty: only the pause
        # that is for every queue.
        queue = request.GET.get("queue") if verb == "resume" else None
        if queue and check_queue_name(queue):
            return
        with self.acting(request):
            rows = self._pauses_of(name, queue) if verb == "resume" else []
            if steer(queue, processor=name):
                self.put_down(request, rows or self._pauses_of(name, queue), PUT_DOWN[verb])
            self.message_user(request, _told_of_processor(verb, name, queue))

    def _pauses_of(self, name: str, queue: str | None) -> list[PausedProcessor]:
        rows = PausedProcessor.objects.using(store.database())
        of_queue = {} if queue is None else {"queue_name": queue}
        return list(
            rows.filter(
                processor_class__in=registry.discovered_names(name), resumed_at=None, **of_queue
            )
        )


def _told_of_queue(verb: str, name: str) -> str:
    if verb == "pause":
        told = gettext("Queue %(queue)s is paused: what runs goes on, and nothing is started.")
    else:
        told = gettext("Queue %(queue)s is resumed.")
    return told % {"queue": short(name)}


def _told_of_processor(verb: str, name: str, queue: str | None) -> str:
    if verb == "pause":
        told = gettext(
            "Processor %(processor)s is paused: what runs goes on, and nothing is started."
        )
    elif queue:
        told = gettext("Processor %(processor)s in queue %(queue)s is resumed.")
    else:
        told = gettext("Processor %(processor)s is resumed.")
    return told % {"processor": short(name), "queue": short(queue)}
