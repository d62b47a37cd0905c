"""The confirmation page: what an action is about to do, and to which rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.template.response import TemplateResponse

from partisan_async.admin.rows import RowAdmin

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

CONFIRMED = "confirmed"
"""Name of the form's field that says that the user has confirmed."""


@dataclass(frozen=True)
class Question:
    """What the page asks.

    :param things: the rows that the action is about, as many as the page has room for.
    :param more: number of further rows.
    :param fields: hidden fields that the form sends again, besides ``CONFIRMED``.
    :param back: address of the page to return to when the answer is no.
    :param asks_why: whether the form has a field for a ``reason``.
    """

    title: str
    sentences: Sequence[StrOrPromise]
    button: str
    back: str
    fields: Sequence[tuple[str, str]]
    things: Sequence[str] = field(default=())
    more: int = 0
    dangerous: bool = False
    asks_why: bool = False


def ask(model_admin: RowAdmin, request: HttpRequest, question: Question) -> TemplateResponse:
    """Return the page with the question and its two buttons."""
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(
        request,
        "admin/partisan_async/question.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": question.title,
            "question": question,
            "fields": [*question.fields, (CONFIRMED, "1")],
        },
    )
