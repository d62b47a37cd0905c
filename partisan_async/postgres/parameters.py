"""Parameters to connect to a database of Django without Django."""

from __future__ import annotations

from typing import Any

from django.db import connections

from partisan_async import dsn


def parameters(alias: str, laid_over: str | None = None) -> dict[str, Any]:
    """Return the parameters that Django connects to a database with.

    :param laid_over: a connection string whose parts replace those parameters. If it names a host,
        Django's port is dropped, too: it belongs to another host.
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
