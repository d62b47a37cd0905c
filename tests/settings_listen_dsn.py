import os

from tests.settings import *  # noqa: F403

LISTEN_DSN = os.environ["LISTEN_DSN"]
