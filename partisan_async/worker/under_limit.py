"""Asks which limit a task starts under, where its row does not say it and its processor has one.

Such rows come from those who know no limit of it: a web process of an older release, or of the code
before the ``LIMIT``; or from a supervisor, where only project code knows the key. They do not run,
but wait for that limit; each is asked for once, since the row says it then.
"""

from __future__ import annotations

from typing import Any

from partisan_async import registry
from partisan_async.claim import Claim
from partisan_async.enqueue import limits
from partisan_async.enqueue.parameters import parameters_of
from partisan_async.policy import Limited
from partisan_async.worker.loading import processor_of, take_call


def lacks_limit(claim: Claim, kind: type[Any]) -> bool:
    """Tell whether a processor has a limit that the row of a claim does not say."""
    return kind.LIMIT is not None and claim.limit_name is None


def limit_of(claim: Claim, encoded: str) -> Limited | None:
    """Return what such a task waits for; ``None``: its run has nothing to do.

    :raises TypeError, ValueError: the ``LIMIT`` cannot be, or ``limit_key()`` raised, or returned
        what is no key.
    :raises ArgumentsDoNotFit, RowMissing, SessionLost: as for a run.
    """
    # Another one than that which runs: its arguments are decoded here.
    processor = processor_of(claim, encoded)
    kind: Any = type(processor)
    limits.refuse_wrong(kind)
    key = None
    if limits.has_keys(kind):
        parameters = parameters_of(kind)
        if parameters is not None and take_call(claim, processor, parameters) is None:
            return None
        key = limits.key_of(processor)
    name = limits.name_of(kind.LIMIT, registry.lasting_name(claim.processor_class))
    return Limited(name, key, bool(kind.LIMIT.in_order))
