"""Masks secrets in texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MASK = "******"

EVERYTHING: Sequence[str] = ("",)
"""Stands for secrets that cannot be told: the mask takes the place of any text."""


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text with a mask in place of each secret.

    :param secrets: the longest first: one may be a part of another.
    """
    if secrets is EVERYTHING:
        return text and MASK
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
