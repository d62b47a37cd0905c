"""The tasks: one row for each call of a processor, from ``delay()`` to its end."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from functools import partial
from typing import Any, Self

from django.db import DEFAULT_DB_ALIAS, models, router
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from partisan_async.ends import waiting
from partisan_async.ends.waited import Waited
from partisan_async.models.pauses import is_far
from partisan_async.models.readable import always_read, optional_text
from partisan_async.models.rules import CONSTRAINTS, INDEXES
from partisan_async.models.status import ENDED, Status
from partisan_async.text import moments


class Task(models.Model):
    """One call of a processor, from ``delay()`` to its end.

    Only the statements of ``partisan_async.store`` change its rows.
    """

    STATUS_NEW = Status.NEW.value
    STATUS_SCHEDULED = Status.SCHEDULED.value
    STATUS_LIMITED = Status.LIMITED.value
    STATUS_IN_PROCESS = Status.IN_PROCESS.value
    STATUS_FINISHED = Status.FINISHED.value
    STATUS_ERROR = Status.ERROR.value
    STATUS_CHOICES = tuple(Status.choices)

    id = models.BigAutoField(primary_key=True)
    queue_name = models.CharField(max_length=255)
    processor_class = models.CharField(max_length=255)
    arguments = always_read(models.JSONField(help_text='{"args": […], "kwargs": {…}}'))
    status = models.CharField(max_length=16, choices=STATUS_CHOICES, db_default=STATUS_NEW)
    priority = models.IntegerField(help_text=_("lower number first"))
    execute_after = always_read(models.DateTimeField(help_text=_("not to be claimed before")))
    parked_from = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("its execute_after, while it is put off since its processor is paused"),
        )
    )

    claim_seq = models.IntegerField(
        db_default=0, help_text=_("+1 per claim; fences old claims off")
    )
    claimed_by = models.UUIDField(
        null=True, blank=True, help_text=_("the supervisor that holds it")
    )
    claimed_at = always_read(models.DateTimeField(null=True, blank=True))

    tries = models.IntegerField(db_default=0, help_text=_("runs that ended, well or badly"))
    postpones = models.IntegerField(db_default=0)
    lost = models.IntegerField(db_default=0, help_text=_("worker processes it took down, alone"))
    suspect = models.BooleanField(
        db_default=False, help_text=_("ran in a worker process that died; runs alone next time")
    )
    unrecognised = models.IntegerField(
        db_default=0, help_text=_("times it met a supervisor that does not know its processor")
    )
    interrupted = models.IntegerField(
        db_default=0,
        help_text=_("claims since its last outcome that ended without one of its run's own"),
    )

    created_at = always_read(models.DateTimeField(db_default=Now()))
    started_at = always_read(
        models.DateTimeField(null=True, blank=True, help_text=_("start of the first run"))
    )
    last_attempted_at = always_read(
        models.DateTimeField(null=True, blank=True, help_text=_("of the last run"))
    )
    finished_at = always_read(models.DateTimeField(null=True, blank=True))
    worker_ids = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("one per run"),
        )
    )
    result = always_read(models.JSONField(null=True, blank=True))
    errors = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("exception_class, message, traceback, try and at, newest last"),
        )
    )
    digest = models.BinaryField(null=True, blank=True, help_text=_("the same for identical calls"))
    unique_key = models.BinaryField(
        null=True, blank=True, help_text=_("in place of the digest, while it runs, too")
    )
    traceparent = optional_text(_("the span that enqueued it, by the W3C"), max_length=55)

    first_tried_at = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("start of its first try, where it is given up some time after that"),
        )
    )
    subject = optional_text(_("whose task it is"), db_collation="C")

    stops = models.IntegerField(
        null=True, blank=True, help_text=_("how often in a row a stop had cut it off then")
    )
    stopped_at = always_read(
        models.DateTimeField(
            null=True, blank=True, help_text=_("when a stop of its supervisor last cut it off")
        )
    )

    limit_name = optional_text(_("the limit that it starts under"))
    limit_key = optional_text(_("its key under that limit"), db_collation="C")
    limit_rank = models.IntegerField(
        null=True, blank=True, help_text=_("its turn among those of its key: lower number first")
    )

    class Meta:
        permissions = [
            ("retry_task", "Can run tasks again, or now"),
            ("cancel_task", "Can cancel tasks"),
            ("view_arguments", "Can view subjects, arguments, errors' texts and results of tasks"),
            ("change_arguments", "Can give tasks that failed other arguments"),
        ]
        indexes = INDEXES
        constraints = CONSTRAINTS

    is_twin = False
    """True if ``delay()`` added no row for its call, and returned this one, which stands for it."""

    def __str__(self) -> str:
        return f"{self.processor_class} #{self.pk} ({self.status})"

    @property
    def is_parked(self) -> bool:
        """True if the task waits for the end of its processor's pause."""
        if self.status != self.STATUS_SCHEDULED or self.parked_from is None:
            return False
        return is_far(self.execute_after)

    @property
    def stops_in_a_row(self) -> int:
        """How often in a row, up to its last run, a stop of its supervisor has cut it off."""
        stopped, ran = self.stopped_at, self.last_attempted_at
        # Only such a run leaves stopped_at later than last_attempted_at, which each one sets.
        if not self.stops or stopped is None or ran is None or stopped < ran:
            return 0
        return self.stops

    def wait(self, timeout_seconds: float | None = None) -> Self:
        """Wait until the task has ended, woken by NOTIFY; return it, refreshed.

        :param timeout_seconds: maximum time to wait; ``None``: no limit.
        :raises TimeoutError: the task has not ended by then.
        :raises Task.DoesNotExist: the row was deleted meanwhile.
        :raises TypeError: the processor has no ``STORE_RESULT``: no end of its tasks is announced.
        :raises TransactionManagementError: a transaction is open, which would never see the end.
        """
        waiting.wait(self._waited, timeout_seconds)
        return self

    async def await_end(self, timeout_seconds: float | None = None) -> Self:
        """Wait until the task has ended, from async code; else as ``wait``."""
        await waiting.await_end(self._waited, timeout_seconds)
        return self

    @property
    def _waited(self) -> Waited:
        return Waited(
            self.pk,
            self.processor_class,
            self.queue_name,
            partial(router.db_for_write, Task),
            self._has_ended,
            self.get_status_display,
        )

    def _has_ended(self) -> bool:
        try:
            # Not the router's database for reads: a replica that lags does not have the row yet.
            self.refresh_from_db(using=router.db_for_write(Task))
        except Task.DoesNotExist:
            raise Task.DoesNotExist(
                f"Task {self.pk} {self.processor_class} is gone: its row was deleted, and nothing"
                " tells how it ended."
            ) from None
        return self.status in ENDED

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """Read the row again, by default from the database that it came from.

        Deferred columns are also read so, and not from the router's database for reads: a replica
        may not have the row yet.
        """
        chosen = using or (self._state.db if from_queryset is None else None)
        super().refresh_from_db(using=chosen, fields=fields, from_queryset=from_queryset)

    @property
    def tick(self) -> datetime.datetime | None:
        """The tick for which a ``SCHEDULE`` enqueued the task; its retries keep it."""
        tick = self._call.get("tick")
        return None if tick is None else moments.read(tick, self._state.db or DEFAULT_DB_ALIAS)

    @property
    def args(self) -> list[Any]:
        """The positional arguments of the call."""
        return list(self._call.get("args", ()))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return dict(self._call.get("kwargs", {}))

    @property
    def _call(self) -> dict[str, Any]:
        if not isinstance(self.arguments, dict):
            raise ValueError(
                f"The arguments of task {self.pk} are no call any more: somebody changed them by"
                " hand."
            )
        return self.arguments
