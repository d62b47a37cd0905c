"""Finds in the text of a traceback where the error was raised."""

from __future__ import annotations

import re
import sys

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


def innermost(traceback: object) -> str:
    """Return the place, such as "shop/partisan_tasks.py:46 in run"; ``""``: it is unknown."""
    frames = _FRAME.findall(traceback) if isinstance(traceback, str) else []
    if not frames:
        return ""
    path, line, name = frames[-1]
    return f"{_short(path)}:{line} in {name}"


def _short(path: str) -> str:
    """Return the path relative to ``sys.path``: short, and the same on each host."""
    roots = (f"{root.rstrip('/')}/" for root in sys.path if root.startswith("/"))
    within = [path.removeprefix(root) for root in roots if path.startswith(root)]
    return min(within, key=len, default=path)
