from tests.settings_long_grace import *  # noqa: F403

PRELOAD = False
