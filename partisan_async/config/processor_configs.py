"""The two configs a processor class may carry, checked when they are made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from partisan_async.config import const
from partisan_async.exceptions import TEN_YEARS_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorsHandleConfig:
    """Which errors are tried again, how often, and after what pause.

    :param retry_on_errors: exception classes; their subclasses count too.
    :param retries_count: how many times the task may run again after its first try, 1 or more.
    :param retry_pause: seconds from the end of one try to the next.
    :param retry_pause_strategy: ``const.DELAY_STRATEGY_CONSTANT`` (the default): ``retry_pause``
        each time; ``const.DELAY_STRATEGY_INCREMENTAL``: ``retry_pause * n`` before the n-th retry.
    :raises ValueError: a parameter has another type or is out of range.
    """

    retry_on_errors: Iterable[type[Exception]]
    retries_count: int
    retry_pause: float
    retry_pause_strategy: const.DelayStrategy = const.DELAY_STRATEGY_CONSTANT

    def __post_init__(self) -> None:
        try:
            errors = tuple(self.retry_on_errors)
        except TypeError:
            errors = ()
        if not errors or not all(isinstance(e, type) and issubclass(e, Exception) for e in errors):
            raise ValueError(
                f"retry_on_errors={self.retry_on_errors!r} must be a list of one or more exception"
                " classes, such as [TimeoutError]."
            )
        object.__setattr__(self, "retry_on_errors", errors)
        _require_count("retries_count", self.retries_count, least=1)
        pause = self.retry_pause
        if (
            isinstance(pause, bool)
            or not isinstance(pause, int | float)
            or not (0 <= pause <= TEN_YEARS_SECONDS)
        ):
            raise ValueError(
                f"retry_pause={pause!r} must be a number of seconds, from 0 to ten years."
            )
        if self.retry_pause_strategy not in const.DELAY_STRATEGIES:
            raise ValueError(
                f"retry_pause_strategy={self.retry_pause_strategy!r} must be"
                " const.DELAY_STRATEGY_INCREMENTAL or const.DELAY_STRATEGY_CONSTANT of"
                " partisan_async.config."
            )

    def retries(self, error: BaseException) -> bool:
        """Tell whether a task is retried after this error."""
        return isinstance(error, tuple(self.retry_on_errors))

    def pause_seconds(self, retry: int) -> float:
        """Return the seconds to wait before the ``retry``-th retry, counted from 1."""
        match self.retry_pause_strategy:
            case const.DELAY_STRATEGY_CONSTANT:
                return self.retry_pause
            case const.DELAY_STRATEGY_INCREMENTAL:
                return self.retry_pause * retry
            case _:
                assert_never(self.retry_pause_strategy)


@dataclass(frozen=True, kw_only=True, slots=True)
class PostponeConfig:
    """How often a task may be postponed.

    :param max_postpones: takes the place of ``DEFAULT_POSTPONES_COUNT``. One postpone more ends
        the task in ``error`` with ``MaxPostponesReached``.
    :raises ValueError: ``max_postpones`` is not a whole number, 0 or more.
    """

    max_postpones: int

    def __post_init__(self) -> None:
        _require_count("max_postpones", self.max_postpones, least=0)


def _require_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number, {least} or more.")
