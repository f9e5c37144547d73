"""Minimum-norm attacks: they look for the nearest adversarial image and return images and distances."""
