"""The page that asks first."""

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
"""What a form says when it was asked."""


@dataclass(frozen=True)
class Question:
    """What is to be done, and to what.

    :param things: what it is done to, as far as there is room.
    :param more: how many there are besides.
    :param fields: what the form says again, besides that it was asked.
    :param back: where to go without doing it.
    :param asks_why: the form has room for a ``reason``.
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
    """Return the page with a question and its two answers."""
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
