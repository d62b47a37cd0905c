"""The undocumented parts of psycopg that the fast ways use; the plain ways do without them.

They are checked once, when there is a connection to check them with. If one is gone, or takes other
arguments, that is logged once, and the plain ways are used from then on.
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
"""Errors that show that an undocumented part has changed."""

fit: bool | None = None
"""True if the parts are as the fast ways need them; ``None``: not checked yet, see ``look``."""


def _found(module: str) -> Any:
    """Return a module of psycopg's; ``None``: it is gone."""
    with suppress(ImportError):
        return import_module(f"psycopg.{module}")


generators = _found("generators")
waiting = _found("waiting")
Transformer: Any = getattr(_found("adapt"), "Transformer", None)
error_from_result: Any = getattr(_found("errors"), "error_from_result", None)


def look(pgconn: PGconn) -> bool:
    """Tell whether the fast ways can be used: checks the parts they need, and sends nothing."""
    global fit
    if fit is None:
        try:
            # Make each generator, but do not start it.
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
    """Use the plain ways from now on, and log why."""
    global fit
    if fit is not False:
        fit = False
        logs.database.works_plainly(error)
