"""Where an error was raised, as the text of its traceback tells."""

from __future__ import annotations

import re
import sys

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


def innermost(traceback: object) -> str:
    """Return such as "shop/partisan_tasks.py:46 in run"; ``""``: it does not tell."""
    frames = _FRAME.findall(traceback) if isinstance(traceback, str) else []
    if not frames:
        return ""
    path, line, name = frames[-1]
    return f"{_short(path)}:{line} in {name}"


def _short(path: str) -> str:
    """Return the path as imports find it: the same on each host, and no longer than need be."""
    roots = (f"{root.rstrip('/')}/" for root in sys.path if root.startswith("/"))
    within = [path.removeprefix(root) for root in roots if path.startswith(root)]
    return min(within, key=len, default=path)
