"""Waits for the ends of tasks, woken by NOTIFY: in blocking code and in coroutines."""
