"""The indexes and constraints of the task table."""

from __future__ import annotations

from django.db.models import CheckConstraint, Index, Q, UniqueConstraint

from partisan_async.models.status import ENDED, KNOWN, WAITING, Status

INDEXES = [
    Index(
        fields=["queue_name", "priority", "id"],
        condition=Q(status=Status.NEW.value),
        name="partisan_async_ready",
    ),
    Index(
        fields=["queue_name", "execute_after"],
        condition=Q(status=Status.SCHEDULED.value),
        name="partisan_async_scheduled",
    ),
    Index(
        fields=["claimed_by"],
        condition=Q(status=Status.IN_PROCESS.value),
        name="partisan_async_claimed",
    ),
    Index(
        fields=["queue_name", "status", "finished_at"],
        condition=Q(status__in=ENDED),
        name="partisan_async_ended",
    ),
    # The queue first: without it each claim would read the rows of other queues, too.
    Index(
        fields=["queue_name", "limit_name", "limit_key", "limit_rank", "id"],
        condition=Q(status=Status.LIMITED.value),
        name="partisan_async_limited",
    ),
    Index(
        fields=["limit_name", "limit_key"],
        condition=Q(status=Status.IN_PROCESS.value, limit_name__isnull=False),
        name="partisan_async_occupied",
    ),
    # With the id: many tasks of one are gone through by it, a thousand at a time.
    Index(
        fields=["subject", "id"],
        condition=Q(subject__isnull=False),
        name="partisan_async_subject",
    ),
]

CONSTRAINTS = [
    # Without "digest IS NOT NULL", so that a planner who takes it for empty may read by it all that
    # waits: see ``supervisor.opening.KEEP_PLANS``. But the release before names it in ON CONFLICT
    # by its states alone, and finds no index that asks for more.
    UniqueConstraint(
        fields=["digest"], condition=Q(status__in=WAITING), name="partisan_async_one_unclaimed"
    ),
    # By the time of its end, and not by states: a row that goes back to waiting neither leaves the
    # index nor comes to it, so that nothing can be in its way.
    UniqueConstraint(
        fields=["unique_key"],
        condition=Q(unique_key__isnull=False, finished_at__isnull=True),
        name="partisan_async_one_unended",
    ),
    CheckConstraint(
        condition=(
            Q(status=Status.IN_PROCESS.value, claimed_by__isnull=False)
            | (~Q(status=Status.IN_PROCESS.value) & Q(claimed_by__isnull=True))
        ),
        name="partisan_async_claimed_by",
    ),
    CheckConstraint(condition=Q(status__in=KNOWN), name="partisan_async_status"),
    CheckConstraint(
        condition=(
            Q(status__in=ENDED, finished_at__isnull=False)
            | (~Q(status__in=ENDED) & Q(finished_at__isnull=True))
        ),
        name="partisan_async_finished_at",
    ),
]
