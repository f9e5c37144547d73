"""Attacks: known answers on linear models, the ball, the model left alone, noise per image."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from parapet.attacks import apgd, auto_attack, fgsm, mi_fgsm, pgd, random_noise, square
from parapet.attacks.balls import ball, distance
from parapet.attacks.noise import image_seeds, uniform
from parapet.attacks.objectives import margin
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, far_from_the_limits


@pytest.fixture
def linear() -> tuple[Linear, Tensor, Tensor]:
    return far_from_the_limits()


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("attack", [fgsm, pgd, apgd, partial(apgd, loss="dlr"), partial(apgd, targets=1), auto_attack])
def test_a_linear_model_falls_exactly_where_eps_exceeds_its_distance(linear: tuple, attack: Callable, norm: str,
                                                                     dual: int) -> None:
    model, images, labels = linear
    distances = (images.flatten(1) @ model.weight + model.bias).abs() / model.weight.norm(p=dual)
    eps = float(distances.detach().median()) + 1e-4
    fooled = model(attack(model, images, labels, eps=eps, norm=norm)).argmax(1) != labels
    clear = (distances - eps).abs() > 1e-3
    assert torch.equal(fooled[clear], (distances < eps)[clear])
    assert 0 < fooled.sum() < len(fooled)


def test_fgsm_is_one_signed_step(linear: tuple) -> None:
    model, images, labels = linear
    sign = torch.where(labels == 0, -1.0, 1.0)[:, None] * model.weight.sign()
    expected = (images + 0.1 * sign.reshape(images.shape)).clamp(0, 1)
    assert torch.allclose(fgsm(model, images, labels, eps=0.1), expected, atol=1e-6)


def test_pgd_equals_a_written_out_reference_from_the_same_start(honest, digits) -> None:
    images, labels = digits.split("test", limit=16).all()
    points = images.clone()
    for _ in range(5):
        points.requires_grad_()
        loss = nn.functional.cross_entropy(honest.network(points), labels, reduction="sum")
        gradient, = torch.autograd.grad(loss, points)
        points = (points.detach() + 0.05 * gradient.sign()).clamp(images - 0.2, images + 0.2).clamp(0, 1)
    found = pgd(honest.network, images, labels, eps=0.2, steps=5, step_size=0.05, random_start=False)
    assert torch.allclose(found, points, atol=1e-6)


QUICK = {"fgsm": fgsm, "pgd": partial(pgd, steps=3), "pgd margin": partial(pgd, steps=3, loss="margin", restarts=2),
         "apgd": partial(apgd, steps=7), "apgd targeted": partial(apgd, steps=4, targets=3),
         "square": partial(square, queries=12), "mi_fgsm": partial(mi_fgsm, steps=3),
         "noise": partial(random_noise, draws=5), "corners": partial(random_noise, draws=5, kind="corner")}
images_in_range = st.integers(0, 2**31).map(
    lambda seed: torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(seed)).round(decimals=seed % 4))


@settings(max_examples=60, deadline=None)
@given(images=images_in_range, eps=st.floats(1e-3, 1.0), norm=st.sampled_from(["linf", "l2"]),
       name=st.sampled_from(sorted(QUICK)), early_stop=st.booleans())
def test_every_attack_stays_inside_the_ball_and_the_pixel_range(images: Tensor, eps: float, norm: str, name: str,
                                                                early_stop: bool) -> None:
    model = Linear(torch.linspace(-1, 1, 16), 0.0)
    labels = model(images).argmax(1)
    found = QUICK[name](model, images, labels, eps=eps, norm=norm, early_stop=early_stop,
                   generator=torch.Generator().manual_seed(1))
    assert found.shape == images.shape and found.dtype == images.dtype
    assert found.min() >= 0 and found.max() <= 1
    assert (distance(found, images, norm) <= eps).all()


@pytest.mark.parametrize("attack", [
    lambda model, images, labels: fgsm(model, images, labels, eps=0.1),
    lambda model, images, labels: pgd(model, images, labels, eps=0.1, steps=2, early_stop=True),
    lambda model, images, labels: apgd(model, images, labels, eps=0.1, steps=3),
    lambda model, images, labels: square(model, images, labels, eps=0.1, queries=3),
    lambda model, images, labels: mi_fgsm(model, images, labels, eps=0.1, steps=2)])
def test_the_model_comes_back_as_it_was(attack: Callable) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))
    model.train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    model[3].bias.grad = torch.ones(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack(model, torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 0]))
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert not model[3].weight.requires_grad and model[3].bias.requires_grad
    assert torch.equal(model[3].bias.grad, torch.ones(3)) and model[1].weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_noise_belongs_to_the_image_and_not_to_the_batch() -> None:
    whole = uniform(image_seeds(7, torch.Generator().manual_seed(3), torch.device("cpu")), SHAPE, draw=2)
    generator = torch.Generator().manual_seed(3)
    parts = [uniform(image_seeds(count, generator, torch.device("cpu")), SHAPE, draw=2) for count in (2, 4, 1)]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_is_uniform_and_draws_are_independent() -> None:
    seeds = image_seeds(200, torch.Generator().manual_seed(0), torch.device("cpu"))
    first, second = uniform(seeds, SHAPE, 0), uniform(seeds, SHAPE, 1)
    assert first.min() >= 0 and first.max() < 1
    assert abs(float(first.mean()) - 0.5) < 0.02 and abs(float(first.var()) - 1 / 12) < 0.005
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.05


def test_the_same_generator_gives_the_same_images_in_any_batching(honest, digits) -> None:
    images, labels = digits.split("test", limit=30).all()

    def attacked(sizes: list[int]) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return torch.cat([pgd(honest.network, batch, truth, eps=0.2, steps=5, generator=generator)
                          for batch, truth in zip(images.split(sizes), labels.split(sizes))])
    assert torch.equal(attacked([30]), attacked([30]))
    close = (attacked([30]) - attacked([11, 19])).abs().flatten(1).amax(1) < 1e-4
    assert close.float().mean() >= 0.9


def test_more_restarts_never_help_the_model(honest, digits) -> None:
    images, labels = digits.split("test", limit=60).all()
    broken = [honest.network(pgd(honest.network, images, labels, eps=0.2, steps=5, restarts=restarts, loss="margin",
                                 generator=torch.Generator().manual_seed(0))).argmax(1) != labels
              for restarts in (1, 4)]
    assert (broken[1] | ~broken[0]).all()


def test_early_stop_finds_what_running_to_the_end_finds(honest, digits) -> None:
    images, labels = digits.split("test", limit=60).all()
    ends = [honest.network(pgd(honest.network, images, labels, eps=0.2, steps=10, early_stop=early,
                               generator=torch.Generator().manual_seed(0))).argmax(1) != labels
            for early in (False, True)]
    assert ends[1].sum() >= ends[0].sum()


def test_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert margin(logits, torch.tensor([0, 2])).tolist() == [-1.0, 4.0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_lies_in_the_ball(norm: str) -> None:
    images = torch.rand(5, *SHAPE)
    start = ball(images, 0.3, norm).start(torch.rand(5, *SHAPE))
    assert (distance(start, images, norm) <= 0.3).all() and start.min() >= 0 and start.max() <= 1


GOOD = (torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1]))


@pytest.mark.parametrize(("images", "labels", "eps", "sentence"), [
    (GOOD[0] * 3, GOOD[1], 0.1, "images range from 1.5 to 1.5; pixels must lie in [0, 1]"),
    ((GOOD[0] * 255).byte(), GOOD[1], 0.1, "attacks take float32 images of shape (N, C, H, W)"),
    (GOOD[0], torch.tensor([0]), 0.1, "2 images need 2 whole numbers"),
    (GOOD[0], GOOD[1], 8, "eps is 8; it must lie in (0, 1] for linf; did you mean 8/255?"),
    (GOOD[0], GOOD[1], 0, "eps is 0; it must lie in (0, 1] for linf"),
])
def test_wrong_input_is_told(images: Tensor, labels: Tensor, eps: float, sentence: str) -> None:
    for attack in (fgsm, mi_fgsm, pgd, apgd, square, random_noise, auto_attack):
        with pytest.raises(InputError) as caught:
            attack(Linear(torch.ones(16), 0.0), images, labels, eps=eps)
        assert sentence in str(caught.value)


def test_unknown_losses_and_norms_are_told() -> None:
    model = Linear(torch.ones(16), 0.0)
    with pytest.raises(InputError, match="loss is 'cw'; allowed: ce, margin, dlr"):
        pgd(model, *GOOD, eps=0.1, loss="cw")
    with pytest.raises(InputError, match="norm is 'l1'; allowed: linf, l2"):
        pgd(model, *GOOD, eps=0.1, norm="l1")
    for steps, restarts in itertools.product((0, 1), (0, 1)):
        if not (steps and restarts):
            with pytest.raises(InputError, match="both must be at least 1"):
                pgd(model, *GOOD, eps=0.1, steps=steps, restarts=restarts)


@pytest.mark.parametrize(("labels", "options", "sentence"), [
    (torch.zeros(2, dtype=torch.uint8), {}, "2 images need 2 whole numbers, torch.int64"),
    (torch.tensor([0, -1]), {}, "the smallest label is -1"),
    (torch.tensor([0, 1]), {"step_size": float("nan")}, "step_size is nan; it must be above 0"),
    (torch.tensor([0, 1]), {"step_size": -1.0}, "step_size is -1.0"),
    (torch.tensor([0, 1]), {"generator": 0}, "generator is 0; give torch.Generator()"),
])
def test_what_would_silently_give_a_wrong_number_is_refused(labels: Tensor, options: dict, sentence: str) -> None:
    model = Linear(torch.linspace(-1, 1, 16), 0.0)
    with pytest.raises(InputError) as caught:
        pgd(model, torch.rand(2, *SHAPE), labels, eps=0.1, **options)
    assert sentence in str(caught.value)


def test_half_precision_is_refused() -> None:
    model = Linear(torch.linspace(-1, 1, 16), 0.0)
    with pytest.raises(InputError, match="attacks take float32 images"):
        pgd(model, torch.rand(2, *SHAPE).half(), torch.tensor([0, 1]), eps=0.1)
