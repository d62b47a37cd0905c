"""What a worker raises of a stored call that ``run()`` cannot be given."""

from __future__ import annotations

from typing import Any

from partisan_async.exceptions import PartisanException


class ArgumentsDoNotFit(PartisanException):
    """A stored call does not fit the signature of ``run()`` in this process."""

    def __init__(self, processor_name: str, message: str) -> None:
        super().__init__(
            f"{processor_name}: {message} The row may come from another version of the code."
        )
        self.processor_name = processor_name


class RowMissing(PartisanException):
    """A model instance that was passed to a task is not in its database any more.

    :param model: its label, such as ``shop.Order``.
    :param key: its primary key.
    :param database: the alias of the database that was asked.
    """

    def __init__(self, processor_name: str, model: str, key: Any, database: str) -> None:
        super().__init__(
            f"{processor_name}: {model} {key!r} was passed to the task, and is not in database"
            f" {database!r} any more."
        )
        self.processor_name = processor_name
        self.model = model
        self.key = key
        self.database = database
