"""What the supervisor hands over to a worker at its start, as one text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.settings import QueueSettings


class Setup(NamedTuple):
    """What a worker must know and cannot find in its environment.

    :param databases: resolved settings per alias, so that under a test they are the test's.
    :param print_logs: print log lines where no logging is configured.
    :param supervisor_id: whose claims it runs.
    :param settings: the queue's.
    """

    databases: Mapping[str, Mapping[str, Any]]
    print_logs: bool
    supervisor_id: UUID
    settings: QueueSettings

    def encoded(self) -> bytes:
        """Return it as text for another process."""
        settings = dataclasses.asdict(self.settings)
        fields = [dict(self.databases), self.print_logs, self.supervisor_id, settings]
        return json.dumps(fields, default=str).encode()  # a name may be a path

    @classmethod
    def decoded(cls, text: bytes) -> Setup:
        """Return what ``encoded`` made the text of."""
        databases, print_logs, supervisor_id, settings = json.loads(text)
        return cls(databases, print_logs, UUID(supervisor_id), QueueSettings(**settings))
