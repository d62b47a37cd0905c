"""What type checkers tell of calls of a ``TaskProcessor``; checked by ``nox -s types``, never run.

Each ``type: ignore`` is a call that must be refused: with it unused, mypy fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, assert_type
from uuid import UUID

from partisan_async.processor import BaseTaskProcessor
from partisan_async.task_processor import TaskProcessor

T = TypeVar("T")
ORDER = UUID(int=1)


class Pay(TaskProcessor):
    def run(self, order: UUID, *, at: datetime | None = None) -> int:
        return 1

    def task_subject(self, order: UUID) -> str:
        return f"order:{order}"


class PayLater(Pay): ...


class Fetch(TaskProcessor):
    async def run(self, url: str, /, retries: int = 3) -> None: ...


class Sum(TaskProcessor):
    def run(self, *numbers: int, **labels: str) -> None: ...


class Tick(TaskProcessor):
    def run(self) -> None: ...


class Handle(TaskProcessor, Generic[T]):
    def run(self, item: T) -> None: ...


class HandleNumber(Handle[int]): ...


class Untyped(BaseTaskProcessor):
    def run(self) -> None: ...


assert_type(Pay(ORDER), Pay)
assert_type(PayLater(ORDER, at=None), PayLater)
assert_type(Pay(order=ORDER).run(ORDER), int)
Pay(ORDER).delay(priority=3, subject="customer:42")
Fetch("https://example.com", retries=1)
Sum(1, 2, label="x")
Tick().delay()
HandleNumber(5).delay()
Untyped(1, any_="thing").delay()
Pay.bulk_delay([Pay(ORDER), PayLater(ORDER)], queue_name="mail")
TaskProcessor.bulk_delay([Pay(ORDER), Tick(), Fetch("https://example.com")])
BaseTaskProcessor.bulk_delay([Pay(ORDER), Tick(), Untyped()])


def enqueue(calls: Sequence[TaskProcessor]) -> None:
    for call in calls:
        call.delay()


enqueue([Pay(ORDER), Tick()])


def make(processor: type[TaskProcessor], *args: Any) -> TaskProcessor:
    return processor(*args)


make(Pay, ORDER)

Pay()  # type: ignore[call-arg]
Pay("5")  # type: ignore[arg-type]
Pay(ORDER, ta=None)  # type: ignore[call-arg]
Pay(ORDER, None)  # type: ignore[call-arg]
PayLater("5")  # type: ignore[arg-type]
Fetch(url="x")  # type: ignore[call-arg]
Sum("x")  # type: ignore[arg-type]
Sum(1, label=2)  # type: ignore[arg-type]
Tick(5)  # type: ignore[call-arg]
HandleNumber("x")  # type: ignore[arg-type]
Pay.bulk_delay([Pay(ORDER), Tick()])  # type: ignore[list-item]
TaskProcessor.bulk_delay([Tick(), Untyped()])  # type: ignore[list-item]
Tick().delay(queue_name=5)  # type: ignore[arg-type]
