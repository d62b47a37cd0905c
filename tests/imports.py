"""The imports of the package, as its files have them: at the top, lazily, and for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import partisan_async

PACKAGE = Path(partisan_async.__file__).parent
ROOT = PACKAGE.name


def name_of(path: Path) -> str:
    """Return a file's module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Return which modules of the package each of them imports, whenever and for whatever."""
    files = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    return {name: set(_imported(path, files)) - {name} for name, path in files.items()}


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield inner if inner in known else node.module


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for each in edges[node]:
            if each not in index:
                visit(each)
                low[node] = min(low[node], low[each])
            elif each in stack:
                low[node] = min(low[node], index[each])
        if low[node] == index[node]:
            at = stack.index(node)
            circle = set(stack[at:])
            del stack[at:]
            if len(circle) > 1:
                found.append(circle)

    for node in edges:
        if node not in index:
            visit(node)
    return found
