"""The dry run: what a search will take, from timing a few candidates of its space."""
