"""Mends the tasks whose state the table's constraints refuse, and has PostgreSQL check the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import Error, transaction

from partisan_async import store
from partisan_async.enqueue.run import fetch, run
from partisan_async.postgres.blame import is_of_some_rows
from partisan_async.steering import audit
from partisan_async.store.mending import MENDED_AT_ONCE
from partisan_async.text.one_line import explain


@dataclass
class Mended:
    """What became of the tasks and of the constraints.

    :param ids: the tasks that were set right.
    :param left: the tasks that were not, and why.
    :param valid: the constraints that PostgreSQL checked, and that all rows keep.
    :param refused: the constraints that PostgreSQL did not check, and why.
    """

    ids: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    valid: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def mend() -> Mended:
    """Set tasks right, a thousand in a transaction; then have the constraints checked."""
    mended = Mended()
    behind = -(2**63)
    while ids := [pk for (pk,) in fetch(*store.broken(behind, MENDED_AT_ONCE))]:
        behind = ids[-1]
        _mend(ids, mended)
    audit.put_down("mend", mended.ids, ids=mended.ids)
    for name in sorted(name for name, is_valid in fetch(*store.constraints()) if not is_valid):
        try:
            with transaction.atomic(using=store.database()):
                run(*store.validate(name))
            mended.valid.append(name)
        except Error as error:
            mended.refused[name] = explain(error)
    return mended


def _mend(ids: Sequence[int], mended: Mended) -> None:
    """Mend these tasks; where one is refused, mend them in halves until that one is alone."""
    try:
        with transaction.atomic(using=store.database()):
            done = [pk for (pk,) in fetch(*store.mend(ids))]
    except Error as error:
        if not is_of_some_rows(error.__cause__ or error):
            raise
        if len(ids) == 1:
            mended.left[ids[0]] = explain(error)
            return
        middle = len(ids) // 2
        _mend(ids[:middle], mended)
        _mend(ids[middle:], mended)
        return
    mended.ids += done
    mended.left |= dict.fromkeys(set(ids) - set(done), "another transaction has it locked")
