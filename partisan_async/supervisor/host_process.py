"""Identifies a supervisor's process and system, and proves that such a process is over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def identify_process() -> dict[str, Any]:
    """Return what distinguishes this process from all others; its pid alone if nothing else can."""
    pid = os.getpid()
    try:
        return {
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "pid_namespace": os.readlink("/proc/self/ns/pid"),
            "pid": pid,
            "started": start_time(pid),
        }
    except OSError:
        return {"pid": pid}


def is_gone(process: Any, mine: dict[str, Any]) -> bool:
    """Tell whether a process of this system is proven to be over; ``False`` if in doubt."""
    keys = ("boot_id", "pid_namespace")
    if not isinstance(process, dict):
        return False
    pid, recorded = process.get("pid"), process.get("started")
    # A number below 1 is not a process: kill() takes it for a group of processes.
    if not isinstance(pid, int) or pid < 1 or not isinstance(recorded, int | None):
        return False
    if any(key not in mine or process.get(key) != mine[key] for key in keys):
        return False
    try:
        # Not a look into /proc alone: mounted with hidepid, it hides other users' processes.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    started = start_time(pid)
    return None not in (started, recorded) and started != recorded


def start_time(pid: int) -> int | None:
    """Return when a process started, by its system's count; -1: it is over; ``None``: unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Field 22, counted after the command's name, which may contain anything (proc_pid_stat(5)).
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie runs nothing, though its parent has not collected it yet.
    return -1 if state in "ZX" else int(fields[18])
