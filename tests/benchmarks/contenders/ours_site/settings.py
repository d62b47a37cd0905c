"""A small Django site with partisan_async."""

import json
import os

from site_settings import *  # noqa: F403

INSTALLED_APPS += ["partisan_async", "ours_site"]  # noqa: F405
PARTISAN_CONFIG = {"default": json.loads(os.environ.get("CONFIGURATION", "{}"))}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)-7s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "partisan_async": {
            "handlers": ["stderr"],
            "level": os.environ.get("LOG_LEVEL", "INFO"),
        }
    },
}
