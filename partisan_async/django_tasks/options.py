"""The decorator that says how a task of Django's is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from partisan_async import validation
from partisan_async.config.complaints import complaints
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.declared import wrong_on_error
from partisan_async.django_tasks import functions
from partisan_async.django_tasks.backends import is_configured, is_ours
from partisan_async.django_tasks.chosen import refuse_unknown
from partisan_async.django_tasks.compat import Task
from partisan_async.django_tasks.finding import find_task
from partisan_async.django_tasks.fits import refuse_wrong_call
from partisan_async.enqueue.limits import BY_KEY
from partisan_async.enqueue.scheduled import wrong_schedules
from partisan_async.limits import Limit
from partisan_async.schedule import Cron, Every
from partisan_async.schedule import wrong as wrong_schedule
from partisan_async.unique import Unique

if TYPE_CHECKING:
    from partisan_async.processor import BaseTaskProcessor

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "_partisan_options"
"""The attribute of a task's function that has its options."""

SUBJECT = "subject_by"
"""The option, among the attributes of the task's processor, that says whose a call is."""

LIMIT_KEY = "limit_key_by"
"""Likewise, that says which key a call has under the task's limit."""


def options(
    *,
    retry_on_error: ErrorsHandleConfig | Sequence[ErrorsHandleConfig] | None = None,
    postpone: PostponeConfig | None = None,
    timeout_seconds: float | None = None,
    atomic: bool = False,
    unique: Unique | None = None,
    limit: Limit | None = None,
    on_error: type[BaseTaskProcessor] | Task[Any, Any] | None = None,
    schedule: str | Cron | Every | None = None,
    schedules: Mapping[str, str | Cron | Every] | None = None,
    subject: Callable[..., str | None] | None = None,
    limit_key: Callable[..., str | int | UUID | None] | None = None,
) -> Callable[[F], F]:
    """Say how a task is run: a decorator, to place below ``@task``. Other backends ignore it.

    The parameters are the ``RETRY_ON_ERROR_CONFIG``, ``POSTPONE_CONFIG``, ``TIMEOUT_SECONDS``,
    ``ATOMIC``, ``UNIQUE``, ``LIMIT``, ``ON_ERROR``, ``SCHEDULE`` and ``SCHEDULES`` of a processor;
    ``unique`` is by the function's parameters.

    :param on_error: a processor class or another task; its one argument is the failed one's id.
    :param schedule, schedules: their tasks are those that ``@task`` declares. Of their ticks one
        waits at most, unless ``catch_up`` or ``unique`` says otherwise.
    :param subject: returns whose task a call is, as ``task_subject()`` of a processor; it gets
        those parameters of the function that it names.
    :param limit_key: returns the key of a call under the limit, likewise.
    :raises TypeError: one of these cannot be, as for this function, or ``@task`` is below.
    """
    attributes = {
        "RETRY_ON_ERROR_CONFIG": retry_on_error,
        "POSTPONE_CONFIG": postpone,
        "TIMEOUT_SECONDS": timeout_seconds,
        "ATOMIC": atomic,
        "UNIQUE": unique,
        "LIMIT": limit,
        "ON_ERROR": on_error,
        "SCHEDULE": schedule,
        "SCHEDULES": {} if schedules is None else schedules,
        SUBJECT: subject,
        LIMIT_KEY: limit_key,
    }
    _refuse_values(attributes)

    def decorate(function: F) -> F:
        _refuse_function(function, attributes)
        setattr(function, _ATTRIBUTE, attributes)
        functions.keep(function)
        return function

    return decorate


def _refuse_values(attributes: Mapping[str, Any]) -> None:
    for (name, check), value in zip(_checks(), attributes.values(), strict=True):
        if wrong := check(value):
            raise TypeError(f"@options({name}={value!r}): it {wrong}.")
    _refuse_limit(attributes["LIMIT"], attributes[LIMIT_KEY])


def _checks() -> list[tuple[str, Callable[[Any], str | None]]]:
    return [
        ("retry_on_error", _check_retries),
        ("postpone", validation.check_instance_or_none(PostponeConfig)),
        ("timeout_seconds", validation.check_time_limit),
        ("atomic", validation.check_flag),
        ("unique", validation.check_unique),
        ("limit", validation.check_limit),
        ("on_error", _check_on_error),
        ("schedule", wrong_schedule),
        ("schedules", _left_to_the_function),
        ("subject", _check_asked("text")),
        ("limit_key", _check_asked("text, a whole number or a UUID")),
    ]


def _left_to_the_function(value: object) -> None:
    """Complain of nothing: ``_refuse_schedules`` does, name by name."""


def _refuse_limit(limit: Limit | None, limit_key: Any) -> None:
    if limit is None:
        if limit_key is not None:
            raise TypeError("@options(limit_key=…) is the key under a limit: give limit, too.")
        return
    if limit.in_order and limit.running_per_key is not None:
        raise TypeError(
            f"@options(limit={limit!r}): in_order, one task of a key runs at once; leave"
            " running_per_key out."
        )
    for part in BY_KEY:
        if getattr(limit, part) and limit_key is None:
            raise TypeError(
                f"@options(limit={limit!r}) has {part}, and no limit_key: give a function that"
                " returns the key of a call."
            )


def _refuse_function(function: Any, attributes: Mapping[str, Any]) -> None:
    if isinstance(function, Task):
        raise TypeError("@options(…) belongs below @task, next to the function.")
    if attributes["ATOMIC"] and iscoroutinefunction(function):
        raise TypeError(
            f"@options(atomic=True) needs a plain `def {function.__name__}(…)`: Django has no"
            " transactions in async code."
        )
    if (unique := attributes["UNIQUE"]) is not None:
        refuse_unknown(function, unique.by or (), "unique")
    for option, name in (("subject", SUBJECT), ("limit_key", LIMIT_KEY)):
        if (by := attributes[name]) is not None:
            refuse_unknown(function, names_asked_by(by), option)
    _refuse_schedules(function, attributes["SCHEDULES"])


def _refuse_schedules(function: Any, schedules: Any) -> None:
    name = functions.name_of(function)
    for wrong, way in wrong_schedules(schedules, name, "schedules"):
        raise TypeError(f"@options(schedules=…) of {function.__name__}: {wrong} {way}")


def _check_retries(value: Any) -> str | None:
    if wrong := validation.check_instances_or_none(ErrorsHandleConfig)(value):
        return wrong
    configs = value if isinstance(value, list | tuple) else [value]
    told = next(complaints([] if value is None else configs), None)
    return told and f"{told.wrong}. {told.hint.removesuffix('.')}"


def _check_on_error(value: Any) -> str | None:
    if not isinstance(value, Task):
        return wrong_on_error(value) and "must be a processor class, one of Django's tasks, or None"
    try:
        refuse_wrong_call(value, [1], {})
    except TypeError as error:
        return f"must take the id of a task alone: {str(error).removesuffix('.')}"
    return _check_as_declared(value)


def _check_as_declared(task: Task[Any, Any]) -> str | None:
    """Complain of a task that is enqueued otherwise than it says: by what ``@task`` declares."""
    # Where TASKS names no backend of ours, as in a site's tests, all of this is ignored.
    if is_configured() and not is_ours(task.backend):
        return f"must be a task of a PartisanBackend, and has backend={task.backend!r}"
    declared = find_task(task.module_path)
    if declared is not None and declared != task:
        return "must be a task as @task declares it, and nothing of using(…) is kept: leave it out"
    return None


def _check_asked(returned: str) -> Callable[[Any], str | None]:
    """Return a check: the complaint about a value that must be a function of a call, or ``None``.

    :param returned: what it returns.
    """

    def check(value: Any) -> str | None:
        if value is None:
            return None
        if not callable(value) or iscoroutinefunction(value):
            of = "must be a plain function of the task's parameters"
            return f"{of} that returns {returned}, or None"
        try:
            names_asked_by(value)
        except ValueError:
            return "must be a function that tells its parameters, such as a lambda"
        return None

    return check


def names_asked_by(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that a ``subject``, or a ``limit_key``, gets."""
    return list(signature(function).parameters)


def of_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a task's function, as a processor's attributes."""
    attributes: dict[str, Any] = getattr(function, _ATTRIBUTE, {})
    return attributes


def has_schedules(function: Callable[..., Any]) -> bool:
    """Tell whether the options of a task's function have schedules."""
    attributes = of_function(function)
    return attributes.get("SCHEDULE") is not None or bool(attributes.get("SCHEDULES"))
