"""The page on which somebody makes a schedule, or changes one that was made at run time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from partisan_async import registry
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.schedule_form import TAKEN, ScheduleForm
from partisan_async.admin.schedule_times import next_times, rule_of
from partisan_async.admin.sight import sees_arguments
from partisan_async.enqueue.corrected import SHAPE
from partisan_async.enqueue.sensitive import hides
from partisan_async.models import Schedule
from partisan_async.naming import name_of
from partisan_async.steering.timetable import Surprise, change_schedule, make_schedule

VIEW = "partisan_async_schedule_edit"


def way_to(model_admin: RowAdmin, row: Schedule) -> str:
    """Return the address of the page on which a schedule is changed."""
    where = model_admin.admin_site.name
    return reverse(f"admin:{VIEW}", args=[quote(row.pk)], current_app=where)


def answer(model_admin: RowAdmin, request: HttpRequest, key: str | None) -> HttpResponse:
    """Show the page, or do what was filled in there.

    :param key: of the schedule that is changed, as addresses have it; ``None``: one is made.
    :raises PermissionDenied: the user may not do it, or not see arguments.
    :raises Http404: there is no such schedule that was made at run time, or they may not see it.
    """
    registry.autodiscover()
    may = (
        model_admin.has_add_permission(request)
        if key is None
        else _may_change(model_admin, request)
    )
    if not may:
        raise PermissionDenied
    return _Answer(model_admin, request, key).response()


def _may_change(model_admin: RowAdmin, request: HttpRequest) -> bool:
    has_view = model_admin.has_view_permission(request)
    return has_view and model_admin.has_steer_permission(request) and sees_arguments(request)


class _Answer:
    """What is answered to one request."""

    def __init__(self, model_admin: RowAdmin, request: HttpRequest, key: str | None) -> None:
        self._admin = model_admin
        self._request = request
        self._row: Schedule | None = None
        if key is not None:
            self._row = model_admin.get_object(request, unquote(key))
            if self._row is None or not self._row.is_made:
                raise Http404(gettext("No schedule of this name was made at run time."))

    def response(self) -> HttpResponse:
        if self._request.method == "POST":
            form = self._form(self._request.POST)
            if form.is_valid() and "preview" not in self._request.POST and self._do(form):
                return HttpResponseRedirect(self._back)
            return self._page(form)
        return self._page(self._form(None))

    def _form(self, data: Any) -> ScheduleForm:
        scope = self._admin.scope_of(self._request)
        names = [
            name_of(each)
            for each in (*registry.processors(), *registry.tasks())
            if scope.has_queue(each.QUEUE_NAME) and scope.has_processor(name_of(each))
        ]
        return ScheduleForm(data, processors=names, row=self._row, initial=self._initial)

    @property
    def _initial(self) -> dict[str, Any]:
        row = self._row
        if row is None:
            return {"time_zone": str(timezone.get_default_timezone())}
        rule = row.rule if isinstance(row.rule, dict) else {}
        flags = {name: rule.get(name) for name in ("catch_up", "skip_while_running")}
        return {
            "cron": rule.get("cron"),
            "time_zone": rule.get("time_zone"),
            "seconds": rule.get("every"),
            "subject": row.subject,
            # With masks in them, the form would write these.
            "arguments": "" if self._hides else row.arguments,
            **flags,
        }

    @property
    def _hides(self) -> bool:
        return self._row is not None and hides(self._row.processor_name)

    def _do(self, form: ScheduleForm) -> bool:
        """Write it; return whether the database took it."""
        with self._admin.acting(self._request) as acting:
            try:
                row = self._written(form)
            except Surprise:  # somebody else was quicker
                gone = gettext("Somebody has deleted it meanwhile; nothing is written.")
                form.add_error(*(("name", TAKEN) if self._row is None else (None, gone)))
                return False
        if acting.refused:
            return False
        self._row = row
        told = gettext("The schedule %(name)s is kept.") % {"name": row.pk}
        self._admin.message_user(self._request, told, messages.SUCCESS)
        return True

    def _written(self, form: ScheduleForm) -> Schedule:
        known, called = form.cleaned_data["known"], form.cleaned_data["called"]
        if self._row is not None:
            row = change_schedule(self._row, called, known)
            self._admin.put_down(self._request, [row], gettext_noop("Change"), CHANGE)
            return row
        processor = form.processor_class(form.cleaned_data)
        row = make_schedule(form.cleaned_data["name"], processor, called, known)
        self._admin.put_down(self._request, [row], gettext_noop("Add"), ADDITION)
        return row

    def _page(self, form: ScheduleForm) -> HttpResponse:
        self._request.current_app = self._admin.admin_site.name
        row = self._row
        title = gettext("Add a schedule")
        if row is not None:
            title = gettext("Change the schedule %(name)s") % {"name": row.pk}
        context = {
            **self._admin.admin_site.each_context(self._request),
            "opts": self._admin.opts,
            "title": title,
            "form": form,
            "row": row,
            "shape": SHAPE,
            "hides": self._hides,
            "times": self._times(form),
            "back": self._back,
            "media": self._admin.media + form.media,
        }
        return TemplateResponse(self._request, "admin/partisan_async/schedule/form.html", context)

    def _times(self, form: ScheduleForm) -> list[str]:
        known = None
        if form.is_bound:
            known = form.cleaned_data.get("known") if hasattr(form, "cleaned_data") else None
        elif self._row is not None:
            known = rule_of(self._row)
        return [] if known is None else next_times(known)

    @cached_property
    def _list(self) -> str:
        name = "admin:partisan_async_schedule_changelist"
        return reverse(name, current_app=self._admin.admin_site.name)

    @property
    def _back(self) -> str:
        if self._row is None:
            return self._list
        name = "admin:partisan_async_schedule_change"
        where = self._admin.admin_site.name
        return reverse(name, args=[quote(self._row.pk)], current_app=where)
