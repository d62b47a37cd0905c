"""Lines go to a log server at ``LOG_SERVER``, too."""

import os

from tests.settings import *  # noqa: F403

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "server": {
            "class": "logging.handlers.HTTPHandler",
            "host": os.environ["LOG_SERVER"],
            "url": "/",
        },
    },
    "loggers": {"partisan_async": {"handlers": ["console", "server"], "level": "INFO"}},
}
