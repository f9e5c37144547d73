"""Adversarial training: losses of one function each, the loop, its checkpoints."""

from parapet.training.loop import Trained, TrainingFailed, train
from parapet.training.run import TrainingRun

__all__ = ["Trained", "TrainingFailed", "TrainingRun", "train"]
