"""Ensemble adversarial training: where its images come from, and the attack that it does not stop."""

from __future__ import annotations

import torch

from parapet.attacks import pgd
from parapet.attacks.balls import distance
from parapet.training.losses import ensemble_images
from tests.training.losses.two_pixels import Pixels, image, small_network


class _Mirrored(Pixels):
    """The same with its classes exchanged, so that its gradient points the other way."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).flip(1)


def test_one_step_on_the_source_by_hand() -> None:
    # CE of label 0 falls with logit 0 and rises with logit 1: pixels 0 and 1 of one source, 1 and 0 of another.
    expected = {1: image(0.4, 0.6), 0: image(0.6, 0.4)}
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        found, source = ensemble_images(Pixels(), image(0.5, 0.5), torch.tensor([0]), static=[_Mirrored()], eps=0.1,
                                        generator=generator)
        assert torch.allclose(found, expected[source])
        seen.add(source)
    assert seen == {0, 1}


def test_the_same_generator_picks_the_same_sources_and_the_models_stay_as_they_were() -> None:
    models = [small_network(torch.Generator().manual_seed(seed)).train() for seed in range(3)]
    before = [model[1].running_mean.clone() for model in models]
    images, labels = torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64)
    runs = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        runs.append([ensemble_images(models[0], images, labels, static=models[1:], eps=0.5, norm="l2",
                                     generator=generator) for _ in range(6)])
    for (first, source), (second, again) in zip(*runs):
        assert source == again and torch.equal(first, second)
        assert (distance(first, images, "l2") <= 0.5).all()
    assert all(torch.equal(model[1].running_mean, value) and model.training for model, value in zip(models, before))


def test_images_of_the_static_source_do_not_fool_what_the_white_box_breaks() -> None:
    model, clean, label = Pixels(), image(0.55, 0.45), torch.tensor([0])
    generator = torch.Generator().manual_seed(0)
    transferred = [ensemble_images(model, clean, label, static=[_Mirrored()], eps=0.1, generator=generator)
                   for _ in range(10)]
    assert all(int(model(found).argmax(1)) == 0 for found, source in transferred if source == 0)
    found = pgd(model, clean, label, eps=0.1, steps=10, generator=torch.Generator().manual_seed(0))
    assert int(model(found).argmax(1)) == 1
