"""The child processes: the worker, and the forkserver that forks it."""
