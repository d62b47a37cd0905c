"""The two configs a processor class may carry, checked when they are made."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from partisan_async.config import const
from partisan_async.config.pauses import MIDDLE, jittered, nth_pause
from partisan_async.exceptions import TEN_YEARS_SECONDS

PauseFunction = Callable[[Any, Any], float | None]
"""Says from the error and the task's row how many seconds to wait; ``None``: ``or_seconds``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorsHandleConfig:
    """Which errors are tried again, how often or how long, and after what pause.

    The pauses before the first seven retries, in seconds, with ``retry_pause=10``:

    ====================================  ====  ====  ====  ====  ====  ====  ====
    ``DELAY_STRATEGY_CONSTANT``             10    10    10    10    10    10    10
    ``DELAY_STRATEGY_INCREMENTAL``          10    20    30    40    50    60    70
    ``DELAY_STRATEGY_EXPONENTIAL``          10    20    40    80   160   320   640
    the same with ``max_pause=100``         10    20    40    80   100   100   100
    the same with ``jitter=0.5``, least      5    10    20    40    50    50    50
    the same with ``jitter=0.5``, most      15    30    60   120   150   150   150
    ====================================  ====  ====  ====  ====  ====  ====  ====

    :param retry_on_errors: exception classes; their subclasses count too.
    :param retries_count: how many times the task may run again after its first try, 1 or more;
        ``None``: as often as it fits into ``give_up_after_seconds``. All tries of the task count,
        whatever errors they ended with.
    :param retry_pause: seconds from the end of one try to the next. Or a function of the error and
        the task's row that returns them, called in the worker: the strategy does not change its
        answer, and only ``max_pause`` limits it.
    :param retry_pause_strategy: the pause before the n-th retry.
        ``const.DELAY_STRATEGY_CONSTANT`` (the default): ``retry_pause`` each time.
        ``const.DELAY_STRATEGY_INCREMENTAL``: ``retry_pause * n``.
        ``const.DELAY_STRATEGY_EXPONENTIAL``: ``retry_pause * 2 ** (n - 1)``.
    :param max_pause: maximum of that; ``None``: ten years.
    :param jitter: a part of that, 0 to 1: each pause is drawn from ``pause * (1 - jitter)`` to
        ``pause * (1 + jitter)``, so that tasks which failed together do not come again together.
    :param or_seconds: the pause where the function gives none: it returned ``None``, raised, or
        was not called because the worker was killed for a time limit.
    :param give_up_after_seconds: maximum time from the start of the first try to a retry;
        ``None``: no limit.
    :raises ValueError: a parameter has another type or is out of range.
    """

    retry_on_errors: Iterable[type[Exception]]
    retries_count: int | None = None
    retry_pause: float | PauseFunction
    retry_pause_strategy: const.DelayStrategy = const.DELAY_STRATEGY_CONSTANT
    max_pause: float | None = None
    jitter: float = 0
    or_seconds: float | None = None
    give_up_after_seconds: float | None = None

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
        self._require_an_end()
        self._require_a_pause()
        if self.retry_pause_strategy not in const.DELAY_STRATEGIES:
            raise ValueError(
                f"retry_pause_strategy={self.retry_pause_strategy!r} must be"
                " const.DELAY_STRATEGY_INCREMENTAL, const.DELAY_STRATEGY_CONSTANT or"
                " const.DELAY_STRATEGY_EXPONENTIAL of partisan_async.config."
            )
        if not _is_number(self.jitter, most=1):
            raise ValueError(
                f"jitter={self.jitter!r} must be a number from 0 to 1, the part of the pause by"
                " which it may be shorter or longer."
            )

    def _require_an_end(self) -> None:
        if self.retries_count is None and self.give_up_after_seconds is None:
            raise ValueError(
                "retries_count=None would try again for ever: pass how often, or how long by"
                " give_up_after_seconds, or both."
            )
        if self.retries_count is not None:
            _require_count("retries_count", self.retries_count, least=1)
        if self.give_up_after_seconds is not None:
            _require_seconds("give_up_after_seconds", self.give_up_after_seconds)

    def _require_a_pause(self) -> None:
        if callable(self.retry_pause):
            if self.or_seconds is None:
                raise ValueError(
                    f"or_seconds=None beside the function retry_pause={name_of(self.retry_pause)}:"
                    " pass the pause for when it has no number, as after a time limit that killed"
                    " the worker."
                )
            _require_seconds("or_seconds", self.or_seconds)
        else:
            _require_seconds("retry_pause", self.retry_pause)
            if self.or_seconds is not None:
                raise ValueError(
                    f"or_seconds={self.or_seconds!r} is for a retry_pause that is a function, and"
                    f" this one is {self.retry_pause!r}: leave it out."
                )
        if self.retries_count is None and not self._plain_pause:
            raise ValueError(
                "retries_count=None beside a pause of 0 would try again without a break until"
                " give_up_after_seconds is over: pass a pause, or how often."
            )
        if self.max_pause is not None:
            _require_seconds("max_pause", self.max_pause)
            if self.max_pause < self._plain_pause:
                raise ValueError(
                    f"max_pause={self.max_pause!r} must not be less than the pause itself,"
                    f" {self._plain_pause!r}."
                )

    def retries(self, error: BaseException) -> bool:
        """Tell whether a task is retried after this error."""
        return isinstance(error, tuple(self.retry_on_errors))

    def pause_seconds(self, retry: int, drawn: float = MIDDLE) -> float:
        """Return the seconds to wait before the ``retry``-th retry, counted from 1.

        :param drawn: where in the range of the jitter it is: 0 is its least, 1 its most.
        """
        pause = nth_pause(self.retry_pause_strategy, self._plain_pause, retry)
        return min(jittered(self.capped(pause), self.jitter, drawn), TEN_YEARS_SECONDS)

    def capped(self, seconds: float) -> float:
        """Return these seconds, or ``max_pause`` if they are more."""
        return min(seconds, TEN_YEARS_SECONDS if self.max_pause is None else self.max_pause)

    def pause_told(self, *, asked: bool = False) -> str:
        """Return how the pause comes about, in the words of the declaration.

        :param asked: it is the number of the function.
        """
        named = (
            ("max_pause", self.max_pause),
            ("jitter", None if asked else self.jitter or None),
        )
        more = [f"{name}={value:g}" for name, value in named if value is not None]
        if callable(self.retry_pause):
            if asked:
                return ", ".join([f"retry_pause={name_of(self.retry_pause)}", *more])
            first = f"or_seconds={self._plain_pause:g}"
        else:
            first = f"retry_pause={self._plain_pause:g}"
        return ", ".join([first, *_GROWTH[self.retry_pause_strategy], *more])

    @property
    def _plain_pause(self) -> float:
        if callable(self.retry_pause):
            assert self.or_seconds is not None
            return self.or_seconds
        return self.retry_pause


_GROWTH: dict[str, tuple[str, ...]] = {
    const.DELAY_STRATEGY_CONSTANT: (),
    const.DELAY_STRATEGY_INCREMENTAL: ("incremental",),
    const.DELAY_STRATEGY_EXPONENTIAL: ("exponential",),
}


def first_fit(configs: Sequence[ErrorsHandleConfig], error: BaseException) -> int | None:
    """Return the place of the first config that tries again on this error; ``None``: none does."""
    for place, config in enumerate(configs):
        if config.retries(error):
            return place
    return None


def name_of(function: Callable[..., Any]) -> str:
    """Return how a function is told of, in ASCII: by its dotted name, if it has one."""
    name = getattr(function, "__qualname__", None)
    told = f"{function.__module__}.{name}" if isinstance(name, str) else repr(function)
    # Rows keep it, whatever the database's encoding is.
    return told.encode("ascii", "backslashreplace").decode()[:200]


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


def _require_seconds(name: str, value: object) -> None:
    if not is_pause(value):
        raise ValueError(f"{name}={value!r} must be a number of seconds, from 0 to ten years.")


def is_pause(value: object) -> bool:
    """Tell whether something is a number of seconds that a task can be put off by."""
    return _is_number(value, most=TEN_YEARS_SECONDS)


def _is_number(value: object, *, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
