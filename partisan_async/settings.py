"""The settings of a queue, looked up when they are asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

DEFAULT_QUEUE_NAME = "default"
CONFIG_NAME = "PARTISAN_CONFIG"


def count(least: int) -> Callable[[Any], str | None]:
    """Return a check that says what is wrong with a value as a whole number, ``None`` if
    nothing."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            return f"must be a whole number, {least} or more"
        return None

    return check


def seconds(least: float) -> Callable[[Any], str | None]:
    """Return a check that says what is wrong with a value as seconds, ``None`` if nothing."""

    def check(value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value < math.inf:
            return f"must be a number of seconds, {least:g} or more"
        return None

    return check


def or_none(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Return the same check, that lets ``None`` pass too."""

    def checked(value: Any) -> str | None:
        wrong = None if value is None else check(value)
        return wrong and f"{wrong}, or None"

    return checked


def flag(value: Any) -> str | None:
    """Say what is wrong with a value as a yes or no, ``None`` if nothing."""
    return None if isinstance(value, bool) else "must be True or False"


def _setting(default: Any, check: Callable[[Any], str | None]) -> Any:
    factory = default if callable(default) else lambda: default
    return field(default_factory=factory, metadata={"check": check})


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSettings:
    """What one queue runs with. docs/reference/settings.md describes each key."""

    MIN_QUEUE_SIZE: int = _setting(2, count(0))
    MAX_QUEUE_SIZE: int = _setting(10, count(1))
    CHECKS_BEFORE_CLEANUP: int = _setting(50, count(1))
    WORKERS_COUNT: int = _setting(lambda: os.cpu_count() or 1, count(1))
    SLEEP_DELAY_SECONDS: float = _setting(2, seconds(0.01))
    TASKS_PER_WORKER_INSTANCE: int | None = _setting(None, or_none(count(1)))
    DELETE_TASKS_ON_COMPLETE: bool = _setting(False, flag)
    DEFAULT_POSTPONE_DELAY_SECONDS: float = _setting(5, seconds(0))
    DEFAULT_POSTPONES_COUNT: int | None = _setting(15, or_none(count(0)))
    ASYNC_CONCURRENCY: int = _setting(10, count(1))
    SHUTDOWN_GRACE_SECONDS: float | None = _setting(25, or_none(seconds(0)))

    def wrongs(self) -> list[str]:
        """Return a sentence for each value that cannot be."""
        wrongs = [
            f"{each.name}={value!r} {wrong}."
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


def queue_settings(queue_name: str = DEFAULT_QUEUE_NAME) -> QueueSettings:
    """Return the settings of a queue.

    Each key is looked up in the queue's dict in ``PARTISAN_CONFIG``, then in the ``default``
    queue's, then among the flat settings, then here.

    :raises ImproperlyConfigured: a value cannot be; the system checks say the same.
    """
    resolved = _resolve(queue_name)
    if wrongs := resolved.wrongs():
        raise ImproperlyConfigured(f"Queue {queue_name!r}: {' '.join(wrongs)}")
    return resolved


def configured_queues() -> list[str]:
    """Return the names of the queues that ``PARTISAN_CONFIG`` names, the default one first."""
    names = [name for name in _config() if isinstance(name, str)]
    return [DEFAULT_QUEUE_NAME, *(name for name in names if name != DEFAULT_QUEUE_NAME)]


def problems() -> Iterator[str]:
    """Yield a sentence for everything that is wrong with the settings."""
    config = getattr(settings, CONFIG_NAME, {})
    if not isinstance(config, Mapping):
        yield (
            f"{CONFIG_NAME} is of type {type(config).__name__}; it must be a dict of queue names to"
            ' dicts of settings, such as {"default": {"WORKERS_COUNT": 4}}.'
        )
        return
    for queue_name, keys in config.items():
        if not isinstance(queue_name, str) or not isinstance(keys, Mapping):
            yield (
                f"{CONFIG_NAME}[{queue_name!r}] is {keys!r}; the key must be a queue name and the"
                ' value a dict of its settings, such as {"WORKERS_COUNT": 4}.'
            )
            return
        for key in keys:
            if key not in SETTING_NAMES:
                yield (
                    f"{CONFIG_NAME}[{queue_name!r}] has the unknown key {key!r}; known are"
                    f" {', '.join(SETTING_NAMES)}."
                )
    for queue_name in configured_queues():
        for wrong in _resolve(queue_name).wrongs():
            yield f"Queue {queue_name!r}: {wrong}"


def _resolve(queue_name: str) -> QueueSettings:
    config = _config()
    found: dict[str, Any] = {}
    for name in SETTING_NAMES:
        for layer in (config.get(queue_name), config.get(DEFAULT_QUEUE_NAME)):
            if isinstance(layer, Mapping) and name in layer:
                found[name] = layer[name]
                break
        else:
            if hasattr(settings, name):
                found[name] = getattr(settings, name)
    return QueueSettings(**found)


def _config() -> Mapping[Any, Any]:
    config = getattr(settings, CONFIG_NAME, {})
    return config if isinstance(config, Mapping) else {}
