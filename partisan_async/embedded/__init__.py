"""The private PostgreSQL of tests and demo, and the Django database of a URL.

Words used here. The *owner* is the process that starts a server. All of the server is in its
*folder*: ``data``, ``socket``, ``log``. The owner holds a *lock* (flock) on the folder, which the
kernel frees when the owner dies in whatever way; the next start sweeps folders that nobody holds.
"""

from partisan_async.embedded.command import OWN_URL, main
from partisan_async.embedded.server import EmbeddedPostgres
from partisan_async.embedded.url import django_database

__all__ = ["OWN_URL", "EmbeddedPostgres", "django_database", "main"]
