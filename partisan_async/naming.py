"""What a processor is called on rows: by its ``NAME`` or its class's name, and by names of before.

Both attributes count only where the class itself has them. A subclass that inherited them would
take the rows of the class that it is made from.
"""

from __future__ import annotations

from typing import Any

LONGEST = 255
"""Maximum number of characters of the columns that hold names."""


def name_of(processor_class: type[Any]) -> str:
    """Return the name that rows of a processor get."""
    return processor_class.__dict__.get("NAME") or processor_class.__name__


def names_of(processor_class: type[Any]) -> tuple[str, ...]:
    """Return all names of a processor: that of new rows first, then those of before."""
    return name_of(processor_class), *processor_class.__dict__.get("ALSO_KNOWN_AS", ())


def checked_names(processor_class: type[Any]) -> tuple[str, ...]:
    """Return all names of a processor, as ``names_of``.

    :raises TypeError, ValueError: one of them cannot be; the message says which.
    """
    whose = processor_class.__name__
    own = processor_class.__dict__
    if (name := own.get("NAME")) is not None:
        _require_name(f"{whose}.NAME", name)
    before = own.get("ALSO_KNOWN_AS", ())
    if not isinstance(before, tuple | list):
        wish = f"write ({before!r},)" if isinstance(before, str) else "write a tuple of them"
        raise TypeError(f"{whose}.ALSO_KNOWN_AS is {before!r}, and takes several names; {wish}.")
    for position, each in enumerate(before):
        _require_name(f"{whose}.ALSO_KNOWN_AS[{position}]", each)
    names = names_of(processor_class)
    for position, each in enumerate(names):
        if each == names[0] and position:
            raise ValueError(
                f"{whose}.ALSO_KNOWN_AS has {each!r}, which is its name now; leave it out."
            )
        if each in names[:position]:
            raise ValueError(f"{whose}.ALSO_KNOWN_AS has {each!r} twice; leave one out.")
    return names


def _require_name(place: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(
            f"{place} is {name!r} of type {type(name).__name__}; it must be text of 1 to {LONGEST}"
            " characters, such as 'orders.SendMail'."
        )
    if not 1 <= len(name) <= LONGEST:
        raise ValueError(
            f"{place} has {len(name)} characters; it must be text of 1 to {LONGEST}, such as"
            " 'orders.SendMail'."
        )
    if not name.isprintable():  # NUL or half a surrogate pair, for two, cannot be stored
        raise ValueError(
            f"{place} is {name!r}, which has characters that cannot be printed; remove them."
        )
