"""Attacks from outside: momentum for transfer, transfer itself, random noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks import fgsm, mi_fgsm, random_noise, transfer
from parapet.attacks.balls import distance
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, far_from_the_limits


def _accuracy(network, images: Tensor, labels: Tensor) -> float:
    return float((network(images).argmax(1) == labels).float().mean())


def test_one_step_of_mi_fgsm_is_fgsm() -> None:
    model, images, labels = far_from_the_limits()
    assert torch.allclose(mi_fgsm(model, images, labels, eps=0.1, steps=1), fgsm(model, images, labels, eps=0.1))


def test_momentum_by_hand() -> None:
    """Two steps on a model whose gradient turns: with full decay the first gradient outweighs the second."""
    weight = torch.zeros(16)
    weight[0] = 1.0

    class Bent(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            pixel = images.flatten(1)[:, 0]
            value = -(pixel - 0.55) ** 2 * 10
            return torch.stack([-value, value], 1)
    images, labels = torch.full((1, *SHAPE), 0.5), torch.tensor([0])
    with_momentum = mi_fgsm(Bent(), images, labels, eps=0.2, steps=2, decay=1.0)
    without = mi_fgsm(Bent(), images, labels, eps=0.2, steps=2, decay=0.0)
    # first step: 0.5 -> 0.6, past the top at 0.55; then the gradient points back
    assert without.flatten()[0] == pytest.approx(0.5)
    assert with_momentum.flatten()[0] == pytest.approx(0.6)  # equal and opposite normalised gradients cancel


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_of_one_net_fool_another(undefended, honest, digits, norm: str) -> None:
    images, labels = digits.split("test", limit=100).all()
    eps = 0.25 if norm == "linf" else 1.5
    found = transfer(undefended.network, images, labels, surrogate=honest.network, eps=eps, norm=norm)
    assert (distance(found, images, norm) <= eps).all() and found.min() >= 0 and found.max() <= 1
    assert _accuracy(undefended.network, found, labels) < _accuracy(undefended.network, images, labels) - 0.2


def test_several_surrogates_are_at_least_as_strong_as_each(undefended, honest, digits) -> None:
    images, labels = digits.split("test", limit=80).all()
    target = honest.network
    model = Linear(torch.linspace(-1, 1, 64), 0.0)

    def ten(batch: Tensor) -> Tensor:
        return torch.nn.functional.pad(model(batch), (0, 8), value=-5.0)
    broken = {}
    for name, surrogates in {"one": undefended.network, "other": ten, "both": [undefended.network, ten]}.items():
        found = transfer(target, images, labels, surrogate=surrogates, eps=0.2)
        broken[name] = target(found).argmax(1) != labels
    assert torch.equal(broken["both"], broken["one"] | broken["other"])


def test_one_image_alone_meets_every_surrogate(undefended, honest, digits) -> None:
    images, labels = digits.split("test", limit=40).all()
    target = undefended.network

    def useless(batch: Tensor) -> Tensor:
        return torch.zeros(len(batch), 10) + 0 * batch.sum((1, 2, 3))[:, None]
    surrogates = [useless, honest.network]
    seeds = torch.arange(40)
    together = transfer(target, images, labels, surrogate=surrogates, eps=0.2, early_stop=True, generator=seeds)
    alone = torch.cat([transfer(target, images[[row]], labels[[row]], surrogate=surrogates, eps=0.2, early_stop=True,
                                generator=seeds[[row]]) for row in range(40)])
    broken = [target(found).argmax(1) != labels for found in (together, alone)]
    assert broken[0].sum() > 10 and torch.equal(*broken)


def test_the_target_gives_no_gradient_away(undefended, honest, digits) -> None:
    images, labels = digits.split("test", limit=20).all()

    def target(batch: Tensor) -> Tensor:
        assert not torch.is_grad_enabled() and not batch.requires_grad
        return honest.network(batch)
    transfer(target, images, labels, surrogate=[undefended.network], eps=0.2, early_stop=True)


@pytest.mark.parametrize("kind", ["uniform", "corner"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 2.0)])
def test_noise_stays_in_the_ball_and_more_draws_never_help(undefended, digits, kind: str, norm: str,
                                                           eps: float) -> None:
    images, labels = digits.split("test", limit=80).all()
    broken = []
    for draws in (2, 40):
        found = random_noise(undefended.network, images, labels, eps=eps, norm=norm, kind=kind, draws=draws,
                             early_stop=draws == 40, generator=torch.Generator().manual_seed(0))
        assert (distance(found, images, norm) <= eps).all() and found.min() >= 0 and found.max() <= 1
        broken.append(undefended.network(found).argmax(1) != labels)
    assert (broken[1] | ~broken[0]).all() and broken[1].sum() > broken[0].sum()


def test_corners_are_corners() -> None:
    model, images, labels = far_from_the_limits()
    found = random_noise(model, images, labels, eps=0.1, kind="corner", draws=1)
    assert torch.allclose((found - images).abs(), torch.tensor(0.1), atol=1e-6)


def test_the_worst_draw_is_kept() -> None:
    model, images, labels = far_from_the_limits()
    from parapet.attacks.objectives import margin
    few, many = (margin(model(random_noise(model, images, labels, eps=0.01, draws=draws)), labels)
                 for draws in (1, 50))
    assert (many >= few).all() and (many > few).any()


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda m, x, y: mi_fgsm(m, x, y, eps=0.1, decay=2.0), "mi_fgsm got steps=10 and decay=2; steps must be"),
    (lambda m, x, y: random_noise(m, x, y, eps=0.1, kind="salt"), "kind must be uniform or corner"),
    (lambda m, x, y: transfer(m, x, y, eps=0.1, surrogate=[]), "surrogate is empty; give at least one model"),
])
def test_wrong_options_are_told(call, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        call(Linear(torch.ones(16), 0.0), torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1]))
    assert sentence in str(caught.value)
