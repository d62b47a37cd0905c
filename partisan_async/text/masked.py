"""Masks secrets in texts."""

from __future__ import annotations

from collections.abc import Iterable

MASK = "******"


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text with a mask in place of each secret.

    :param secrets: the longest first: one may be a part of another.
    """
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
