"""Attacks that ask for answers alone, and transfer from other networks."""
