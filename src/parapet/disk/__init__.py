"""Safe file access: atomic writes, reads that verify checksums, and no overwriting of files from another source."""
