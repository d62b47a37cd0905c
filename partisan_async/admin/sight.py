"""What users may see and do with tasks in the admin, and the sentences that tell them.

``change_task`` includes all permissions on tasks, as it did before there were separate ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext, gettext_lazy

from partisan_async.admin.scope import Scope
from partisan_async.operate.overview import PauseState
from partisan_async.operate.ways_out import WaysOut
from partisan_async.templatetags.partisan_async import short

HIDDEN = gettext_lazy("(its text is hidden from you)")


def may(request: HttpRequest, codename: str) -> bool:
    """Tell whether the user has this permission on tasks, or ``change_task``."""
    has = request.user.has_perm
    return has(f"partisan_async.{codename}") or has("partisan_async.change_task")


def sees_arguments(request: HttpRequest) -> bool:
    """Tell whether they may see arguments, results, subjects, limits' keys and errors' texts."""
    return may(request, "view_arguments")


def told_subject(request: HttpRequest, subject: str | None) -> str:
    """Return whose something is, for a page; like arguments, it may say who somebody is."""
    if subject is None:
        return "-"
    return short(subject, 255) if sees_arguments(request) else str(HIDDEN)


def told_key(request: HttpRequest, key: str | None) -> str:
    """Return the key of a task's limit, for a page, in quotes: it may be empty, or a person's."""
    return told_subject(request, None if key is None else repr(key))


@dataclass(frozen=True)
class PageWays(WaysOut):
    """The ways out of a reader of a task's page: the buttons that they may press.

    :param has_dashboard: true if they may see the dashboard.
    """

    request: HttpRequest
    scope: Scope
    has_dashboard: bool

    def retry(self, pk: int) -> str:
        if may(self.request, "retry_task"):
            return gettext("To run it again, press Retry above.")
        return gettext("Somebody who may retry tasks can run it again.")

    def cancel_and_retry(self, pk: int) -> str:
        both = may(self.request, "cancel_task") and may(self.request, "retry_task")
        if both:
            return gettext("When that is mended, press Cancel above, and then Retry.")
        return gettext(
            "When that is mended, somebody who may cancel and retry tasks can run it again."
        )

    def resume(self, queue_name: str) -> str:
        return self._resume(self.scope.has_all_of_queue(queue_name))

    def resume_processor(self, pause: PauseState) -> str:
        return self._resume(self.scope.has_all_of_processor(pause.processor))

    def _resume(self, has_all: bool) -> str:
        may_change = self.request.user.has_perm("partisan_async.change_task")
        if has_all and may_change and self.has_dashboard:
            return gettext("It is resumed on the dashboard.")
        return gettext("Somebody who may change tasks can resume it on the dashboard.")

    def start(self, queue_name: str) -> str:
        if self._is_operator:
            return super().start(queue_name)
        told = gettext("Ask who runs your servers to start a supervisor of queue %(queue)r.")
        return told % {"queue": queue_name}

    def look_further(self) -> str:
        if self._is_operator:
            return super().look_further()
        return gettext("ask who runs your servers to look at the log of the supervisors")

    def error(self, exception_class: object, message: object, place: str = "") -> str:
        if sees_arguments(self.request):
            return super().error(exception_class, message, place)
        return f"{exception_class} {HIDDEN}"

    def text(self, told: object) -> str:
        return super().text(told) if sees_arguments(self.request) else str(HIDDEN)

    def key(self, key: str) -> str:
        return super().key(key) if sees_arguments(self.request) else str(HIDDEN)

    def task(self, pk: int, processor_class: str) -> str:
        if self.scope.has_processor(processor_class):
            return super().task(pk, processor_class)
        return gettext("another task")

    @property
    def _is_operator(self) -> bool:
        return self.request.user.has_perm("partisan_async.change_supervisor")
