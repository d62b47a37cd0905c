import os

from tests.settings import *  # noqa: F403

PARTISAN_HOME = os.environ.get("PARTISAN_HOME")
SHUTDOWN_GRACE_SECONDS = 600
