"""Attacks that look for the nearest adversarial image: they give images and distances."""
