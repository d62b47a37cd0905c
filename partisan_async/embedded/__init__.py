"""The private PostgreSQL of tests and demo, and the Django database of a URL.

Words: the *owner* is the process that starts a server. The server's *folder* has all its files:
``data``, ``socket``, ``log``. The owner holds a *lock* (flock) on the folder, which the kernel
frees when the owner dies in any way; the next start *sweeps* folders without a lock.
"""

from partisan_async.embedded.command import OWN_URL, main
from partisan_async.embedded.server import EmbeddedPostgres
from partisan_async.embedded.url import django_database

__all__ = ["OWN_URL", "EmbeddedPostgres", "django_database", "main"]
