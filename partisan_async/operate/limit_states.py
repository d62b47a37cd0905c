"""Limits and their keys as an operator reads them, each at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext

from partisan_async.text import moments
from partisan_async.text.durations import in_words

Pairs = Sequence[tuple[int, float]]
"""Rates: so many starts within so many seconds."""


@dataclass(frozen=True)
class LimitState:
    """A limit at one moment.

    :param declared: how many may run at once, as the code says; ``None``: any number.
    :param waiting, keys: number of tasks that wait, and of their keys, up to the limits of the
        count.
    :param override: how many may run at once, as an operator says; ``None``: as the code does.
    :param overridden_keys: number of keys for which an operator says another number.
    :param paused_keys: number of keys of which nothing starts until some time, as a task asked.
    :param rated_until: when its rates allow the next start; ``None``: now.
    :param known: whether a supervisor has written what it allows; before that nothing starts.
    :param ranked: false while its tasks are put into another order; until then nothing starts.
    """

    name: str
    running: int
    declared: int | None
    waiting: int
    keys: int
    running_per_key: int | None
    rates: Pairs
    rates_per_key: Pairs
    in_order: bool
    override: int | None
    overridden_keys: int
    paused_keys: int
    rated_until: datetime | None
    known: bool
    ranked: bool

    @property
    def most(self) -> int | None:
        """How many may run at once; ``None``: any number."""
        return self.declared if self.override is None else self.override

    @property
    def allows(self) -> str:
        """What the code allows, in words."""
        return ", ".join(self._parts()) or gettext("turns for keys")

    @property
    def overrides(self) -> str:
        """What an operator allows instead, in words; empty: nothing."""
        parts = []
        if self.override == 0:
            parts.append(gettext("closed"))
        elif self.override is not None:
            parts.append(gettext("%(count)s at once") % {"count": f"{self.override:,}"})
        if self.overridden_keys:
            parts.append(gettext("keys: %(count)s") % {"count": f"{self.overridden_keys:,}"})
        return ", ".join(parts)

    @property
    def next_start(self) -> str:
        """When the next task may start, as far as all keys are concerned, in words."""
        if not self.known:
            return gettext("when a supervisor has its numbers")
        if not self.ranked:
            return gettext("when its tasks are in order")
        return _next_start(self.waiting, self.running, self.most, self.rated_until)

    def _parts(self) -> Iterator[str]:
        if self.declared is not None:
            yield gettext("%(count)s at once") % {"count": f"{self.declared:,}"}
        if self.running_per_key is not None:
            yield gettext("%(count)s of a key") % {"count": f"{self.running_per_key:,}"}
        if self.in_order:
            yield gettext("in order")
        yield from told_rates(self.rates)
        for each in told_rates(self.rates_per_key):
            yield gettext("%(rate)s of a key") % {"rate": each}


@dataclass(frozen=True)
class KeyState:
    """A key of a limit at one moment.

    :param most: how many of it may run at once; ``None``: any number.
    :param waiting: number of its tasks that wait, up to ``counted``.
    :param override: how many may run, as an operator says; ``None``: as the code does.
    :param paused_until: nothing of it starts before; ``None``: it is not paused.
    :param rated_until: when its rates allow the next start; ``None``: now.
    """

    key: str
    running: int
    most: int | None
    waiting: int
    counted: int
    override: int | None
    paused_until: datetime | None
    rated_until: datetime | None

    @property
    def next_start(self) -> str:
        """When its next task may start, as far as the key is concerned, in words."""
        if self.paused_until is not None and self.override != 0:
            moment = moments.told(self.paused_until, timezone.now())
            return gettext("paused until %(moment)s") % {"moment": moment}
        return _next_start(self.waiting, self.running, self.most, self.rated_until)


@dataclass(frozen=True)
class Keys:
    """The fullest keys of a limit, and how many there are besides."""

    keys: list[KeyState]
    more: int


def told_rates(rates: Iterable[tuple[int, float]]) -> Iterator[str]:
    """Yield each rate in words."""
    for count, seconds in rates:
        yield gettext("%(count)s in %(time)s") % {"count": f"{count:,}", "time": window(seconds)}


def window(seconds: float) -> str:
    """Return the length of a rate's window in words; it may be a part of a second."""
    if seconds < 10 and seconds % 1:
        return gettext("%(seconds)s seconds") % {"seconds": f"{seconds:g}"}
    return in_words(seconds)


def _next_start(waiting: int, running: int, most: int | None, rated: datetime | None) -> str:
    if most == 0:
        return gettext("closed")
    if not waiting:
        return "-"
    if most is not None and running >= most:
        return gettext("when one ends")
    if rated is not None and rated > timezone.now():
        return gettext("rate: %(moment)s") % {"moment": moments.told(rated, timezone.now())}
    return gettext("now")
