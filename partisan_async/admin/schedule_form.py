"""The page on which somebody makes a schedule, or changes one that was made at run time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from partisan_async import registry, store
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.schedule_times import next_times, rule_of
from partisan_async.admin.sight import sees_arguments
from partisan_async.enqueue.corrected import SHAPE, check_arguments
from partisan_async.enqueue.scheduled import MOST_BYTES, Called, made_key
from partisan_async.enqueue.sensitive import hides
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Schedule
from partisan_async.naming import name_of
from partisan_async.schedule import Cron, Every
from partisan_async.steering.timetable import change_schedule, checked_stored, make_schedule

VIEW = "partisan_async_schedule_edit"

NO_ARGUMENTS = '{"args": [], "kwargs": {}}'


class ScheduleForm(forms.Form):
    """What a schedule calls, and when.

    :param processors: the names of those that may be chosen.
    :param row: the one that is changed; ``None``: one is made.
    """

    name = forms.CharField(
        label=_("Name"), strip=False, max_length=254, widget=forms.TextInput(attrs={"size": 40})
    )
    processor = forms.ChoiceField(label=_("Processor"))
    arguments = forms.CharField(
        label=_("Arguments, as JSON"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "class": "partisan-json", "spellcheck": "false"}),
    )
    subject = forms.CharField(
        label=_("Subject"),
        required=False,
        strip=False,
        max_length=255,
        help_text=_("Whose its tasks are, such as customer:42. Empty: as the processor says."),
        widget=forms.TextInput(attrs={"size": 40}),
    )
    cron = forms.CharField(
        label=_("Cron expression"),
        required=False,
        help_text=_("Minute, hour, day of month, month and day of week, such as 0 7 * * mon-fri."),
        widget=forms.TextInput(attrs={"size": 40, "spellcheck": "false"}),
    )
    time_zone = forms.CharField(
        label=_("Time zone"), required=False, widget=forms.TextInput(attrs={"size": 40})
    )
    seconds = forms.FloatField(
        label=_("Or every so many seconds"),
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    catch_up = forms.BooleanField(
        label=_("Catch up with each tick that was missed"), required=False
    )
    skip_while_running = forms.BooleanField(
        label=_("Enqueue nothing while an identical task runs"), required=False
    )

    def __init__(self, *args: Any, processors: list[str], row: Schedule | None, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.row = row
        if row is not None:
            del self.fields["name"], self.fields["processor"]
        else:
            choices = [("", "---------"), *((name, name) for name in processors)]
            self.fields["processor"].choices = choices  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        """Return the name of one that is not there yet."""
        name = str(self.cleaned_data["name"])
        try:
            key = made_key(name)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if Schedule.objects.using(store.database()).filter(pk=key).exists():
            raise forms.ValidationError(_("There is a schedule of this name already."))
        return name

    def clean(self) -> dict[str, Any]:
        """Check the call as ``delay()`` does, and make the schedule."""
        cleaned = super().clean() or self.cleaned_data
        if "seconds" in cleaned:
            try:
                cleaned["known"] = self._known(cleaned)
            except ValueError as error:
                field = "cron" if cleaned["seconds"] is None else "seconds"
                about = str(error)
                field = "time_zone" if about.startswith("time_zone=") else field
                self.add_error("catch_up" if about.startswith("catch_up=") else field, about)
        processor = self.processor_class(cleaned)
        if processor is not None:
            try:
                encoded = self._encoded(processor, cleaned.get("arguments", ""))
                # Its task_subject(), or UNIQUE, may refuse it.
                cleaned["called"] = self._called(processor, encoded, cleaned.get("subject"))
            except (TypeError, ValueError) as error:
                self.add_error("arguments", str(error))
        return cleaned

    def processor_class(self, cleaned: dict[str, Any]) -> Any:
        """Return whose call it is; ``None``: none was chosen, or this process knows it not."""
        name = cleaned.get("processor") if self.row is None else self.row.processor_name
        try:
            return registry.get(name) if name else None
        except ProcessorClassNotFound:
            told = _("The processor %(name)s is in no code that this site runs.")
            raise forms.ValidationError(told, params={"name": name}) from None

    def _known(self, cleaned: dict[str, Any]) -> Cron | Every:
        flags = {name: cleaned[name] for name in ("catch_up", "skip_while_running")}
        cron, seconds = cleaned.get("cron", ""), cleaned["seconds"]
        if bool(cron) == (seconds is not None):
            raise ValueError(gettext("Write a cron expression, or a number of seconds."))
        if cron:
            return Cron(cron, time_zone=cleaned.get("time_zone") or None, **flags)
        return Every(seconds=seconds, **flags)

    def _called(self, processor: Any, encoded: str, subject: str | None) -> Called:
        before = None if self.row is None else self.row.subject
        if (subject or None) == before:
            # Nobody has said it: with other arguments it may be somebody else's.
            return checked_stored(processor, encoded, kept=before)
        return checked_stored(processor, encoded, subject or None)

    def _encoded(self, processor: Any, text: str) -> str:
        if not text.strip():
            if self.row is not None and self.row.arguments:
                return self.row.arguments
            text = NO_ARGUMENTS
        encoded = check_arguments(processor, text, processor.QUEUE_NAME)
        if len(encoded) > MOST_BYTES:
            told = gettext("They are %(size)s bytes of JSON, and may be %(most)s.")
            raise ValueError(told % {"size": f"{len(encoded):,}", "most": f"{MOST_BYTES:,}"})
        return encoded


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
        known, called = form.cleaned_data["known"], form.cleaned_data["called"]
        with self._admin.acting(self._request) as acting:
            if self._row is None:
                processor = form.processor_class(form.cleaned_data)
                row = make_schedule(form.cleaned_data["name"], processor, called, known)
                self._admin.put_down(self._request, [row], gettext_noop("Add"), ADDITION)
            else:
                row = change_schedule(self._row, called, known)
                self._admin.put_down(self._request, [row], gettext_noop("Change"), CHANGE)
        if acting.refused:
            return False
        self._row = row
        told = gettext("The schedule %(name)s is kept.") % {"name": row.pk}
        self._admin.message_user(self._request, told, messages.SUCCESS)
        return True

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
