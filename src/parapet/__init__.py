"""Parapet: search image classifiers that are accurate, robust to attack and cheap to run."""

__version__ = "0.1.0"
