"""Enqueues calls by one release: ``python -m tests.releases.enqueue COUNT``."""

import sys

import django

django.setup()

from tests.releases.partisan_tasks import Pay, calls  # noqa: E402

Pay.bulk_delay(calls(int(sys.argv[1])))
