"""Rows that are looked at and steered, and written by nobody here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse

from partisan_async import readable, store

NUL = "\x00"


def may_see_dashboard(request: HttpRequest) -> bool:
    """Tell whether the user may see tasks and supervisors, as the dashboard shows them."""
    user = request.user
    return all(
        user.has_perm(f"partisan_async.view_{what}")
        or user.has_perm(f"partisan_async.change_{what}")
        for what in ("task", "supervisor")
    )


class RowAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows, of the database that supervisors write to.

    Who may change them may steer them.
    """

    show_full_result_count = False
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(store.database())

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        if NUL in object_id:
            return None  # no key has one
        return super().get_object(request, object_id, from_field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # by a form

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # with what Django would look for first

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may have something done with the rows."""
        return super().has_change_permission(request)

    def has_forget_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may have rows deleted."""
        return super().has_delete_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with a way to the dashboard for those who may see it.

        :raises Http404: it is asked for by what no column can hold.
        """
        if any(NUL in value for query in (request.GET, request.POST) for value in _texts(query)):
            raise Http404("PostgreSQL's texts have no NUL.")
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError as error:
            raise Http404("No row has such a key.") from error
        context = {"may_see_dashboard": may_see_dashboard(request)}
        page = super().changelist_view(request, context | (extra_context or {}))
        if isinstance(page, TemplateResponse) and page.context_data and "cl" in page.context_data:
            for row in page.context_data["cl"].result_list:
                readable.mark(row)
        return page

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        readable.mark(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def put_down(
        self, request: HttpRequest, rows: Sequence[Model], what: str, flag: int = CHANGE
    ) -> None:
        """Put down in the rows' histories that the user had this done."""
        if rows:
            user = cast("AbstractBaseUser", request.user)
            LogEntry.objects.log_actions(user.pk, rows, flag, what)


def _texts(query: QueryDict) -> Iterator[str]:
    for name, values in query.lists():
        yield name
        yield from map(str, values)
