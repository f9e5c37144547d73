"""The parts by name; a part is imported only where it runs, because some bring Kubeflow and torch along."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.fuzz.part import Part

# What a part is called: its module, its class, its cases in a whole run.
PARTS = {
    "params": ("texts", "Parameters", 16_000), "recipes": ("texts", "Recipes", 8_000), "set": ("texts", "Changes",
                                                                                               8_000),
    "cluster": ("clusters", "Cluster", 6_000), "schedules": ("clusters", "Schedules", 6_000),
    "wishes": ("texts", "Wishes", 8_000),
    "archive": ("json_files", "Archives", 6_000), "json": ("json_files", "JsonFiles", 12_000),
    "safetensors": ("tensors", "Weights", 8_000), "checkpoints": ("tensors", "Checkpoints", 5_000),
    "onnx": ("graphs", "Graphs", 5_000), "npz": ("arrays", "Arrays", 6_000),
    "genomes": ("networks", "Built", 7_000), "steps": ("networks", "Trained", 1_100),
    "exports": ("networks", "Exported", 330),
}
WHOLE = sum(count for _, _, count in PARTS.values())


def make(name: str, folder: Path) -> Part:
    """The part called `name`, at work in `folder`."""
    module, kind, _ = PARTS[name]
    return getattr(import_module(f"tests.fuzz.{module}"), kind)(folder)
