"""The parts of `make faults`, a module each: `impossible()` says why it cannot run here, `run(bench, seed, case)` runs
one case."""

PARTS = ("kills", "full_disk", "read_only", "damage", "pairs", "clock", "servers", "workers")
