"""Lays text out for a terminal: aligned columns, cut or folded to its width, and a progress bar."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from django.core.management.base import OutputWrapper

from partisan_async.text.printable import plain

SHORTEST_NAME = 8
"""Minimum width to which a column of names is cut."""

BAR = 30


class Cell(NamedTuple):
    """A text in a table, with one of Django's styles or none."""

    text: str
    style: Callable[[str], str] | None = None


def width(out: OutputWrapper) -> int | None:
    """Return the width of the terminal; ``None``: the output is no terminal, so do not cut."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def table(rows: Sequence[Sequence[Cell | str]], columns: int | None) -> Iterator[str]:
    """Yield lines of aligned cells; if they are too long, cut the first column."""
    cells = [
        [cell if isinstance(cell, Cell) else Cell(cell) for cell in map(_plain, row)]
        for row in rows
    ]
    widths = [max(_length(cell.text) for cell in column) for column in zip(*cells, strict=True)]
    if columns is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - columns
        widths[0] = max(min(widths[0], SHORTEST_NAME), widths[0] - max(0, over))
    for row in cells:
        yield _line(row, widths, columns)


def folded(text: str, indent: str, columns: int | None) -> str:
    """Return a text as lines; all but the first are indented."""
    if columns is None:
        return text
    # Do not break words: people copy commands from the output.
    return "\n".join(
        textwrap.wrap(
            text,
            columns,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def cut(text: str, columns: int | None) -> str:
    """Return a text, cut to at most this width."""
    if columns is None or _length(text) <= columns:
        return text
    while _length(text) > columns - 1:
        text = text[:-1]
    return text + "…"


class Progress:
    """A bar on a terminal, and nothing elsewhere."""

    def __init__(self, out: OutputWrapper, total: int, what: str) -> None:
        self._out = out
        self._total = total
        self._what = what
        self._done = 0
        self._shown = out.isatty() and total > 0

    def advance(self, count: int) -> None:
        """Add to the number of tasks that are done."""
        self._done += count
        if self._shown:
            # More tasks may match by now than were counted.
            full = min(BAR, BAR * self._done // self._total)
            bar = "█" * full + "░" * (BAR - full)
            said = f"{bar} {self._done:,} of {self._total:,} {self._what}"
            self._out.write(f"\r{cut(said, width(self._out))}\x1b[K", ending="")
            self._out.flush()

    def end(self) -> None:
        """End the line of the bar."""
        if self._shown and self._done:
            self._out.write("")


def number(count: int, what: str = "task") -> str:
    """Return a text like "2,500 tasks"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _plain(cell: Cell | str) -> Cell:
    text, style = cell if isinstance(cell, Cell) else (cell, None)
    return Cell(plain(text), style)


def _line(row: Sequence[Cell], widths: Sequence[int], columns: int | None) -> str:
    said, left = [], columns
    for place, (cell, room) in enumerate(zip(row, widths, strict=True)):
        last = place == len(row) - 1
        if left is not None and (room := min(room, left)) <= 0:
            break
        text = cut(cell.text, room if left is not None else None)
        pad = "" if last else " " * (room - _length(text) + 2)
        said.append((cell.style(text) if cell.style and text else text) + pad)
        if left is not None:
            left -= room + 2
    return "".join(said).rstrip()


def _length(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
