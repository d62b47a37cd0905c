"""A pytest plugin, loaded with ``-p``: the database that the tests run on.

``DATABASE_URL`` names it, or else a private server is started: early, since pytest-django reads the
settings, and they read ``DATABASE_URL``, before any conftest.py is imported.
"""

from __future__ import annotations

import os

import pytest

from partisan_async.embedded import EmbeddedPostgres

_server: EmbeddedPostgres | None = None

if "DATABASE_URL" not in os.environ:
    _server = EmbeddedPostgres()
    _server.start()
    os.environ["DATABASE_URL"] = _server.url


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if _server is not None:
        _server.stop()
