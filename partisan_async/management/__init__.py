"""The commands of ``manage.py`` and their parts."""
