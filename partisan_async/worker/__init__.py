"""The child process: what runs in a worker, and in the forkserver that it comes from."""
