"""A router whose replica must not be asked by the package: what that reads is to be true now."""

from __future__ import annotations

import sys
from pathlib import Path

import django

import partisan_async

PACKAGE = str(Path(partisan_async.__file__).parent)
DJANGO = str(Path(django.__file__).parent)


class ReplicaAsked(BaseException):
    """The package's code read from where reads go."""


class Router:
    def db_for_read(self, model, **hints):
        """Let everybody read from the replica, which here is the same database, but not us."""
        frame = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(PACKAGE) and model._meta.app_label == "partisan_async":
                raise ReplicaAsked(f"{model.__name__} by {file}:{frame.f_lineno}")
            if not file.startswith(DJANGO):
                break
            frame = frame.f_back
        return
