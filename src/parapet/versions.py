"""Versions of code that affects results; they are part of the keys under which results are stored."""

# Increase with every change that can change a trained weight.
TRAINING_VERSION = 5
# Increase with every change that can change a robustness result.
ATTACK_VERSION = 8
# Increase with every change that can change the files of an export.
EXPORT_VERSION = 4
