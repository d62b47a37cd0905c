"""What an operator reads: what the tables tell of tasks, queues and supervisors."""
