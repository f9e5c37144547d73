"""Whether files are what was written: the archive's records, and everything that a run left."""
