"""Judges a history by the rules of the promise: what was recorded in, a verdict out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from tests.faults.history import History, Record
from tests.faults.rules import RULES, Violation


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    :param runs: starts in the ledger.
    :param duplicates: runs of lost claims after which the task ran again, by how they were lost.
    :param kept_out: runs that ended under a claim that was rescued: they are on no row.
    :param given_up: innocent tasks that ended in error, having lost three workers alone.
    """

    violations: tuple[Violation, ...]
    tasks: int
    ended: Counter[str]
    runs: int
    duplicates: Counter[str]
    kept_out: int
    given_up: int

    @property
    def ok(self) -> bool:
        """Whether the promise was kept."""
        return not self.violations

    def __str__(self) -> str:
        lines = [
            "the promise was kept" if self.ok else f"{len(self.violations)} VIOLATION(S)",
            f"tasks: {self.tasks} ({_listed(self.ended)})",
            f"runs: {self.runs}, of which duplicates: {_listed(self.duplicates)}",
            f"runs that ended under a claim that was rescued: {self.kept_out}",
            f"innocent tasks given up: {self.given_up}",
        ]
        return "\n".join([*lines, *(f"  {violation}" for violation in self.violations)])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "none"


def judge(history: History) -> Verdict:
    """Return whether the promise was kept, with each rule that was broken and where."""
    record = Record(history)
    violations = []
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        violations += [replace(violation, rule=name) for violation in rule(record)]
    return Verdict(
        violations=tuple(violations),
        tasks=len(record.tasks),
        ended=Counter(row.state.status for row in record.rows.values()),
        runs=len(record.starts),
        duplicates=Counter(cause for _, _, cause in record.duplicates()),
        kept_out=sum(1 for claim in record.ends if record.fate(claim) == "rescued"),
        given_up=sum(1 for row in record.rows.values() if record.is_given_up(row)),
    )
