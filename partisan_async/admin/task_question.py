"""Asks a user to confirm an action on the chosen tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext, ngettext

from partisan_async.admin.question import Question, ask
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.steerings import Steering
from partisan_async.admin.task_list import LISTED
from partisan_async.models import Task
from partisan_async.templatetags.partisan_async import short

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

NAMED = 20
"""Maximum number of tasks named in the question."""


def ask_about(
    model_admin: RowAdmin, request: HttpRequest, chosen: QuerySet[Task], what: Steering
) -> HttpResponse:
    """Ask the user to confirm; or say that the action is for none of the chosen tasks."""
    rows = list(chosen.values_list("pk", "processor_class", "status")[:LISTED])
    able = [(pk, name) for pk, name, status in rows if status in what.statuses]
    if not able:
        model_admin.message_user(request, _told_unable(what), messages.WARNING)
        return HttpResponseRedirect(request.get_full_path())
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
        sentences=_sentences(what, len(rows), len(rows) - len(able)),
        things=[f"{pk} {short(name, 80)}" for pk, name in able[:NAMED]],
        more=max(0, len(able) - NAMED),
        fields=fields,
        button=gettext("%(action)s, yes") % {"action": what.label},
        back=task_url(model_admin, "change", able[0][0]) if from_page else request.get_full_path(),
        dangerous=what.dangerous,
        asks_why=what.asks_why,
    )
    return ask(model_admin, request, question)


def _sentences(what: Steering, rows: int, others: int) -> list[StrOrPromise]:
    sentences: list[StrOrPromise] = [what.warning]
    if others:
        said = ngettext(
            "%(count)s of those you chose are in another state, and stay as is.",
            "%(count)s of those you chose are in another state, and stay as is.",
            others,
        )
        sentences.append(said % {"count": f"{others:,}"})
    if rows == LISTED:
        said = gettext("No more than %(count)s at once: do it again for the rest.")
        sentences.append(said % {"count": f"{LISTED:,}"})
    return sentences


def task_url(model_admin: RowAdmin, view: str, *args: Any) -> str:
    """Return the address of one of the admin's pages about tasks."""
    name = f"admin:partisan_async_task_{view}"
    return reverse(name, args=args, current_app=model_admin.admin_site.name)


def _told_unable(what: Steering) -> str:
    labels = dict(Task.STATUS_CHOICES)
    able = gettext(" or ").join(str(labels[status]).lower() for status in what.statuses)
    told = gettext("Nothing was done: %(action)s is for tasks that are %(statuses)s.")
    return told % {"action": str(what.label).lower(), "statuses": able}
