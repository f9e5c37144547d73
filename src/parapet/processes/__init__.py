"""Child processes: a pool of workers that may die, a worker's own side, and the launcher of several at one work."""
