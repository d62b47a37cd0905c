"""Compares a typed call with an untyped one, in pairs: bound, checked and encoded, no database.

Run it with ``python -m tests.benchmarks.calls``; it needs no server.
"""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable

CALLS = 500
PAIRS = 300


class Pay:
    """What the typed calls are for."""

    def run(self, order: int, currency: str) -> None:
        """Do nothing."""


def main() -> None:
    """Print nanoseconds of both, at their best, and the median of the pairs' ratios."""
    os.environ.setdefault("DATABASE_URL", "postgresql:///types")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from partisan_async.enqueue import arguments
    from partisan_async.enqueue.parameters import parameters_of

    typed = parameters_of(Pay)
    assert typed is not None
    encode = typed.encode
    for args, kwargs in [
        ((5, "eur"), {}),
        ((5,), {"currency": "eur"}),
        ((), {"order": 5, "currency": "eur"}),
    ]:
        pairs = [
            (
                _seconds(lambda a=args, k=kwargs: arguments.encode(a, k)),
                _seconds(lambda a=args, k=kwargs: encode(a, k)),
            )
            for _ in range(PAIRS)
        ]
        ratios = sorted(new / old for old, new in pairs)
        old, new = (min(each) / CALLS * 1e9 for each in zip(*pairs, strict=True))
        print(f"{args} {kwargs}: {old:.0f} ns untyped, {new:.0f} typed, {ratios[PAIRS // 2]:.2f}")


def _seconds(call: Callable[[], str]) -> float:
    return timeit.timeit(call, number=CALLS)


if __name__ == "__main__":
    main()
