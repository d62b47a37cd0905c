"""A small Django site with procrastinate."""

from site_settings import *  # noqa: F403

INSTALLED_APPS += ["procrastinate.contrib.django", "procrastinate_site"]  # noqa: F405
