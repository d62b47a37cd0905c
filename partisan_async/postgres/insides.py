"""The undocumented parts of psycopg that the fast ways use; the plain ways do without them.

It is looked at once, when a connection is there to look with. Where something is gone, or takes
other arguments, that is said once, and the plain ways are taken from then on.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg

from partisan_async import logs

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

CHANGED = (AttributeError, TypeError, ValueError)
"""What it raises to use something that is not as it was."""

fit: bool | None = None
"""Whether they are as the fast ways need them; ``None``: nobody has looked. See ``look``."""


def _found(module: str) -> Any:
    """Return a module of psycopg's; ``None``: it is gone."""
    with suppress(ImportError):
        return import_module(f"psycopg.{module}")


generators = _found("generators")
waiting = _found("waiting")
Transformer: Any = getattr(_found("adapt"), "Transformer", None)
error_from_result: Any = getattr(_found("errors"), "error_from_result", None)


def look(pgconn: PGconn) -> bool:
    """Tell whether the fast ways can be taken: looks at what they use, and sends nothing."""
    global fit
    if fit is None:
        try:
            # Generators: each is made, and none begins.
            for kind in ("send", "fetch", "fetch_many", "execute"):
                getattr(generators, kind)(pgconn).close()
            transformer = Transformer()
            _ = transformer.set_pgresult, transformer.load_rows, error_from_result.__call__
            _ = psycopg.Connection.wait, psycopg.ClientCursor.mogrify, pgconn.send_query
        except CHANGED as error:
            give_up(error)
        else:
            fit = True
    return bool(fit)


def give_up(error: BaseException) -> None:
    """Take the plain ways from now on, and say why."""
    global fit
    if fit is not False:
        fit = False
        logs.database.works_plainly(error)
