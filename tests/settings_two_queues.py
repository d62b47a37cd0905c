from tests.settings import *  # noqa: F403

PARTISAN_CONFIG = {"default": {"WORKERS_COUNT": 2}, "elsewhere": {"WORKERS_COUNT": 1}}
