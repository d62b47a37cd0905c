"""Which queues and processors a user sees in the admin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, replace

from django.db.models import Q

from partisan_async import registry
from partisan_async.naming import name_of
from partisan_async.operate.overview import PauseState, QueueState, SupervisorState, WorkerState


@dataclass(frozen=True)
class Scope:
    """What a user sees: tasks that are in one of these queues and of one of these processors.

    :param queues: names; ``None``: all.
    :param processors: names; ``None``: all.
    """

    queues: Collection[str] | None = None
    processors: Collection[str] | None = None

    def __post_init__(self) -> None:
        """Refuse a string in place of a collection: its letters would be taken for names.

        :raises TypeError: a field is a string.
        """
        for field in ("queues", "processors"):
            if isinstance(name := getattr(self, field), str):
                raise TypeError(
                    f"Scope({field}={name!r}) is one name, and should be several: write"
                    f" Scope({field}={{{name!r}}})."
                )

    @property
    def is_whole(self) -> bool:
        """True if nothing is hidden."""
        return self.queues is None and self.processors is None

    @property
    def condition(self) -> Q:
        """The condition for visible rows that have a queue and a processor."""
        return self.of_queues & _among("processor_class", self.names)

    @property
    def names(self) -> Collection[str] | None:
        """The names of the visible processors, former ones too; ``None``: all."""
        if self.processors is None:
            return None
        return {name for each in self.processors for name in registry.discovered_names(each)}

    @property
    def of_queues(self) -> Q:
        """The condition for visible rows that have a queue."""
        return _among("queue_name", self.queues)

    def has_queue(self, name: str) -> bool:
        """True if at least some of a queue's tasks are visible."""
        return self.queues is None or name in self.queues

    def has_all_of_queue(self, name: str) -> bool:
        """True if all of a queue's tasks are visible, so that it may be counted and paused."""
        return self.processors is None and self.has_queue(name)

    def has_processor(self, name: str) -> bool:
        """True if at least some of a processor's tasks are visible."""
        return self.processors is None or name in (self.names or ())

    def has_all_of_processor(self, name: str) -> bool:
        """True if a processor's tasks are visible in all queues, so that it may be paused."""
        return self.queues is None and self.has_processor(name)

    def known(self, ran: Iterable[str]) -> set[str]:
        """Return the names of the processors with visible tasks, as far as this process knows.

        :param ran: names of processors that ran lately in visible queues.
        """
        ours = (name_of(each) for each in registry.processors() if self.has_queue(each.QUEUE_NAME))
        now = {registry.names(name)[0] for name in (*ours, *ran)}
        return {name for name in now if self.has_processor(name)}

    def has_pause(self, pause: PauseState, known: Set[str]) -> bool:
        """True if a processor's pause holds back visible tasks.

        :param known: the result of ``known()``: a pause in every queue may concern only another
            team's processor.
        """
        if not self.has_processor(pause.processor):
            return False
        if pause.queue_name:
            return self.has_queue(pause.queue_name)
        return self.queues is None or not known.isdisjoint(registry.names(pause.processor))

    def of(self, queues: Iterable[QueueState]) -> list[QueueState]:
        """Return the queues whose tasks are all visible."""
        return [each for each in queues if self.has_all_of_queue(each.name)]

    def among(self, supervisors: Iterable[SupervisorState]) -> list[SupervisorState]:
        """Return the supervisors of visible queues, without hidden tasks."""
        return [
            replace(each, workers=[self._worker(worker) for worker in each.workers])
            for each in supervisors
            if self.has_queue(each.queue_name)
        ]

    def _worker(self, worker: WorkerState) -> WorkerState:
        tasks = [run for run in worker.tasks if self.has_processor(run.processor)]
        return replace(worker, tasks=tasks)


EVERYTHING = Scope()


def _among(column: str, names: Collection[str] | None) -> Q:
    return Q() if names is None else Q(**{f"{column}__in": list(names)})
