"""Options of the database, from the environment."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"]["OPTIONS"] |= json.loads(os.environ.get("DATABASE_OPTIONS", "{}"))
DEBUG = "DEBUG" in os.environ
USE_TZ = "NAIVE" not in os.environ
TIME_ZONE = "Asia/Tokyo"
WORKERS_COUNT = 1
