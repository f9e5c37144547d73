"""Attacks that follow the gradient inside a ball of fixed radius."""
