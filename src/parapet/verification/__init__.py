"""Verifies stored files: the records of an archive, and all artifacts of a run."""
