"""The option ``--subject``: whose tasks are meant."""

from __future__ import annotations

import argparse
from typing import Any

from partisan_async.enqueue.subjects import checked


def add_subject(parser: argparse.ArgumentParser, about: str, **how: Any) -> None:
    """Add the option to a subcommand."""
    parser.add_argument("--subject", type=_subject, metavar="SUBJECT", help=about, **how)


def _subject(text: str) -> str | None:
    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
