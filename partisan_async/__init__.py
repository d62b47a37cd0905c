"""Background tasks for Django that need nothing but PostgreSQL."""

__version__ = "0.1.0"
