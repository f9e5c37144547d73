"""Faults on purpose: every verb is killed, starved, locked out, damaged, doubled, and has to end well.

`python -m tests.faults PART --seed 0 --count 20` (`make faults PART=...`); the parts lie in `parts/`.
"""
