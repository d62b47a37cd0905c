"""What an operator reads about tasks, queues and supervisors, from the tables."""
