"""Every loss, regulariser and attack's objective at logits from 1e-30 to 1e6: finite, and right against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks.objectives import (
    OBJECTIVES,
    Objective,
    cross_entropy,
    divergence_from,
    precise,
    targeted_dlr,
)
from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.losses import LOSSES
from parapet.catalogue.spec import resolve
from parapet.training.losses import centre_margin, embedding_loss, logit_centres, one_pass, trades
from parapet.training.morel import MorelHead
from parapet.training.weight_perturbation import perturbed

LABELS = torch.tensor([0, 1, 2, 3])
SCALES = (1e-30, 1e-12, 1e-6, 1.0, 88.0, 104.0, 1e3, 1e6)
# Logits of a clean image and of its adversarial version, both times a scale: as they come, tied, the label far above
# all others or far below, so that probabilities of exactly 0 stand on either side.
PATTERNS = {"as they come": ([0.9, -0.3, 0.4, 0.1], [-0.2, 0.7, 0.3, -0.1]), "tied": ([1.0] * 4, [1.0] * 4),
            "two tied": ([1.0, 1.0, 0.0, -1.0], [0.0, 1.0, 1.0, 0.0]), "sure": ([1.0, 0.0, 0.0, 0.0], [1.0, 0, 0, 0]),
            "turned": ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]), "one at 0": ([0.0, 0, 0, -1], [-1.0, 0, 0, 0])}
# How far a value may lie from that in float64, as a share of the largest number that went into it.
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


class Given(nn.Module):
    """Logits that are the images themselves, (N, 1, 1, 4)."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 4)."""
        return images.flatten(1)


def _logits(pattern: str, scale: float, dtype: torch.dtype) -> list[Tensor]:
    """Clean and adversarial logits, four rows each, of which row i has its label's logit where row 0 has its first."""
    return [torch.stack([torch.tensor(row, dtype=torch.float64).roll(shift) for shift in range(4)]).mul(scale)
            .to(dtype).reshape(4, 1, 1, 4) for row in PATTERNS[pattern]]


def _loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    teacher = {"teacher": Given()} if name == "distillation" else {}

    def value(clean: Tensor, adversarial: Tensor) -> Tensor:
        return resolve(LOSSES[name].function)(Given(), clean, LABELS, adversarial, logits=one_pass(
            Given(), clean=clean, adversarial=adversarial), **LOSSES[name].recommended, **teacher)[0]
    return value


def _objective(objective: Callable[[Tensor, Tensor], Objective]) -> Callable[[Tensor, Tensor], Tensor]:
    """Summed over the images; `objective` may be made of the clean logits and of labels."""
    def value(clean: Tensor, adversarial: Tensor) -> Tensor:
        return objective(clean.detach().flatten(1), LABELS.roll(1))(adversarial.flatten(1), LABELS).sum()
    return value


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{name: _loss(name) for name in LOSSES},
    "pgd, half clean": lambda clean, adversarial: resolve(LOSSES["pgd"].function)(
        Given(), clean, LABELS, adversarial, clean_share=0.5,
        logits=one_pass(Given(), clean=clean, adversarial=adversarial))[0],
    "trades, smoothed": lambda clean, adversarial: trades(Given(), clean, LABELS, adversarial, beta=6.0,
                                                          smoothing=0.1)[0],
    "logit_squeezing": lambda clean, adversarial: resolve(REGULARISERS["logit_squeezing"].function)(
        Given(), clean, LABELS, logits=one_pass(Given(), clean=clean, adversarial=adversarial)),
    "objective cross_entropy": _objective(lambda clean, targets: cross_entropy),
    **{f"objective {name}": _objective(lambda clean, targets, name=name: OBJECTIVES[name]) for name in OBJECTIVES},
    "objective targeted_dlr": _objective(lambda clean, targets: targeted_dlr(targets)),
    "objective divergence": _objective(lambda clean, targets: divergence_from(precise(clean).softmax(1))),
    "objective centres": _objective(lambda clean, targets: centre_margin(logit_centres(4)))}


# Where centres are equally near, rounding decides between them, and the gradients of all are right.
TIES = [("objective centres", pattern) for pattern in ("tied", "two tied", "one at 0", "sure", "turned")]


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("name, pattern", [(name, pattern) for name in FUNCTIONS for pattern in PATTERNS
                                           if (name, pattern) not in TIES])
def test_values_and_gradients_are_finite_and_those_of_float64(name: str, pattern: str, dtype: torch.dtype) -> None:
    for scale in SCALES:
        given = [part.detach().requires_grad_() for part in _logits(pattern, scale, dtype)]
        exact = [part.detach().double().requires_grad_() for part in given]
        value, known = FUNCTIONS[name](*given), FUNCTIONS[name](*exact)
        slopes, right = (torch.autograd.grad(result, parts, allow_unused=True)
                         for result, parts in ((value, given), (known, exact)))
        assert value.isfinite() and known.isfinite(), scale
        assert value.dtype == torch.float32, scale
        # Differences of logits carry the rounding of the logits.
        within = CLOSE[torch.float32] * (abs(known.item()) + scale)
        assert abs(value.item() - known.item()) <= within + 1e-6, (scale, value, known)
        for slope, expected in zip(slopes, right):
            assert (slope is None) == (expected is None)
            # The ratio of DLR is steeper than any float32 where logits of 1e-30 are tied.
            if slope is not None and expected.abs().max() < torch.finfo(torch.float32).max:
                assert slope.isfinite().all(), (scale, slope)
                within = CLOSE[dtype] * float(expected.abs().max()) + 1e-6
                assert (slope.double() - expected).abs().max() <= within, (scale, slope, expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("pattern", [pattern for _, pattern in TIES])
def test_where_centres_are_equally_near_the_gradient_leads_to_one_of_them_or_between(
        pattern: str, dtype: torch.dtype, scale: float) -> None:
    centres = logit_centres(4).double()
    given = _logits(pattern, scale, dtype)[1].requires_grad_()
    value = centre_margin(logit_centres(4))(given.flatten(1), LABELS)
    slopes, = torch.autograd.grad(value.sum(), given)
    outputs = given.detach().flatten(1).double()
    for row, label, found, slope in zip(outputs, LABELS, value, slopes.flatten(1).double()):
        ways = 2 * (centres - centres[label])
        heights = ways @ row
        heights[label] = -torch.inf
        assert abs(found - heights.max()) <= 1e-5 * scale * 100
        nearest = heights >= heights.max() - 1e-5 * scale * 100
        # The shares of the nearest centres in the gradient: none below 0, 1 in all, and nothing else in it.
        shares = torch.linalg.lstsq(ways[nearest].T, slope).solution
        assert (ways[nearest].T @ shares - slope).abs().max() <= CLOSE[dtype] * ways.abs().max()
        assert shares.min() >= -CLOSE[dtype] and shares.sum() == pytest.approx(1, abs=2 * CLOSE[dtype])


def test_trades_where_a_probability_rounds_to_0() -> None:
    # Logits 104 apart: exp(-104) is no float32. KL is 104 - log(4 / 3) or so, and the images' gradient finite.
    clean = torch.tensor([[[[104.0, 0.0]]]], requires_grad=True)
    loss, _ = trades(Given(), clean, torch.tensor([0]), torch.tensor([[[[0.0, 104.0]]]]), beta=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(104.0) and clean.grad.abs().max() < 1e-3


def _network(dtype: torch.dtype, scale: float) -> nn.Module:
    """Logits of about `scale` from sixteen pixels, with a bend; the same weights in any precision."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).bfloat16())
        network[3].weight.mul_(scale)
        network[3].bias.mul_(scale)
    return network.to(dtype)


def _images(dtype: torch.dtype, stream: int = 0) -> Tensor:
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(stream)).bfloat16().to(dtype)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e-3, 1.0, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("name", REGULARISERS)
def test_regularisers_of_networks_with_any_logits(name: str, scale: float) -> None:
    found = {}
    for dtype in (torch.float32, torch.float64):
        network, images = _network(dtype, scale), _images(dtype)
        value = resolve(REGULARISERS[name].function)(network, images, LABELS, eps=0.3, seeds=torch.arange(4))
        found[dtype] = value, torch.autograd.grad(value, [network[1].weight, network[3].weight])
    (value, slopes), (known, right) = found[torch.float32], found[torch.float64]
    assert value.isfinite() and value.item() == pytest.approx(known.item(), rel=1e-4, abs=1e-6)
    for slope, expected in zip(slopes, right):
        assert slope.isfinite().all()
        assert (slope.double() - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e6, 1e15])
def test_embeddings_of_features_of_any_size(scale: float) -> None:
    found = {}
    for dtype in (torch.float32, torch.float64):
        head = MorelHead(16, torch.Generator().manual_seed(0)).to(dtype)
        clean, adversarial = ((_images(dtype, stream).flatten(1) * scale).requires_grad_() for stream in (0, 1))
        value, _ = embedding_loss(head, clean, adversarial, LABELS // 2, alpha=0.1)
        found[dtype] = value, torch.autograd.grad(value, [head.embed.weight, clean, adversarial])
    (value, slopes), (known, right) = found[torch.float32], found[torch.float64]
    assert value.isfinite() and value.item() == pytest.approx(known.item(), rel=1e-4, abs=1e-6)
    for slope, expected in zip(slopes, right):
        assert slope.isfinite().all()
        assert (slope.double() - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-12, 1.0, 1e12, 1e25])
def test_weights_move_by_their_share_whatever_the_gradient(scale: float) -> None:
    layer = nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    direction = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 3.0, 1.0, -1.0]])
    with perturbed(layer, lambda: (layer.weight * direction * scale).sum(), 0.01):
        moved = layer.weight.detach() - before
    expected = 0.01 * before.norm() * direction / direction.norm()
    assert torch.allclose(moved, expected, rtol=1e-4, atol=1e-7)
