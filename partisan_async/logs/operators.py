"""Lines about what people have done: by whom, to what, and what the database refused them."""

from __future__ import annotations

import logging
from typing import Any

from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain

logger = logging.getLogger("partisan_async")


def steered(action: str, things: str, by: str, way: str, about: dict[str, Any]) -> None:
    """Say what somebody had done.

    :param things: to what, in words.
    :param way: by which way they came, such as "admin".
    :param about: more for the record, such as ``task_ids``.
    """
    logger.info(
        "steered: %s %s, by %s (%s)",
        *(action, plain(things), plain(by), way),
        extra={"event": "steered", "action": action, "by": by, "way": way} | about,
    )


def refused(by: str, error: BaseException) -> None:
    """Say what the database says of what somebody wanted done in the admin."""
    logger.warning(
        "refused: what %s wanted done in the admin: %s",
        *(plain(by), plain(explain(error))),
        extra={"event": "refused", "by": by},
    )
