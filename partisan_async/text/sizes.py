"""Words an amount of memory for people."""

from __future__ import annotations


def megabytes(size: int | None) -> str:
    """Return bytes in megabytes, such as "58 MB"; "-" for ``None``."""
    return "-" if size is None else f"{size / 1e6:,.0f} MB"
