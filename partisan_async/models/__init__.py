"""The tables: what is to be done and when, who does it, what is held back, and what was done."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Self

from django.db import DEFAULT_DB_ALIAS, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partisan_async.models.readable import always_read
from partisan_async.text import moments

WAITING = ("new", "scheduled")
ENDED = ("finished", "error")

NEVER_BEGINS = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
NEVER_ENDS = datetime.datetime(9999, 12, 1, tzinfo=datetime.UTC)
"""What is parked is scheduled for a moment between these, see ``store.parking``."""


class Task(models.Model):
    """One call of a processor, from ``delay()`` to its end.

    Rows are written by ``partisan_async.store`` alone.
    """

    STATUS_NEW = "new"
    STATUS_SCHEDULED = "scheduled"
    STATUS_IN_PROCESS = "in_process"
    STATUS_FINISHED = "finished"
    STATUS_ERROR = "error"
    STATUS_CHOICES = (
        (STATUS_NEW, _("New")),
        (STATUS_SCHEDULED, _("Scheduled")),
        (STATUS_IN_PROCESS, _("In process")),
        (STATUS_FINISHED, _("Finished")),
        (STATUS_ERROR, _("Error")),
    )

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
    traceparent = models.CharField(  # noqa: DJ001  "" would be stored with every task
        max_length=55, null=True, blank=True, help_text=_("the span that enqueued it, by the W3C")
    )

    class Meta:
        permissions = [
            ("retry_task", "Can run tasks again, or now"),
            ("cancel_task", "Can cancel tasks"),
            ("view_arguments", "Can view arguments, errors' texts and results of tasks"),
        ]
        indexes = [
            models.Index(
                fields=["queue_name", "priority", "id"],
                condition=Q(status="new"),
                name="partisan_async_ready",
            ),
            models.Index(
                fields=["queue_name", "execute_after"],
                condition=Q(status="scheduled"),
                name="partisan_async_scheduled",
            ),
            models.Index(
                fields=["claimed_by"],
                condition=Q(status="in_process"),
                name="partisan_async_claimed",
            ),
            models.Index(
                fields=["queue_name", "status", "finished_at"],
                condition=Q(status__in=ENDED),
                name="partisan_async_ended",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["digest"],
                condition=Q(status__in=WAITING),
                name="partisan_async_one_waiting",
            ),
            models.CheckConstraint(
                condition=(
                    Q(status="in_process", claimed_by__isnull=False)
                    | (~Q(status="in_process") & Q(claimed_by__isnull=True))
                ),
                name="partisan_async_claimed_by",
            ),
        ]

    is_twin = False
    """Whether ``delay()`` returned it for a call that it ignored: this identical one waits."""

    def __str__(self) -> str:
        return f"{self.processor_class} #{self.pk} ({self.status})"

    @property
    def is_parked(self) -> bool:
        """Whether it waits for the end of its processor's pause."""
        if self.status != self.STATUS_SCHEDULED or self.parked_from is None:
            return False
        due = self.execute_after
        if not isinstance(due, datetime.datetime):  # marked as unreadable, for who shows it
            return False
        if timezone.is_naive(due):  # without USE_TZ
            due = timezone.make_aware(due)
        return NEVER_BEGINS <= due < NEVER_ENDS

    def wait(self, timeout_seconds: float | None = None) -> Self:
        """Wait until it has ended, woken by NOTIFY; return it, refreshed.

        :param timeout_seconds: ``None``: as long as it takes.
        :raises TimeoutError: it has not ended by then.
        :raises Task.DoesNotExist: its row was deleted meanwhile.
        :raises TypeError: its processor has no ``STORE_RESULT``: nobody tells its end.
        :raises TransactionManagementError: in a transaction, which would never see it.
        """
        from partisan_async.ends import waiting

        waiting.wait(self, timeout_seconds)
        return self

    async def await_end(self, timeout_seconds: float | None = None) -> Self:
        """Wait until it has ended, from async code; else as ``wait``."""
        from partisan_async.ends import waiting

        await waiting.await_end(self, timeout_seconds)
        return self

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """Read it anew, by default from where it is from, and not from where reads go.

        So are the columns that a run reads when it asks for them: a replica may not have the row.
        """
        chosen = using or (self._state.db if from_queryset is None else None)
        super().refresh_from_db(using=chosen, fields=fields, from_queryset=from_queryset)

    @property
    def tick(self) -> datetime.datetime | None:
        """The moment that it stands for, where a ``SCHEDULE`` enqueued it; its retries keep it."""
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


class Supervisor(models.Model):
    """A running ``start_partisan``, alive as long as it keeps beating."""

    id = models.UUIDField(primary_key=True, help_text=_("fresh at every start"))
    hostname = models.CharField(max_length=255)
    process = always_read(
        models.JSONField(help_text=_("boot_id, pid_namespace, pid and started, where known"))
    )
    queue_name = models.CharField(max_length=255)
    started_at = always_read(models.DateTimeField(db_default=Now()))
    # Without an index on it a beat is a HOT update, and the table never grows.
    last_seen_at = always_read(models.DateTimeField(db_default=Now()))
    draining = models.BooleanField(
        db_default=False,
        help_text=_("was asked to start nothing more, and to end when all is done"),
    )
    stopping_since = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("since when it starts nothing more, and is about to end"),
        )
    )
    workers = always_read(
        models.JSONField(
            default=list,
            db_default=models.Value([], models.JSONField()),
            help_text=_("pid and tasks of each, as of last_seen_at"),
        )
    )

    def __str__(self) -> str:
        told = {"queue": self.queue_name, "host": self.hostname, "id": self.id}
        return gettext("%(queue)s on %(host)s (%(id)s)") % told


class Dashboard(Supervisor):
    """The dashboard's place in the admin's index; who may see tasks and supervisors may see it."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = verbose_name_plural = _("dashboard")


class PausedQueue(models.Model):
    """A queue of which nothing is started as long as this row is there; what runs goes on."""

    queue_name = models.CharField(max_length=255, primary_key=True)
    paused_at = always_read(models.DateTimeField(db_default=Now()))

    def __str__(self) -> str:
        return self.queue_name


class PausedProcessor(models.Model):
    """A processor of which nothing is started as long as this row says so; what runs goes on.

    Its tasks are *parked* meanwhile, see ``store.parking``. The row of a pause that is over stays
    until all of them are back.
    """

    id = models.BigAutoField(primary_key=True)
    processor_class = models.CharField(max_length=255)
    queue_name = models.CharField(max_length=255, blank=True, help_text=_("empty: in every queue"))
    paused_at = always_read(models.DateTimeField(db_default=Now()))
    resumed_at = always_read(models.DateTimeField(null=True, blank=True))

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["processor_class", "queue_name"], name="partisan_async_one_pause"
            ),
        ]

    def __str__(self) -> str:
        if not self.queue_name:
            return self.processor_class
        told = {"processor": self.processor_class, "queue": self.queue_name}
        return gettext("%(processor)s in queue %(queue)s") % told


class Home(models.Model):
    """Where this database belongs, in the one row of its table; see ``operate.home``."""

    id = models.SmallIntegerField(primary_key=True, db_default=1)
    name = models.CharField(max_length=255, blank=True, help_text=_("PARTISAN_HOME; empty: none"))
    server = models.CharField(
        max_length=32, blank=True, help_text=_("the server's system_identifier; empty: not known")
    )
    database = models.CharField(max_length=255, help_text=_("the database's name"))
    kept_at = always_read(models.DateTimeField(db_default=Now()))

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="partisan_async_one_home"),
        ]

    def __str__(self) -> str:
        return self.name or self.database


class Schedule(models.Model):
    """When the next task of a scheduled processor is due. Who moves that on enqueues the task."""

    processor_class = models.CharField(max_length=255, primary_key=True)
    queue_name = models.CharField(max_length=255)
    schedule = models.TextField(help_text=_("as the code of set_by has it"))
    enabled = models.BooleanField(db_default=True)
    last_tick = always_read(
        models.DateTimeField(null=True, blank=True, help_text=_("the last that came"))
    )
    next_tick = always_read(
        models.DateTimeField(
            null=True,
            blank=True,
            help_text=_("none while it is switched off, and until it is counted"),
        )
    )
    set_by = models.UUIDField(help_text=_("the supervisor whose code says when and in which queue"))

    def __str__(self) -> str:
        return f"{self.processor_class}: {self.schedule}"


class Tally(models.Model):
    """What one processor's tasks did in one minute, as supervisors add it up every few seconds."""

    id = models.BigAutoField(primary_key=True)
    minute = always_read(models.DateTimeField())
    queue_name = models.CharField(max_length=255)
    processor_class = models.CharField(max_length=255)
    finished = models.IntegerField(db_default=0)
    failed = models.IntegerField(db_default=0, help_text=_("ended in error"))
    retried = models.IntegerField(db_default=0)
    postponed = models.IntegerField(db_default=0)
    lost = models.IntegerField(db_default=0, help_text=_("runs whose worker process died"))
    run_seconds = models.FloatField(db_default=0.0, help_text=_("of all runs together"))
    longest_run_seconds = models.FloatField(db_default=0.0)
    wait_seconds = models.FloatField(
        db_default=0.0, help_text=_("of all runs together, from due to claimed")
    )
    longest_wait_seconds = models.FloatField(db_default=0.0)

    class Meta:
        verbose_name_plural = _("tallies")
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "queue_name", "processor_class"],
                name="partisan_async_one_tally",
            ),
        ]

    def __str__(self) -> str:
        told = {"processor": self.processor_class, "time": f"{self.minute:%H:%M}"}
        return gettext("%(processor)s at %(time)s") % told
