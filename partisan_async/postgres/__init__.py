"""Talks to PostgreSQL and psycopg, and alone knows their internals. Knows nothing of tasks."""
