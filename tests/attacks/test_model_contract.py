"""What is asked of a model to learn whether it answers alike, and which answers are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.inputs import answers
from parapet.attacks.model_contract import ROUNDING, Consistency, check_contract, differing_batch_size, observe
from parapet.errors import InputError


def _pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(10, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def test_the_same_images_are_asked_twice_once_backwards_and_in_batches_of_many_sizes(images: Tensor) -> None:
    asked: list[Tensor] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(batch.clone())
        return _pixels(batch)
    seen = observe(model, images, _pixels(images))
    assert torch.equal(asked[0], images) and torch.equal(asked[1], images) and torch.equal(asked[2], images.flip(0))
    assert [len(batch) for batch in asked[3:]] == [1, 1, 1, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 100, 257]
    assert torch.equal(torch.cat(asked[3:]), images[torch.arange(251 + 257) % 10])
    assert seen == Consistency(0.0, 0.0, False)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 100, 257])
def test_one_that_answers_otherwise_in_batches_of_one_size_is_found(images: Tensor, size: int) -> None:
    seen = observe(lambda batch: _pixels(batch) + (1.0 if len(batch) == size else 0.0), images, _pixels(images))
    assert seen.drift == 0.0 and seen.batch_effect > 1


@pytest.mark.parametrize("size", [1, 17, 23, 99, 2049])
def test_the_first_size_of_a_batch_with_other_answers_is_told(images: Tensor, size: int) -> None:
    def odd(batch: Tensor) -> Tensor:
        if len(batch) == 5:
            raise RuntimeError("exported for another number of images")
        return _pixels(batch) + (1.0 if len(batch) >= size else 0.0)
    sizes = [*range(1, 100), 2049]
    assert differing_batch_size(odd, images, _pixels(images), sizes) == size
    assert differing_batch_size(_pixels, images, _pixels(images), sizes) is None


def test_a_program_that_takes_no_more_than_it_is_attacked_with_is_not_asked_about_more(images: Tensor) -> None:
    def short(batch: Tensor) -> Tensor:
        assert len(batch) <= 32, "no more than 32"
        return _pixels(batch)
    assert observe(short, images, _pixels(images), 32) == Consistency(0.0, 0.0, False)
    with pytest.raises(AssertionError, match="no more than 32"):
        observe(short, images, _pixels(images), 64)


@pytest.mark.parametrize("row", [0, 3])
def test_an_image_that_is_answered_otherwise_alone_is_found(images: Tensor, row: int) -> None:
    def model(batch: Tensor) -> Tensor:
        logits = _pixels(batch)
        return logits + 0.5 * (batch == images[row]).all().float() if len(batch) == 1 else logits
    seen = observe(model, images, _pixels(images))
    assert seen.drift == 0.0
    assert seen.batch_effect == pytest.approx(0.5 / float(_pixels(images).double().std()), rel=1e-4)


def test_answers_that_are_no_longer_those_of_before_are_a_drift(images: Tensor) -> None:
    earlier = _pixels(images) + 0.25
    spread = float(earlier.double().std())
    seen = observe(_pixels, images, earlier)
    assert seen.drift == pytest.approx(0.25 / spread, rel=1e-4) and seen.batch_effect == pytest.approx(seen.drift)


def test_the_first_images_of_a_large_set_are_asked_as_many_as_were_asked_together() -> None:
    many = torch.rand(300, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for batch_size, together, largest in ((512, 128, 257), (128, 128, 257), (50, 50, 101)):
        asked = []

        def model(batch: Tensor, asked: list[int] = asked) -> Tensor:
            asked.append(len(batch))
            return _pixels(batch)
        observe(model, many, answers(_pixels, many), batch_size)
        assert asked == [together] * 3 + [1, 1, 1, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 100, largest]


@pytest.mark.parametrize(("behaviour", "random", "sentence"), [
    (Consistency(0.0, 0.0, False), False, None), (Consistency(ROUNDING, ROUNDING, False), False, None),
    (Consistency(0.0, 0.0, True), False, "the model returns probabilities"),
    (Consistency(0.0, 0.0, True), True, "the model returns probabilities"),
    (Consistency(0.01, 0.0, False), False, "answers the same images differently when asked again (by 0.01 standard"),
    (Consistency(0.0, 0.01, False), False, "answer to an image depends on its batch (by 0.01 standard"),
    (Consistency(0.01, 0.01, False), True, None),
])
def test_only_what_would_make_a_number_wrong_is_refused(behaviour: Consistency, random: bool,
                                                        sentence: str | None) -> None:
    if sentence is None:
        check_contract(behaviour, random=random)
    else:
        with pytest.raises(InputError) as caught:
            check_contract(behaviour, random=random)
        assert sentence in str(caught.value)
