from tests.settings import *  # noqa: F403

WORKERS_COUNT = 1
ASYNC_CONCURRENCY = 20_001
