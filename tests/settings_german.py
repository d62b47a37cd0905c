"""A German site, whose project has a translation of its own."""

import os

from tests.settings import *  # noqa: F403

LANGUAGE_CODE = "de"
LOCALE_PATHS = [os.environ["LOCALE"]]
