"""Lines about what operators do: who did what to which things, and what the database refused."""

from __future__ import annotations

import logging
from typing import Any

from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain

logger = logging.getLogger("partisan_async")


def steered(action: str, things: str, by: str, way: str, about: dict[str, Any]) -> None:
    """Say what somebody did.

    :param things: what they did it to, in words.
    :param way: where they did it: "admin", "command" or "code".
    :param about: more for the record, such as ``task_ids``.
    """
    logger.info(
        "steered: %s %s, by %s (%s)",
        *(action, plain(things), plain(by), way),
        extra={"event": "steered", "action": action, "by": by, "way": way} | about,
    )


def refused(by: str, error: BaseException) -> None:
    """Say why the database refused what somebody wanted to do in the admin.

    With PostgreSQL's detail, which the page does not show.
    """
    logger.warning(
        "refused: the database refused what %s did in the admin: %s",
        *(plain(by), plain(explain(error))),
        extra={"event": "refused", "by": by},
    )
