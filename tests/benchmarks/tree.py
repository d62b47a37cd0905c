"""What a tree of processes costs: CPU and memory, as the system counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil


def cpu_seconds(*roots: int) -> float:
    """Return the CPU time of these processes, of their children and of those that ended."""
    total = 0.0
    for process in _trees(roots):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_megabytes(*roots: int) -> float:
    """Return the memory of these processes and their children; what they share is split up."""
    kilobytes = 0
    for process in _trees(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


def _trees(roots: tuple[int, ...]) -> Iterator[psutil.Process]:
    for root in roots:
        with suppress(psutil.Error):
            process = psutil.Process(root)
            yield process
            yield from process.children(recursive=True)
