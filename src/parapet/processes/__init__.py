"""Child processes: a pool of workers that may die, the worker process itself, and a launcher of process groups."""
