"""Versions of the code that numbers depend on: parts of the keys under which results are kept."""

# Raise with any change that can change a trained weight.
TRAINING_VERSION = 5
# Raise with any change that can change a robustness number.
ATTACK_VERSION = 8
# Raise with any change of what an export leaves.
EXPORT_VERSION = 4
