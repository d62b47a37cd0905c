"""The site as an ASGI application: ``uvicorn example_site.asgi:application``."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_site.settings")

application = get_asgi_application()
if settings.DEBUG:
    # The admin's style sheets; a real site leaves them to its web server.
    application = ASGIStaticFilesHandler(application)
