"""The data that a supervisor passes to each worker at its start."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.settings import QueueSettings


class Setup(NamedTuple):
    """What a worker must know and cannot find in its environment.

    :param databases: the supervisor's resolved settings, by alias: in a test, the test databases.
    :param print_logs: print log lines if no logging is configured.
    :param supervisor_id: the supervisor whose claims the worker runs.
    :param settings: settings of the queue.
    """

    databases: Mapping[str, Mapping[str, Any]]
    print_logs: bool
    supervisor_id: UUID
    settings: QueueSettings

    def encoded(self) -> bytes:
        """Return the setup as bytes for another process."""
        settings = dataclasses.asdict(self.settings)
        fields = [dict(self.databases), self.print_logs, self.supervisor_id, settings]
        return json.dumps(fields, default=str).encode()  # default: a database name may be a Path

    @classmethod
    def decoded(cls, text: bytes) -> Setup:
        """Return the setup that ``encoded`` returned as bytes."""
        databases, print_logs, supervisor_id, settings = json.loads(text)
        return cls(databases, print_logs, UUID(supervisor_id), QueueSettings(**settings))
