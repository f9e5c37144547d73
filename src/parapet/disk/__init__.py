"""Files that survive: written whole or not at all, read with their checksums, and never in place of somebody else's."""
