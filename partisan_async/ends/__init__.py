"""Waits for the ends of tasks, by NOTIFY: in code that blocks, and in coroutines."""
