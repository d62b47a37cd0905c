"""The settings of a queue: their defaults, the checks of their values, and where they are read.

They are read when they are needed, never at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from partisan_async.validation import (
    check_connection_string,
    check_count,
    check_flag,
    check_or_none,
    check_queue_name,
    check_seconds,
    check_workers,
)

DEFAULT_QUEUE_NAME = "default"

MAX_ARGUMENTS_BYTES = 2**20
SMALL_ARGUMENTS_BYTES = 1024
"""Every queue accepts arguments up to this size, so that its settings need not be read."""

CONFIG_NAME = "PARTISAN_CONFIG"
HOME_NAME = "PARTISAN_HOME"


def _setting(default: Any, check: Callable[[Any], str | None], *, secret: bool = False) -> Any:
    factory = default if callable(default) else lambda: default
    return field(default_factory=factory, metadata={"check": check}, repr=not secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSettings:
    """The settings of one queue. docs/reference/settings.md describes each key."""

    MIN_QUEUE_SIZE: int = _setting(2, check_count(0))
    MAX_QUEUE_SIZE: int = _setting(10, check_count(1))
    CHECKS_BEFORE_CLEANUP: int = _setting(50, check_count(1))
    WORKERS_COUNT: int | tuple[int, int] = _setting(
        lambda: os.cpu_count() or 1, check_workers("(0, 4)")
    )
    PRELOAD: bool = _setting(True, check_flag)
    SLEEP_DELAY_SECONDS: float = _setting(2, check_seconds(0.01))
    TASKS_PER_WORKER_INSTANCE: int | None = _setting(None, check_or_none(check_count(1)))
    DELETE_TASKS_ON_COMPLETE: bool = _setting(False, check_flag)
    MAX_ARGUMENTS_BYTES: int = _setting(MAX_ARGUMENTS_BYTES, check_count(SMALL_ARGUMENTS_BYTES))
    MAX_RESULT_BYTES: int = _setting(2**20, check_count(1))
    KEEP_FINISHED_SECONDS: float | None = _setting(None, check_or_none(check_seconds(0)))
    KEEP_FAILED_SECONDS: float | None = _setting(None, check_or_none(check_seconds(0)))
    DEFAULT_POSTPONE_DELAY_SECONDS: float = _setting(5, check_seconds(0))
    DEFAULT_POSTPONES_COUNT: int | None = _setting(15, check_or_none(check_count(0)))
    DEFAULT_TIMEOUT_SECONDS: float | None = _setting(None, check_or_none(check_seconds(0.01)))
    ASYNC_CONCURRENCY: int = _setting(10, check_count(1))
    SHUTDOWN_GRACE_SECONDS: float | None = _setting(25, check_or_none(check_seconds(0)))
    LISTEN_DSN: str | None = _setting(None, check_or_none(check_connection_string), secret=True)

    @property
    def least_workers(self) -> int:
        """How many worker processes there are in any case."""
        count = self.WORKERS_COUNT
        return count if isinstance(count, int) else count[0]

    @property
    def most_workers(self) -> int:
        """How many there are while tasks wait."""
        count = self.WORKERS_COUNT
        return count if isinstance(count, int) else count[1]

    def wrongs(self) -> list[str]:
        """Return a sentence for each wrong value."""
        wrongs = [
            f"{each.name}={repr(value) if each.repr else '***'} {wrong}."
            for each in fields(self)
            if (wrong := each.metadata["check"](value := getattr(self, each.name)))
        ]
        if not wrongs and self.MIN_QUEUE_SIZE > self.MAX_QUEUE_SIZE:
            wrongs.append(
                f"MIN_QUEUE_SIZE={self.MIN_QUEUE_SIZE!r} must not be above"
                f" MAX_QUEUE_SIZE={self.MAX_QUEUE_SIZE!r}: a buffer is refilled at the one, up to"
                " the other."
            )
        return wrongs


SETTING_NAMES = tuple(each.name for each in fields(QueueSettings))


def queue_settings(name: str = DEFAULT_QUEUE_NAME) -> QueueSettings:
    """Return the settings of a queue.

    Each key is looked up in the queue's dict in ``PARTISAN_CONFIG``, then in that of the queue
    ``default``, then as a Django setting of its own, then among the defaults here.

    :raises ImproperlyConfigured: a value is wrong; the system checks say the same.
    """
    resolved = _resolve(name)
    if wrongs := resolved.wrongs():
        raise ImproperlyConfigured(f"Queue {name!r}: {' '.join(wrongs)}")
    return resolved


def on_a_shared_host(name: str, resolved: QueueSettings) -> QueueSettings:
    """Return the settings of a queue beside others in one process.

    Where nothing says how many workers it has, it has none while it is idle.
    """
    if _look_up(_config(), name, "WORKERS_COUNT", _UNSET) is not _UNSET:
        return resolved
    return replace(resolved, WORKERS_COUNT=(0, os.cpu_count() or 1))


def most_arguments_bytes(name: str) -> int:
    """Return a queue's ``MAX_ARGUMENTS_BYTES``, without reading its other settings."""
    most: int = _look_up(_config(), name, "MAX_ARGUMENTS_BYTES", MAX_ARGUMENTS_BYTES)
    return most


def configured_queues() -> list[str]:
    """Return the names of the queues in ``PARTISAN_CONFIG``, the default one first."""
    names = [name for name in _config() if isinstance(name, str)]
    return [DEFAULT_QUEUE_NAME, *(name for name in names if name != DEFAULT_QUEUE_NAME)]


def task_backends() -> list[Mapping[Any, Any]]:
    """Return what ``TASKS`` says of each backend; what is no dict is Django's to tell of."""
    configured = getattr(settings, "TASKS", None)
    backends = configured.values() if isinstance(configured, Mapping) else ()
    return [each for each in backends if isinstance(each, Mapping)]


def problems() -> Iterator[str]:
    """Yield a sentence for everything that is wrong with the settings."""
    if wrong := _wrong_home(getattr(settings, HOME_NAME, None)):
        yield wrong
    config = getattr(settings, CONFIG_NAME, {})
    if not isinstance(config, Mapping):
        yield (
            f"{CONFIG_NAME} is of type {type(config).__name__}; it must be a dict of queue names to"
            ' dicts of settings, such as {"default": {"WORKERS_COUNT": 4}}.'
        )
        return
    for name, keys in config.items():
        if not isinstance(name, str) or not isinstance(keys, Mapping):
            yield (
                f"{CONFIG_NAME}[{name!r}] is of type {type(keys).__name__}; the key must be a queue"
                ' name and the value a dict of its settings, such as {"WORKERS_COUNT": 4}.'
            )
            return
        if wrong := check_queue_name(name):
            yield f"{CONFIG_NAME} has the key {name!r}, which {wrong}."
        for key in keys:
            if key not in SETTING_NAMES:
                yield (
                    f"{CONFIG_NAME}[{name!r}] has the unknown key {key!r}; known are"
                    f" {', '.join(SETTING_NAMES)}."
                )
    for name in configured_queues():
        for wrong in _resolve(name).wrongs():
            yield f"Queue {name!r}: {wrong}"


def home() -> str | None:
    """Return the name of this site's home; see ``partisan_async.steering.home``.

    :raises ImproperlyConfigured: the setting is not a name.
    """
    value = getattr(settings, HOME_NAME, None)
    if wrong := _wrong_home(value):
        raise ImproperlyConfigured(wrong)
    return cast("str | None", value)


def _wrong_home(value: Any) -> str | None:
    wrong = check_or_none(check_queue_name)(value)
    return wrong and f'{HOME_NAME}={value!r} {wrong}; such as "production".'


def _resolve(name: str) -> QueueSettings:
    config = _config()
    looked_up = {key: _look_up(config, name, key, _UNSET) for key in SETTING_NAMES}
    return QueueSettings(**{key: each for key, each in looked_up.items() if each is not _UNSET})


_UNSET: Any = object()


def _look_up(config: Mapping[Any, Any], name: str, key: str, default: Any) -> Any:
    for layer in (config.get(name), config.get(DEFAULT_QUEUE_NAME)):
        if isinstance(layer, Mapping) and key in layer:
            return layer[key]
    return getattr(settings, key, default)


def _config() -> Mapping[Any, Any]:
    config = getattr(settings, CONFIG_NAME, {})
    return config if isinstance(config, Mapping) else {}
