"""What a row tells about an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Chain = Sequence[Sequence[Any]]
"""An error, then the one behind it, and so on. Each is its class's dotted name, its message,
whether it is the ``__cause__`` of the one before (else its ``__context__``), and its frames, the
outermost first: file, line, function, module."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the row tells about an error.

    :param chain: the errors with their frames, for log handlers, see ``text.retold``; not on rows.
    """

    exception_class: str
    message: str
    traceback: str = ""
    chain: Chain = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the failure that stands for an exception that was made but never raised."""
        return cls(class_path(error), str(error))


def class_path(error: BaseException) -> str:
    """Return the dotted name of an error's class, as rows tell it."""
    return f"{type(error).__module__}.{type(error).__qualname__}"
