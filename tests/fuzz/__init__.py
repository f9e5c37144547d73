"""Hostile input, case by case: `python -m tests.fuzz`, or `make fuzz`. See `__main__` for how to call it."""
