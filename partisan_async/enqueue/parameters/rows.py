# ruff: noqa: SLF001  _meta, _state and _base_manager are documented in spite of their names
"""Stores a model instance by its key, and fetches it fresh for a run.

Only the key is stored, or ``{"database": …, "key": …}`` if the database may be another than
``default``: by routers, or by what the instance says. A key that was stored without a database is
one of the database that the model is written to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model

from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE
from partisan_async.exceptions import RowMissing


class Key(NamedTuple):
    """Which row of which database."""

    model: type[Model]
    database: str
    pk: Any


class UnsavedError(ValueError):
    """An instance has no row, or a key that cannot be read."""


def key_of(instance: Model) -> Key:
    """Return the key of the row that an instance is saved in.

    :raises UnsavedError: it is not saved.
    """
    model = instance.__class__  # not type(): a lazy object stands for what it wraps
    if instance.pk is None or instance._state.adding:
        raise UnsavedError(
            f"{model.__name__} that is not saved; save it before the call is enqueued"
        )
    database = router.db_for_write(model, instance=instance)
    try:
        return Key(model, database, _read_pk(model, _fields_of(instance.pk)))
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:  # a field's to_python() may raise anything
        raise UnsavedError(f"{model.__name__} whose key {instance.pk!r} is not valid") from error


def stored_key(key: Key) -> Any:
    """Return the key as plain JSON values."""
    pk = msgspec.to_builtins(key.pk)
    # A worker's routers may answer otherwise than those of the caller, whose tenant they go by.
    if key.database == DEFAULT_DB_ALIAS and not router.routers:
        return pk
    return {"database": key.database, "key": pk}


def read_key(model: type[Model], stored: Any) -> Key:
    """Return the key that was stored.

    :raises ValueError: it is not a key of this model.
    """
    database = router.db_for_write(model)
    if isinstance(stored, dict):
        if stored.keys() != {"database", "key"} or stored["database"] not in connections:
            raise ValueError("no key")
        database, stored = stored["database"], stored["key"]
    if stored is None or isinstance(stored, bool | float | dict):
        raise ValueError("no key")
    if isinstance(stored, list) and len(model._meta.pk_fields) == 1:
        raise ValueError("no key")
    try:
        return Key(model, database, _read_pk(model, _fields_of(stored)))
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:  # a field's to_python() may raise anything
        raise ValueError("no key") from error


def fetch(processor_name: str, keys: set[Key]) -> dict[Key, Model]:
    """Return the rows of these keys, by one query for each model and database.

    :raises RowMissing: one of them does not exist.
    """
    found: dict[Key, Model] = {}
    for model, database in {(key.model, key.database) for key in keys}:
        wanted = {key.pk: key for key in keys if (key.model, key.database) == (model, database)}
        # The base manager: the default one may leave out rows, such as archived ones.
        rows = model._base_manager.using(database)
        for row in rows.filter(pk__in=list(wanted)):
            found[wanted[_read_pk(model, _fields_of(row.pk))]] = row
        for pk, key in wanted.items():
            if key not in found:
                raise RowMissing(processor_name, model._meta.label, pk, database)
    return found


def _fields_of(pk: Any) -> list[Any]:
    """Return the values of a key; a composite key has several."""
    return list(pk) if isinstance(pk, list | tuple) else [pk]


def _read_pk(model: type[Model], values: list[Any]) -> Any:
    fields = model._meta.pk_fields
    read = tuple(field.to_python(value) for field, value in zip(fields, values, strict=True))
    return read if len(fields) > 1 else read[0]
