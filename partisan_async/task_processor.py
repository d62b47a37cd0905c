"""A base class that lets type checkers hold each call against ``run()``; it adds nothing else."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self

from partisan_async.processor import BaseTaskProcessor

P = ParamSpec("P")

MYPY = False
"""What mypy takes for true; no other type checker does."""


class _Runs(Protocol[P]):
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class TaskProcessor(BaseTaskProcessor):
    """A task's code, whose calls mypy and pyright check: ``Pay(5)`` against ``run(self, order)``.

    Derive from it, write ``run()`` with typed parameters, register it, and ``delay()`` its calls.
    """

    # mypy binds the parameters of run() in __new__() alone, and pyright in __init__() alone, if
    # what is made is to be of the derived class for both.
    if MYPY:

        def __new__(  # type: ignore[misc,unused-ignore]
            cls: type[_Runs[P]], *args: P.args, **kwargs: P.kwargs
        ) -> TaskProcessor: ...

    elif TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...

        def __init__(self: _Runs[P], *args: P.args, **kwargs: P.kwargs) -> None: ...

    @abc.abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work, with the values of the call. It may be ``async def``."""
