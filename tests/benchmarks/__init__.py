"""What it costs to run a task, here and with others, measured side by side on one PostgreSQL."""
