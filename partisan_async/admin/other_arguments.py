"""The page on which users retry a failed task with other arguments."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import TextField
from django.db.models.expressions import Func, Value
from django.db.models.fields.json import KeyTransform
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async import steering
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.sight import may, sees_arguments
from partisan_async.admin.task_question import task_url
from partisan_async.admin.task_values import key, size
from partisan_async.enqueue.corrected import SHAPE
from partisan_async.enqueue.sensitive import hides
from partisan_async.models import Task
from partisan_async.templatetags.partisan_async import short

VIEW = "partisan_async_task_arguments"

MOST_CHARACTERS = 100_000
"""Maximum length of arguments put into the form: more would make browsers slow."""

LABEL = _("Retry with other arguments")


class OtherArguments(forms.Form):
    """The form. An invalid text is shown again as it was typed."""

    text = forms.CharField(
        label=_("Arguments, as JSON"),
        strip=False,
        required=False,
        widget=forms.Textarea(
            attrs={"rows": 16, "class": "partisan-json", "spellcheck": "false", "autofocus": True}
        ),
    )


def way_to(model_admin: RowAdmin, request: HttpRequest, task: Task) -> str:
    """Return the page's address; empty: the user may not, or the task has not failed."""
    if task.status != Task.STATUS_ERROR or not _may(request):
        return ""
    return task_url(model_admin, "arguments", task.pk)


def answer(model_admin: RowAdmin, request: HttpRequest, word: str) -> HttpResponse:
    """Show the page, or retry the task with the arguments from the form.

    :raises PermissionDenied: the user may not give other arguments, or not see the present ones.
    :raises Http404: there is no such task, or the user may not see it.
    """
    if not (model_admin.has_view_permission(request) and _may(request)):
        raise PermissionDenied
    return _Answer(model_admin, request, key(word)).response()


class _Answer:
    """The answer to one request."""

    def __init__(self, model_admin: RowAdmin, request: HttpRequest, pk: int | None) -> None:
        self._admin = model_admin
        self._request = request
        tasks = model_admin.get_queryset(request).defer("arguments", "result", "errors", "digest")
        task = tasks.annotate(told=_told(), size=size("arguments")).filter(pk=pk).first()
        if task is None:
            raise Http404(gettext("There is no such task."))
        self._task: Any = task

    def response(self) -> HttpResponse:
        if self._request.method == "POST":
            form = OtherArguments(self._request.POST)
            if form.is_valid() and self._do(form):
                return HttpResponseRedirect(self._back)
            return self._page(form)
        if self._task.status != Task.STATUS_ERROR:
            told = gettext("Only a task that is in error can be given other arguments.")
            self._admin.message_user(self._request, told, messages.WARNING)
            return HttpResponseRedirect(self._back)
        # If the form showed masked values, the task would be retried with the masks.
        is_shown = self._task.size <= MOST_CHARACTERS and not self._hides
        told = self._task.told if is_shown else ""
        return self._page(OtherArguments(initial={"text": told}))

    def _do(self, form: OtherArguments) -> bool:
        """Retry the task and return True; or return False, with the reason on the page."""
        try:
            with self._admin.acting(self._request) as acting:
                steering.retry([self._task.pk], arguments=form.cleaned_data["text"])
                self._admin.put_down(self._request, [self._task], LABEL)
        except (TypeError, ValueError) as error:
            form.add_error("text", str(error))
            return False
        if acting.refused:
            return False
        told = gettext("Task %(id)s runs again, with other arguments.") % {"id": self._task.pk}
        self._admin.message_user(self._request, told, messages.SUCCESS)
        return True

    def _page(self, form: OtherArguments) -> HttpResponse:
        self._request.current_app = self._admin.admin_site.name
        name = short(self._task.processor_class, 80)
        context = {
            **self._admin.admin_site.each_context(self._request),
            "opts": self._admin.opts,
            "title": gettext("Retry with other arguments: %(task)s")
            % {"task": f"{name} #{self._task.pk}"},
            "form": form,
            "shape": SHAPE,
            "is_too_large": self._task.size > MOST_CHARACTERS,
            "size": self._task.size,
            "hides": self._hides,
            "back": self._back,
            "media": self._admin.media + form.media,
        }
        template = "admin/partisan_async/task/other_arguments.html"
        return TemplateResponse(self._request, template, context)

    @property
    def _hides(self) -> bool:
        return hides(self._task.processor_class)

    @cached_property
    def _back(self) -> str:
        return task_url(self._admin, "change", self._task.pk)


def _may(request: HttpRequest) -> bool:
    return may(request, "change_arguments") and sees_arguments(request)


def _told() -> Func:
    """Return only the args and kwargs of a row's arguments, as indented JSON."""
    call = Func(
        Value("args"),
        KeyTransform("args", "arguments"),
        Value("kwargs"),
        KeyTransform("kwargs", "arguments"),
        function="jsonb_build_object",
    )
    return Func(call, function="jsonb_pretty", output_field=TextField())
