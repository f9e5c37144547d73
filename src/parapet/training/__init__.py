"""Adversarial training: losses of one function each, the loop, its checkpoints."""

from parapet.training.loop import Trained, TrainingFailed, train

__all__ = ["Trained", "TrainingFailed", "train"]
