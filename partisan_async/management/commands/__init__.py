"""The modules that Django finds as commands of ``manage.py``."""
