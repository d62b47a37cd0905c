from tests.settings import *  # noqa: F403

SHUTDOWN_GRACE_SECONDS = 600
