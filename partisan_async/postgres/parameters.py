"""How to reach the database that holds the tasks, beside the connections that Django manages."""

from __future__ import annotations

from typing import Any

from django.db import connections

from partisan_async import dsn


def parameters(alias: str, laid_over: str | None = None) -> dict[str, Any]:
    """Return the parameters that Django connects to a database with.

    :param laid_over: a connection string whose parts take the place of those parameters. With a
        host goes the port: that of another host says nothing of this one's.
    """
    params: dict[str, Any] = connections[alias].get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    if laid_over:
        parts = dsn.parse(laid_over)
        if parts.keys() & {"host", "hostaddr", "service"}:
            params = {key: params[key] for key in params if key not in ("host", "hostaddr", "port")}
        params |= parts
    return params
