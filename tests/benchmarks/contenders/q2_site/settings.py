"""A small Django site with django-q2."""

import os

from site_settings import *  # noqa: F403

INSTALLED_APPS += ["django_q"]  # noqa: F405
Q_CLUSTER = {"name": "bench", "orm": "default", "workers": 2, "timeout": 60, "retry": 120}
if os.environ.get("TUNED"):
    Q_CLUSTER |= {"poll": 0.01, "bulk": 50, "queue_limit": 500, "save_limit": -1}
