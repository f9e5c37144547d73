"""Crops and flips: every result is a shifted or mirrored original, and belongs to its image's seed."""

from __future__ import annotations

import torch

from parapet.training.augmentation import augment

IMAGES = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SEEDS = torch.arange(64)


def _crops(image: torch.Tensor) -> list[torch.Tensor]:
    padded = torch.nn.functional.pad(image, (1,) * 4)
    return [padded[:, top:top + 8, left:left + 8] for top in range(3) for left in range(3)]


def test_a_crop_is_one_of_the_nine_shifts_and_all_of_them_occur() -> None:
    found = augment(IMAGES, SEEDS, "crop")
    places = set()
    for image, result in zip(IMAGES, found):
        same = [place for place, crop in enumerate(_crops(image)) if torch.equal(crop, result)]
        assert len(same) == 1
        places.add(same[0])
    assert len(places) == 9


def test_about_half_are_mirrored() -> None:
    found = augment(IMAGES, SEEDS, "crop_flip")
    mirrored = [any(torch.equal(crop.flip(2), result) for crop in _crops(image))
                for image, result in zip(IMAGES, found)]
    plain = [any(torch.equal(crop, result) for crop in _crops(image)) for image, result in zip(IMAGES, found)]
    assert all(one != other for one, other in zip(mirrored, plain)) and 16 < sum(mirrored) < 48


def test_an_image_s_crop_does_not_depend_on_its_neighbours() -> None:
    whole = augment(IMAGES, SEEDS, "crop_flip")
    assert torch.equal(augment(IMAGES[5:9], SEEDS[5:9], "crop_flip"), whole[5:9])
    assert augment(IMAGES, SEEDS, "none") is IMAGES
