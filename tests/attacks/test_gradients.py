"""Gradients of logits: by hand on a linear model, and a graph that goes with its last class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import gradients
from parapet.attacks.gradients import class_gradients
from tests.attacks.linear import SHAPE, ManyClasses


def test_differences_of_classes_and_their_gradients_by_hand() -> None:
    model = ManyClasses(4)
    images, labels = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    logits, differences, normals = class_gradients(model, images, labels, 2)
    assert torch.equal(logits, model(images)) and differences.shape == (5, 2)
    for image, label in enumerate(labels.tolist()):
        others = sorted((other for other in range(4) if other != label), key=lambda other: -float(logits[image, other]))
        for place, other in enumerate(others[:2]):
            assert float(differences[image, place]) == pytest.approx(float(logits[image, other] - logits[image, label]))
            expected = (model.weight[other] - model.weight[label]).reshape(SHAPE)
            assert torch.allclose(normals[image, place], expected, atol=1e-6)


def test_the_graph_is_kept_for_the_next_class_and_freed_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    slope = gradients.slope

    def recorded(value: Tensor, points: Tensor, **options: Any) -> Tensor | None:
        kept.append(options["retain_graph"])
        return slope(value, points, **options)
    monkeypatch.setattr(gradients, "slope", recorded)
    class_gradients(ManyClasses(4), torch.rand(2, *SHAPE), torch.tensor([0, 1]))
    assert kept == [True, True, False]
