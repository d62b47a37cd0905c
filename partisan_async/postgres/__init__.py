"""PostgreSQL and psycopg, and the one room that knows their insides. Knows nothing of tasks."""
