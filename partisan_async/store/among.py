"""Narrows a statement to some of its rows.

One row that the database refuses makes the statement fail for all. So rows can be left out or taken
one by one, and the rows of paused processors can be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from partisan_async.store.statement import Statement


class Among(NamedTuple):
    """A condition that narrows the rows of a statement.

    :param but: ids of rows to leave out.
    :param only: id of the only row to take.
    :param paused: processors whose rows are left out.
    """

    but: Sequence[int] = ()
    only: int | None = None
    paused: Sequence[str] = ()

    def narrow(self, statement: Statement, name: str = "id") -> Statement:
        """Return the statement with this condition."""
        # Without a condition the statement stays the same text, and keeps its plan.
        others, params = "", statement.params
        if self.but:
            others = f"AND {name} <> ALL(%(but)s::bigint[])"
            params = params | {"but": list(self.but)}
        if self.only is not None:
            others += f" AND {name} = %(only)s"
            params = params | {"only": self.only}
        if self.paused:
            others += f" AND {name.removesuffix('id')}processor_class <> ALL(%(paused)s::text[])"
            params = params | {"paused": list(self.paused)}
        return Statement(statement.sql.replace("{others}", others), params)


ALL = Among()
