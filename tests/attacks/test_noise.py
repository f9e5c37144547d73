"""Noise: SplitMix64 as published, streams and seeds that do not meet."""

from __future__ import annotations

import torch

from parapet.attacks.noise import derived, image_seeds, uniform

_WORD = 2**64
CPU = torch.device("cpu")


def _mixed(state: int) -> int:
    """The finaliser of SplitMix64 in Python's whole numbers."""
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) % _WORD
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) % _WORD
    return state ^ state >> 31


def test_noise_is_that_of_the_published_generator() -> None:
    # The first outputs of splitmix64.c (Vigna 2015) from seed 1234567, whose upper 24 bits are the noise.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
                 16408922859458223821]
    assert uniform(torch.tensor([1234567]), (5,)).tolist() == [[(one >> 40) / 2**24 for one in published]]
    assert uniform(torch.tensor([1234567]), (2,), draw=1).tolist() == [[(one >> 40) / 2**24 for one in published[2:4]]]


def test_neighbouring_seeds_share_no_noise() -> None:
    noise = uniform(torch.arange(4), (64,))
    assert len(noise.unique()) > 4 * 64 - 2


def test_derived_seeds_are_a_hash_of_seed_and_stream() -> None:
    seeds = torch.tensor([0, 1, 2**61 + 12345])
    for stream in (0, 1, 51, 2**32 - 1):
        expected = [_mixed((seed + (stream + 1) * 0x94D049BB133111EB) % _WORD) % 2**62 for seed in seeds.tolist()]
        assert derived(seeds, stream).tolist() == expected


def test_no_two_images_and_streams_share_a_seed() -> None:
    seeds = image_seeds(1000, None, CPU)
    found = torch.cat([derived(seeds, stream) for stream in range(20)])
    assert len(found.unique()) == len(found) and found.min() >= 0


def test_a_generator_gives_every_image_a_seed_of_its_own() -> None:
    seeds = image_seeds(1000, torch.Generator().manual_seed(0), CPU)
    assert len(seeds.unique()) == 1000
    # From all of 62 bits: the mean of a thousand is half of that, to one part in ten.
    assert abs(float(seeds.double().mean()) / 2**61 - 1) < 0.1 and seeds.min() >= 0 and seeds.max() < 2**62
