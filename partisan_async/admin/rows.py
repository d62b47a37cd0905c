"""The base of the package's admin pages: users see and steer rows, and never edit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import Error
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext, override

from partisan_async import logs, store
from partisan_async.admin import history
from partisan_async.admin.scope import EVERYTHING, Scope
from partisan_async.admin.sight import sees_arguments
from partisan_async.models import Dashboard, Supervisor, Task, readable
from partisan_async.postgres import encodings
from partisan_async.postgres.blame import Blame, whose
from partisan_async.steering import audit
from partisan_async.templatetags.partisan_async import moment
from partisan_async.text.one_line import explain
from partisan_async.text.printable import storable

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise, StrPromise

WRITTEN = ("reason",)
"""Fields of forms with text to store, not to search for: what cannot be stored is replaced."""


@dataclass
class Done:
    """The outcome of an ``acting`` block; ``refused``: the database refused it."""

    refused: bool = False


def told_moment(name: str, label: StrPromise) -> Callable[[Any, Any], str]:
    """Return a display method for a column of moments, in the package's format."""

    @admin.display(description=label, ordering=name)
    def tell(model_admin: Any, row: Any) -> str:
        value = getattr(row, name)
        return "-" if value is None else str(moment(value))

    return tell


def may_see_dashboard(request: HttpRequest, site: admin.AdminSite) -> bool:
    """Tell whether the user may see all that a site's dashboard shows."""
    user = request.user
    return all(map(site.is_registered, (Dashboard, Supervisor, Task))) and all(
        user.has_perm(f"partisan_async.view_{what}")
        or user.has_perm(f"partisan_async.change_{what}")
        for what in ("task", "supervisor")
    )


class RowAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows of the database that supervisors write to.

    Django's change permission lets users steer the rows.
    """

    show_full_result_count = False
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ["partisan_async/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(store.database())

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        if not _is_held(object_id):
            return None  # no stored key can equal it
        return super().get_object(request, object_id, from_field)

    def get_scope(self, request: HttpRequest) -> Scope:
        """Return which queues and processors the user sees. Override it in your own ``TaskAdmin``.

        It then holds for all of the package's pages on that admin site.
        """
        return EVERYTHING

    def scope_of(self, request: HttpRequest) -> Scope:
        """Return the user's scope by the site's ``TaskAdmin``, computed once per request."""
        known: Scope | None = getattr(request, "partisan_scope", None)
        if known is None:
            tasks = self.admin_site.get_model_admin(Task) if self._has_tasks else None
            known = tasks.get_scope(request) if isinstance(tasks, RowAdmin) else EVERYTHING
            request.partisan_scope = known  # type: ignore[attr-defined]
        return known

    @property
    def _has_tasks(self) -> bool:
        return self.admin_site.is_registered(Task)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # no form edits a row

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # Django's own deletion would first collect related rows

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may steer the rows."""
        return super().has_change_permission(request)

    def has_forget_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may delete rows."""
        return super().has_delete_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with a link to the dashboard for users who may see it.

        :raises Http404: the request searches for a text that no column can hold.
        """
        if not all(map(_is_held, _texts(request))):
            raise Http404(gettext("No text of this database is such."))
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError as error:
            raise Http404(gettext("No row has such a key.")) from error
        context = {"may_see_dashboard": may_see_dashboard(request, self.admin_site)}
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

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a row's history in the reader's language."""
        page = super().history_view(request, object_id, extra_context)
        if isinstance(page, TemplateResponse) and page.context_data:
            for entry in page.context_data["action_list"]:
                entry.change_message = history.told(entry.change_message)
        return page

    @contextmanager
    def acting(self, request: HttpRequest) -> Iterator[Done]:
        """Attribute what the block does to the user, in the audit log.

        If the database refuses a change (a trigger of the site raises, or a right is missing), the
        block ends there, and the user gets a message.
        """
        done, name = Done(), request.user.get_username()
        try:
            with audit.acting(name, "admin"):
                yield done
        except Error as error:
            cause = error.__cause__ or error
            if whose(cause) is Blame.CONNECTION:
                raise
            done.refused = True
            logs.operators.refused(name, cause)
            # A trigger's message may quote the row.
            hidden = gettext("what it says is in the log.")
            said = explain(cause) if sees_arguments(request) else hidden
            told = gettext("The database refuses it: %(said)s") % {"said": said}
            self.message_user(request, told, messages.ERROR)

    def put_down(
        self, request: HttpRequest, rows: Sequence[Model], what: StrOrPromise, flag: int = CHANGE
    ) -> None:
        """Record in the rows' histories that the user did this.

        In English: later readers may have another language.
        """
        if rows:
            user = cast("AbstractBaseUser", request.user)
            with override(None):
                LogEntry.objects.log_actions(user.pk, rows, flag, str(what))


def _texts(request: HttpRequest) -> Iterator[str]:
    """Yield the texts of a request that rows are searched by."""
    for query in (request.GET, request.POST):
        for name, values in query.lists():
            yield name
            yield from () if name in WRITTEN else map(str, values)


def _is_held(text: str) -> bool:
    """Tell whether a column can hold a text: the database's encoding may lack characters."""
    return encodings.within(storable(text), encodings.of_database(store.database())) == text
