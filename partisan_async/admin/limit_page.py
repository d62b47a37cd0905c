"""The page of a limit: its figures and keys, and what an operator allows in place of the code."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext, gettext_noop

from partisan_async import steering, store
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.scope import Scope
from partisan_async.admin.sight import sees_arguments
from partisan_async.models import LimitOverride
from partisan_async.operate import limit_names, limits
from partisan_async.operate.limit_states import LimitState
from partisan_async.operate.overview import QueueState
from partisan_async.templatetags.partisan_async import short

VIEW = "partisan_async_dashboard_limit"

KEYS_COUNTED = 1000
"""Maximum number of keys of each limit that the dashboard counts, every two seconds."""


def limits_of(scope: Scope, queues: Sequence[QueueState]) -> list[LimitState]:
    """Return what the dashboard shows of limits; where there are none, nothing is asked.

    Of all queues and processors: a limit may be of several.
    """
    if not scope.is_whole or not (any(each.limited for each in queues) or limit_names.of_code()):
        return []
    return limits.limits(limits.COUNTED, KEYS_COUNTED)


def answer(model_admin: RowAdmin, request: HttpRequest) -> HttpResponse:
    """Show the page, or set or clear a number.

    :raises PermissionDenied: the user may not see all queues and processors, or not change tasks.
    :raises Http404: there is no such limit.
    """
    if not model_admin.has_view_permission(request) or not model_admin.scope_of(request).is_whole:
        raise PermissionDenied
    name = request.GET.get("name", "")
    found = next((each for each in limits.limits() if each.name == name), None)
    if found is None:
        raise Http404(gettext("There is no such limit."))
    if request.method == "POST":
        if not _may_set(request):
            raise PermissionDenied
        _set_or_clear(model_admin, request, name)
        return HttpResponseRedirect(request.get_full_path())
    return _page(model_admin, request, found)


def _may_set(request: HttpRequest) -> bool:
    return request.user.has_perm("partisan_async.change_task")


def _page(model_admin: RowAdmin, request: HttpRequest, found: LimitState) -> HttpResponse:
    request.current_app = model_admin.admin_site.name
    sees, of_keys = sees_arguments(request), limit_names.is_of_keys(found.name)
    keys = limits.keys(found.name) if sees and of_keys else limits.Keys([], 0)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": gettext("Limit %(name)s") % {"name": short(found.name)},
        "limit": found,
        "keys": keys,
        # A form would change the ends of lines in a key.
        "told_keys": [(each, json.dumps(each.key, ensure_ascii=False)) for each in keys.keys],
        "of_keys": of_keys,
        "sees_keys": sees,
        "may_set": _may_set(request),
        "counted": limits.COUNTED,
        "keys_counted": limits.KEYS_COUNTED,
    }
    return TemplateResponse(request, "admin/partisan_async/limit.html", context)


def _set_or_clear(model_admin: RowAdmin, request: HttpRequest, name: str) -> None:
    key = _key(request)
    rows = LimitOverride.objects.using(store.database()).filter(name=name)
    rows = rows.filter(key__isnull=True) if key is None else rows.filter(key=key)
    with model_admin.acting(request):
        if request.POST.get("clear"):
            before = list(rows)
            if steering.clear_limit(name, key=key):
                model_admin.put_down(request, before, gettext_noop("Clear"))
            told = gettext("It is as the code says.")
        else:
            try:
                if key is not None and not limit_names.is_of_keys(name):
                    raise ValueError(gettext("This limit has no keys."))
                if steering.set_limit(name, _number(request), key=key):
                    model_admin.put_down(request, list(rows), gettext_noop("Set"))
            except ValueError as error:
                model_admin.message_user(request, str(error), messages.ERROR)
                return
            told = gettext("At once may run: %(count)s.") % {"count": f"{_number(request):,}"}
        model_admin.message_user(request, told, messages.SUCCESS)


def _key(request: HttpRequest) -> str | None:
    if "other_key" in request.POST:
        return request.POST["other_key"]
    if "key" not in request.POST:
        return None
    try:
        key = json.loads(request.POST["key"])
    except ValueError:
        key = None
    if not isinstance(key, str):
        raise BadRequest(gettext("The form sends no such key."))
    return key


def _number(request: HttpRequest) -> int:
    text = request.POST.get("running", "")
    if not text.isdecimal() or len(text) > 10:
        raise ValueError(gettext("Write a whole number, 0 or more."))
    return int(text)
