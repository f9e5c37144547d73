"""What is taken as images, labels, eps and logits, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.inputs import check, check_logits, in_halves
from parapet.errors import InputError

IMAGES = torch.full((2, 1, 4, 4), 0.5)


@pytest.mark.parametrize("labels", [torch.tensor([3, 1]), torch.tensor([0, 0])], ids=str)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", 4.0), ("linf", None)])
def test_what_lies_in_range_is_taken(labels: Tensor, norm: str, eps: float | None) -> None:
    for images in (IMAGES, torch.zeros_like(IMAGES), torch.ones_like(IMAGES)):
        check(images, labels, eps=eps, norm=norm)
    check(IMAGES[:0], labels[:0], eps=eps, norm=norm)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"images": IMAGES - 0.6}, "images range from -0.1 to -0.1; pixels must lie in"),
    ({"images": IMAGES + 0.6}, "images range from 1.1 to 1.1; pixels must lie in"),
    ({"images": IMAGES * float("nan")}, "images range from nan to nan; pixels must lie in"),
    ({"labels": torch.tensor([1, -1])}, "the smallest label is -1"),
    ({"eps": 1.01}, r"it must lie in \(0, 1\] for linf"),
    ({"eps": 4.01, "norm": "l2"}, r"eps is 4.01; it must lie in \(0, 4\] for l2"),
    ({"eps": 0.0, "norm": "l2"}, r"eps is 0; it must lie in \(0, 4\] for l2"),
])
def test_what_lies_out_of_range_is_told(changes: dict, sentence: str) -> None:
    options = {"images": IMAGES, "labels": torch.tensor([0, 1]), "eps": 0.1, **changes}
    with pytest.raises(InputError, match=sentence):
        check(options.pop("images"), options.pop("labels"), **options)


def test_logits_have_room_for_every_label() -> None:
    check_logits(torch.zeros(2, 3), torch.tensor([0, 2]))
    check_logits(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="labels range from 0 to 3, and the model has 3 classes"):
        check_logits(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(InputError, match="labels range from -1 to 2, and the model has 3 classes"):
        check_logits(torch.zeros(2, 3), torch.tensor([-1, 2]))


def test_work_in_halves_is_put_together_in_order() -> None:
    def doubled(part: Tensor) -> Tensor:
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * part
    whole = torch.arange(7)
    assert torch.equal(in_halves(doubled, whole), 2 * whole)
    both = in_halves(lambda part: (doubled(part), -part), whole)
    assert isinstance(both, tuple) and torch.equal(both[0], 2 * whole) and torch.equal(both[1], -whole)
