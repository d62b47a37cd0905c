"""What only the worker can say of an error: which config fits it, and what its function answers.

Jitter is drawn here, too, once: the supervisor writes, and receivers of signals are told, the same
pause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from partisan_async import registry
from partisan_async.claim import Claim
from partisan_async.config.drawing import drawn
from partisan_async.config.processor_configs import (
    ErrorsHandleConfig,
    first_fit,
    is_pause,
    name_of,
)
from partisan_async.declared import errors_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Failure, Fit, Raised
from partisan_async.text.masked import without
from partisan_async.text.printable import storable
from partisan_async.text.retold import MESSAGE_LENGTH
from partisan_async.worker.failure import TRACEBACK_LENGTH, failure_of

if TYPE_CHECKING:
    from partisan_async.models import Task

SHOWN_LENGTH = 100
"""Maximum length of what is shown of an answer that is no pause."""


def asks(processor_name: str) -> bool:
    """Tell whether a processor has a function for its pauses: it may block."""
    try:
        processor_class = registry.get(processor_name)
    except ProcessorClassNotFound:
        return False
    return any(callable(config.retry_pause) for config in errors_of(processor_class))


def after_error(
    claim: Claim,
    error: BaseException,
    secrets: Sequence[str],
    row: Callable[[], Task],
    ran_seconds: float,
) -> Raised:
    """Return the outcome of a run that raised an error.

    :param secrets: texts that are masked in what is told.
    :param row: returns the task's row, for a function to look at.
    :param ran_seconds: how long the run took.
    """
    failure = failure_of(error, secrets)
    configs = errors_of(registry.get(claim.processor_class))
    place = first_fit(configs, error)
    if place is None:
        return Raised(failure)
    config = configs[place]
    fit = Fit(place, ran_seconds, drawn()) if config.jitter else Fit(place, ran_seconds)
    is_last = config.retries_count is not None and claim.tries >= config.retries_count
    if callable(config.retry_pause) and not is_last:
        return _asked(config, fit, failure, error, secrets, row)
    return Raised(failure, fit)


def _asked(
    config: ErrorsHandleConfig,
    fit: Fit,
    failure: Failure,
    error: BaseException,
    secrets: Sequence[str],
    row: Callable[[], Task],
) -> Raised:
    """Ask the config's function; where it has no answer, the failure tells so."""
    function: Any = config.retry_pause
    try:
        answer = function(error, row())
    except BaseException as trouble:  # noqa: BLE001  it is the project's, and may raise anything
        trouble.__suppress_context__ = True  # it is the error of the run, which is told already
        own = failure_of(trouble, secrets)
        what = f"raised {own.exception_class}: {own.message}"
        return Raised(_with(failure, function, what, own.traceback), fit)
    if answer is None:
        return Raised(failure, fit)
    if is_pause(answer):
        return Raised(failure, replace(fit, asked_seconds=float(answer)))
    what = f"returned {_shown(answer, secrets)}, and not a number of seconds up to ten years"
    return Raised(_with(failure, function, what), fit)


def _with(failure: Failure, function: Any, what: str, traceback: str = "") -> Failure:
    """Return the failure of a run, which tells as well what is wrong with a function."""
    told = f"retry_pause={name_of(function)} {what}"
    message = f"{failure.message} ({storable(told)})".strip()[:MESSAGE_LENGTH]
    if traceback:
        # Before the run's own: where that was raised is looked for at the end.
        both = f"{traceback}\nThat was retry_pause, asked about:\n\n{failure.traceback}"
        return replace(failure, message=message, traceback=both[-TRACEBACK_LENGTH:])
    return replace(failure, message=message)


def _shown(answer: object, secrets: Sequence[str]) -> str:
    try:
        return without(secrets, repr(answer))[:SHOWN_LENGTH]
    except BaseException:  # noqa: BLE001  likewise
        return f"a {type(answer).__name__}"
