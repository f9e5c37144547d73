"""The dry run: estimates the time of a search from a few timed candidates of its space."""
