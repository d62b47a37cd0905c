"""Judges a history by the rules of limits, and tells the most that there was of everything."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.faults.history import History, Record
from tests.faults.limited.liveness import Wait, waits
from tests.faults.limited.record import Circumstances
from tests.faults.limited.rules import RULES, Figures
from tests.faults.rules import Violation

WAITED_SECONDS = 1.0
"""No open key waits longer while a worker is free; a sample's time is added."""

LONGEST = 10
"""So many waits are told."""


@dataclass(frozen=True, slots=True)
class LimitsVerdict:
    """What the rules found.

    :param waits: the longest waits of open keys beside a free worker.
    """

    violations: tuple[Violation, ...]
    figures: Figures
    waits: tuple[Wait, ...]
    allowed: Circumstances

    @property
    def ok(self) -> bool:
        """Whether all limits were kept."""
        return not self.violations

    @property
    def is_lively(self) -> bool:
        """Whether no open key waited for long. That depends on the machine, too."""
        return all(wait.seconds <= WAITED_SECONDS + 0.5 for wait in self.waits)

    def __str__(self) -> str:
        lines = ["all limits were kept" if self.ok else f"{len(self.violations)} OF LIMITS"]
        figures = self.figures
        for name in sorted(figures.starts):
            limit = self.allowed.limits[name]
            of_key = 1 if limit.in_order else limit.running_per_key
            lines.append(
                f"  {name}: {figures.starts[name]} starts; at once claimed {figures.claimed[name]},"
                f" ran {figures.ran[name]} of {limit.running}; of a key claimed"
                f" {figures.claimed_of_a_key[name]}, ran {figures.ran_of_a_key[name]} of {of_key}"
            )
        for rate, (most, allowed) in sorted(figures.in_windows.items()):
            lines.append(f"  {rate}: {most} of {allowed}")
        listed = ", ".join(f"{count} x {what}" for what, count in figures.zombies.items())
        lines.append(f"  zombies: {listed or 'none'}")
        beside = ", ".join(f"{count} of {name}" for name, count in figures.beside_zombies.items())
        lines.append(f"  starts beside zombies that made it too many: {beside or 'none'}")
        lines.append(
            f"  overrides: {len(self.allowed.overrides)}; pauses of keys:"
            f" {len(self.allowed.pauses)}"
        )
        lines.append(f"  open keys' longest waits in calm: {_told(self.waits)}")
        return "\n".join([*lines, *(f"  {violation}" for violation in self.violations)])


def _told(longest: tuple[Wait, ...]) -> str:
    told = [
        f"{each.seconds:.2f} s ({each.key[0]}, {each.key[1]}, task {each.task}, {each.until:%X})"
        for each in longest
    ]
    return ", ".join(told) or "none"


def judge_limits(history: History, around: Circumstances) -> LimitsVerdict:
    """Return whether limits were kept, with each rule that was broken and where."""
    record, figures = Record(history), Figures()
    violations: list[Violation] = []
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        found = rule(record, around, figures)
        violations += [replace(violation, rule=name) for violation in found]
    longest = sorted(waits(record, around), reverse=True)[:LONGEST]
    return LimitsVerdict(tuple(violations), figures, tuple(longest), around)
