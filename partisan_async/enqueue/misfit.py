"""What is wrong with a declaration of a processor, beside its ``run()``."""

from __future__ import annotations

from typing import NamedTuple


class Misfit(NamedTuple):
    """What is wrong, and the way out, as sentences."""

    wrong: str
    hint: str
