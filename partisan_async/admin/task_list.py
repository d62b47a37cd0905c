"""The list of tasks: its filters, its order and its search, fast among millions of rows.

A *walk* reads rows along an index, in the order of the list. A condition that no index covers, such
as the processor, is checked row by row on at most ``WALKED`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import OperationalError, transaction
from django.db.models import (
    BooleanField,
    Case,
    ExpressionWrapper,
    Func,
    IntegerField,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Left, Now
from django.db.models.lookups import IContains, LessThan
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext
from psycopg.errors import QueryCanceled

from partisan_async import registry
from partisan_async.admin.rows import RowAdmin
from partisan_async.admin.sight import sees_arguments
from partisan_async.admin.task_filters import SPANS, Choice, QueueFilter
from partisan_async.enqueue.run import fetch, run
from partisan_async.enqueue.sensitive import hidden_processors
from partisan_async.models import ENDED, WAITING, Task
from partisan_async.operate import overview
from partisan_async.steering.pruning import ended_queues

WALKED = 100_000
"""Maximum number of rows checked for a condition that no index covers."""

SEARCH_SECONDS = 2.0
"""Time limit of a search by text, after which it is given up."""

LISTED = 1_000
"""Maximum number of tasks counted, shown on pages, and steered at once."""

SMALL_BYTES = 2_000
"""Arguments below this stored size are searched, and shown in the list."""

TOLD_CHARACTERS = 100
"""Maximum length of small arguments shown in the list."""

_ORDERS: dict[str | None, tuple[str, ...]] = {
    None: ("-id",),
    Task.STATUS_NEW: ("queue_name", "priority", "id"),
    Task.STATUS_SCHEDULED: ("queue_name", "execute_after"),
    Task.STATUS_LIMITED: ("queue_name", "limit_name", "limit_key", "limit_rank", "id"),
    Task.STATUS_IN_PROCESS: ("claimed_at",),
    Task.STATUS_FINISHED: ("-id",),
    Task.STATUS_ERROR: ("-id",),
}
"""Order by status, each along an index: the next task first, for ended tasks the newest first."""


class TaskPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no more tasks than its pages show; to count a million takes a second."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, LISTED)

    @cached_property
    def has_more(self) -> bool:
        """True if there are more tasks than are counted."""
        return self._counted > LISTED

    @cached_property
    def _counted(self) -> int:
        tasks = cast("QuerySet[Task]", self.object_list)
        # Keep the order of the list, so that the count goes along its index. A sequential scan may
        # first read a long stretch of empty pages.
        return tasks.values("pk")[: LISTED + 1].count()


class TaskList(ChangeList):
    """The tasks that a request asks for.

    :ivar queues: all queues that the user sees whole, at the moment of the request.
    :ivar given_up: true if the search took longer than ``SEARCH_SECONDS``.
    :ivar walked: true if only the first ``WALKED`` rows were checked.
    """

    queues: list[overview.QueueState]
    given_up: bool
    walked: bool

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        super().get_queryset(request, exclude_parameters)
        chosen: dict[str, str | None] = {}
        for spec in self.filter_specs:
            if isinstance(spec, Choice):
                chosen[spec.parameter_name] = spec.value()
            if isinstance(spec, QueueFilter):
                self.queues = spec.queues
        status, ended = chosen["status"], SPANS.get(chosen["ended"] or "")
        order = _ORDERS.get(status, ())
        scope = cast("RowAdmin", self.model_admin).scope_of(request)
        # The scope is checked row by row within the walk. As a filter of the walk itself, it would
        # not count against WALKED, and the walk could read the whole table.
        root = self.root_queryset if scope.is_whole else Task.objects.using(self.root_queryset.db)
        tasks = _by_index(root, status, ended[1] if ended else None)
        tasks = tasks.order_by(*order)
        in_arguments = sees_arguments(request)
        self.search_help_text = _help(in_arguments=in_arguments)
        wanted, is_found_by_index = _search(self.query, tasks.db, in_arguments=in_arguments)
        if is_found_by_index:
            tasks, wanted = tasks.filter(wanted), Q()
        wanted &= scope.condition
        if (queue_name := chosen["queue"]) is not None:
            if status in _BY_QUEUE:
                tasks = tasks.filter(queue_name=queue_name)
            else:
                wanted &= Q(queue_name=queue_name)
        if (processor := chosen["processor"]) is not None:
            wanted &= Q(processor_class__in=registry.discovered_names(processor))
        self.walked, self.given_up = bool(wanted), False
        if self.walked:
            found = _walk(tasks, wanted, limited=bool(self.query))
            self.given_up = found is None
            in_order = tasks.query.order_by
            tasks = self.root_queryset.filter(pk__in=found or []).order_by(*in_order)
        return _with_what_is_shown(tasks)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count  # Django would count all rows for it


_BY_QUEUE = WAITING
"""The statuses whose index begins with the queue."""


def _by_index(
    tasks: QuerySet[Any], status: str | None, ended_within: timedelta | None
) -> QuerySet[Any]:
    if status is not None and status not in _ORDERS:
        return tasks.none()
    if status in ENDED or ended_within is not None:
        # Name all queues: the index begins with the queue, and is of no use without one.
        tasks = tasks.filter(status__in=ENDED, queue_name__in=ended_queues())
    if ended_within is not None:
        tasks = tasks.filter(finished_at__gte=Now() - ended_within)
    return tasks if status is None else tasks.filter(status=status)


def _help(*, in_arguments: bool) -> str:
    if in_arguments:
        told = gettext(
            "One or several ids; or the id of a supervisor; or a whole subject; or a part of a"
            " processor's name or of small arguments, among the first %(count)s of the list."
        )
    else:
        told = gettext(
            "One or several ids; or the id of a supervisor; or a part of a processor's name, among"
            " the first %(count)s of the list."
        )
    return told % {"count": f"{WALKED:,}"}


def _search(text: str, alias: str, *, in_arguments: bool) -> tuple[Q, bool]:
    """Return the search text as a condition, and whether an index covers it."""
    words = text.split()
    if not words:
        return Q(), False
    of_subject = Q(subject=text)
    if all(word.isdecimal() and len(word) < 19 for word in words):
        by_id = Q(pk__in=[int(word) for word in words])
        return by_id | of_subject if in_arguments else by_id, True
    if in_arguments and Task.objects.using(alias).filter(of_subject).exists():
        return of_subject, True
    with suppress(ValueError):
        return Q(status=Task.STATUS_IN_PROCESS, claimed_by=UUID(text)), True
    if not in_arguments:
        return Q(processor_class__icontains=text), False
    hidden = hidden_processors()
    if hidden is None:
        return Q(processor_class__icontains=text), False
    is_in_arguments = Case(
        When(_IS_SMALL, then=_ARGUMENTS), default=Value(""), output_field=TextField()
    )
    may_hold = Q(IContains(is_in_arguments, text))
    if hidden:  # a search could guess masked values letter by letter
        may_hold &= ~Q(processor_class__in=hidden)
    return Q(processor_class__icontains=text) | may_hold, False


def _walk(tasks: QuerySet[Any], wanted: Q, *, limited: bool) -> list[int] | None:
    """Return the ids of the wanted tasks; ``None``: it took too long.

    :param limited: apply ``SEARCH_SECONDS``, for searches in texts: a text that is stored small may
        be large when it is decompressed.
    """
    walk = tasks.annotate(is_wanted=ExpressionWrapper(wanted, BooleanField()))
    sql, params = walk.values("id", "is_wanted")[:WALKED].query.sql_with_params()
    # The condition stands outside of the walk: inside, LIMIT would count only matches, and the
    # walk could go on to the end of the table.
    sql = f"SELECT id FROM ({sql}) AS walk WHERE is_wanted LIMIT %s"  # noqa: S608
    params = [*params, LISTED + 1]
    return _fetch_in_time(sql, params, tasks.db) if limited else _fetch(sql, params, tasks.db)


def _fetch(sql: str, params: Sequence[Any], alias: str) -> list[int]:
    return [pk for (pk,) in fetch(sql, params, alias)]


def _fetch_in_time(sql: str, params: Sequence[Any], alias: str) -> list[int] | None:
    try:
        with transaction.atomic(using=alias):
            run(f"SET LOCAL statement_timeout = {round(SEARCH_SECONDS * 1000)}", alias=alias)
            found = _fetch(sql, params, alias)
            # Without the rollback, SET LOCAL would hold for the rest of the caller's transaction.
            transaction.set_rollback(True, using=alias)
            return found
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            return None
        raise


class _StoredSize(Func):
    """The stored size of a column, which needs no read of its TOAST data."""

    function = "pg_column_size"
    output_field = IntegerField()


_ARGUMENTS = Cast("arguments", TextField())

_IS_SMALL = LessThan(_StoredSize("arguments"), SMALL_BYTES)

_ERROR_BYTES = 500_000


def _with_what_is_shown(tasks: QuerySet[Any]) -> QuerySet[Any]:
    """Load only the beginnings of large columns."""
    shown: QuerySet[Any] = tasks.defer(
        "arguments", "result", "errors", "worker_ids", "digest"
    ).annotate(
        now=Now(),
        told_arguments=Case(
            When(_IS_SMALL, then=Left(_ARGUMENTS, TOLD_CHARACTERS)), output_field=TextField()
        ),
        arguments_bytes=_StoredSize("arguments"),
        error_class=_last_error("exception_class"),
        error_message=_last_error("message"),
    )
    return shown


def _last_error(key: str) -> Case:
    return Case(
        When(
            LessThan(_StoredSize("errors"), _ERROR_BYTES),
            then=Left(Cast(KT(f"errors__-1__{key}"), TextField()), 200),
        ),
        output_field=TextField(),
    )
