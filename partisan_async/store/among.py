"""Which of the rows that a statement would take it may take.

One row that the database refuses spoils the statement for all. So rows can be left out or taken one
by one, and those of paused processors can be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from partisan_async.store.statement import Statement


class Among(NamedTuple):
    """Which of the rows that a statement would take it may take: what one refuses spoils all.

    :param but: all but these.
    :param only: this one, if it is among them.
    :param paused: none of these processors.
    """

    but: Sequence[int] = ()
    only: int | None = None
    paused: Sequence[str] = ()

    def narrow(self, statement: Statement, name: str = "id") -> Statement:
        """Return the statement for these rows alone."""
        # Without any the statement is the same as ever, and so is its plan.
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
