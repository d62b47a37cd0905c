"""The *buffer*: claimed tasks that wait for a worker, by kind, each kind in its order.

It knows no worker, no clock and no database, so it can be tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from partisan_async.claim import Claim
from partisan_async.supervisor.kind import Kind


class Buffer:
    """Claims that wait, of one supervisor.

    :param kind_of: tells a claim's kind; ``None``: its processor is not known here.
    """

    def __init__(self, kind_of: Callable[[Claim], Kind | None]) -> None:
        self._kind_of = kind_of
        self._waiting: dict[Kind, list[Claim]] = {kind: [] for kind in Kind}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def claims(self) -> list[Claim]:
        """Return all claims that wait."""
        return list(chain(*self._waiting.values()))

    def of(self, kind: Kind) -> Sequence[Claim]:
        """Return the claims of a kind, in their order."""
        return self._waiting[kind]

    def add(self, claims: Iterable[Claim], *, first: bool = False) -> list[Claim]:
        """Add claims in the given order; return those whose kind is unknown.

        :param first: whether they go before the claims that wait.
        """
        added: dict[Kind, list[Claim]] = {kind: [] for kind in Kind}
        unknown: list[Claim] = []
        for claim in claims:
            kind = self._kind_of(claim)
            (unknown if kind is None else added[kind]).append(claim)
        for kind, waiting in self._waiting.items():
            waiting[0 if first else len(waiting) :] = [*added[kind], *(waiting if first else ())]
        return unknown

    def put_back(self, claims: Iterable[Claim]) -> None:
        """Put claims that a worker had and did not start back into their places."""
        for claim in claims:
            self._waiting[self._kind_of(claim) or Kind.SYNC].append(claim)
        for waiting in self._waiting.values():
            waiting.sort(key=_order)

    def kinds(self) -> list[Kind]:
        """Return the kinds that have waiting claims."""
        return [kind for kind, waiting in self._waiting.items() if waiting]

    def next_of(self, kinds: Iterable[Kind]) -> Kind:
        """Return the kind whose first claim comes before the first ones of the other kinds."""
        return min(kinds, key=lambda kind: _order(self._waiting[kind][0]))

    def remove(self, kind: Kind, count: int) -> None:
        """Remove the first claims of a kind: a worker has them."""
        del self._waiting[kind][:count]

    def drop(self, foreign: set[tuple[int, int]]) -> None:
        """Remove the claims of these ``(id, claim_seq)``."""
        for waiting in self._waiting.values():
            waiting[:] = [each for each in waiting if (each.id, each.claim_seq) not in foreign]

    def empty(self) -> list[Claim]:
        """Remove all claims, and return them."""
        claims = self.claims()
        for waiting in self._waiting.values():
            waiting.clear()
        return claims


def _order(claim: Claim) -> tuple[int, int]:
    return claim.priority, claim.id
