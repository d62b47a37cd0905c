"""The parent process: claims tasks, feeds workers with them, and writes what became of them."""
