"""A site that reads from a replica, which lags."""

from tests.settings import *  # noqa: F403

DATABASE_ROUTERS = ["tests.replica.Router"]
