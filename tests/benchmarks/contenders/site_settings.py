"""What the Django sites of the contenders have in common."""

import os
from urllib.parse import parse_qs, urlsplit

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]

_url = urlsplit(os.environ["DATABASE_URL"])
_query = parse_qs(_url.query)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _query.get("host", [_url.hostname or ""])[0],
        "PORT": _query.get("port", [_url.port or ""])[0],
        # Persistent connections, unless the configuration is the default one.
        "CONN_MAX_AGE": 0 if os.environ.get("CONNECTIONS") == "default" else None,
    }
}
