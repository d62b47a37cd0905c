"""What a user can do with tasks in the admin, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from partisan_async.steering.tasks import ACTIONS

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


@dataclass(frozen=True)
class Steering:
    """Something that can be done with tasks.

    :param key: a key of ``ACTIONS``.
    :param done: the message afterwards; the number of chosen tasks chooses its plural.
    :param permission: the … of the admin's method ``has_…_permission``.
    :param asks_why: ask for a reason, which is stored with the user's name.
    """

    key: str
    label: StrPromise
    done: StrPromise
    permission: str
    warning: StrPromise
    dangerous: bool = False
    asks_why: bool = False

    @property
    def name(self) -> str:
        """The name of the admin's action."""
        return self.key.replace("-", "_")

    @property
    def do(self) -> Callable[[Sequence[int]], list[int]]:
        """The function that does it."""
        return ACTIONS[self.key][0]

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses of tasks that it is for."""
        return ACTIONS[self.key][1]


STEERINGS = (
    Steering(
        "retry",
        _("Retry"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks run again.",
            "%(done)s of %(chosen)s tasks run again.",
            "number",
        ),
        "retry",
        _("What ended in error runs again, with all counts at zero; the errors stay to be seen."),
    ),
    Steering(
        "run-now",
        _("Run now"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks run now.",
            "%(done)s of %(chosen)s tasks run now.",
            "number",
        ),
        "retry",
        _("What is scheduled is due at once."),
    ),
    Steering(
        "cancel",
        _("Cancel"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks are cancelled.",
            "%(done)s of %(chosen)s tasks are cancelled.",
            "number",
        ),
        "cancel",
        _(
            "What waits or runs ends in error. What runs is killed with its worker process: what it"
            " has done by then, outside of a transaction, stays done."
        ),
        dangerous=True,
        asks_why=True,
    ),
    Steering(
        "delete",
        _("Delete"),
        ngettext_lazy(
            "%(done)s of %(chosen)s tasks are deleted.",
            "%(done)s of %(chosen)s tasks are deleted.",
            "number",
        ),
        "forget",
        _("The rows, with arguments, errors and results, are gone for good."),
        dangerous=True,
    ),
)
