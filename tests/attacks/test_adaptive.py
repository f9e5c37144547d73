"""Defences that cannot be differentiated or are random, and the attacks that know of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks import Bpda, Eot, pgd
from parapet.attacks.adaptive import adapted, declared_layers, is_random, restart_draws, soft_staircase, staircase
from parapet.catalogue.networks import DENOISERS, FILTERS
from parapet.catalogue.spec import resolve
from parapet.errors import InputError
from parapet.models import filters
from parapet.models.defence import WAYS, Defence


class _Rounding(nn.Module):
    """A 2-bit filter of somebody else's: no gradient, and no word about it."""

    levels = 3

    def forward(self, images: Tensor) -> Tensor:
        return torch.round(images * self.levels) / self.levels


class _Noise(nn.Module):
    attacked_through = "eot"

    def forward(self, images: Tensor) -> Tensor:
        return images + 0.3 * torch.randn_like(images)


@pytest.mark.parametrize("layer", [
    resolve(layer.builder) for table in (FILTERS, DENOISERS) for layer in table.values() if layer.builder])
def test_every_defence_layer_declares_how_it_is_attacked(layer) -> None:
    built = layer(1)
    assert isinstance(built, Defence) and built.attacked_through in WAYS


def test_a_defence_that_does_not_say_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="Forgetful does not declare how it is attacked; set attacked_through to one"):
        type("Forgetful", (Defence,), {})


def test_needs_finds_the_declared_layers() -> None:
    model = nn.Sequential(filters.BitDepth(), nn.Sequential(_Noise()), nn.Flatten())
    found = declared_layers(model)
    assert found == {"bpda": [model[0]], "eot": [model[1][0]]}
    assert not is_random(model) and is_random(adapted(model)) and is_random(Eot(model))
    assert declared_layers(lambda images: images) == {}


@pytest.mark.parametrize("stand_in", ["identity", "staircase"])
def test_bpda_answers_as_the_model_and_has_a_gradient(honest, digits, stand_in: str) -> None:
    images, labels = digits.split("test", limit=60).all()
    model = nn.Sequential(_Rounding(), honest.network).eval()
    wrapped = Bpda(model, stand_in, layers=[model[0]])
    points = images.clone().requires_grad_()
    assert torch.equal(wrapped(points).detach(), model(images))
    gradient, = torch.autograd.grad(wrapped(points).sum(), points)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    naive, adaptive = (model(pgd(attacked, images, labels, eps=0.2, steps=20, loss="margin", step_size=0.05)).argmax(1)
                       == labels for attacked in (model, wrapped))
    assert adaptive.float().mean() < naive.float().mean() - 0.1
    assert not model[0]._forward_hooks and not honest.network._forward_hooks


def test_a_declared_filter_is_found_without_being_named() -> None:
    model = nn.Sequential(filters.BitDepth(), nn.Flatten(), nn.Linear(16, 2))
    points = torch.rand(2, 1, 4, 4, requires_grad=True)
    through_identity, = torch.autograd.grad(model(points)[:, 0].sum(), points)
    through_staircase, = torch.autograd.grad(Bpda(model, "staircase")(points)[:, 0].sum(), points)
    assert not torch.allclose(through_identity, through_staircase)
    assert (through_staircase.sign() == through_identity.sign()).all()


def test_the_soft_staircase_meets_the_steps_and_rises() -> None:
    layer = _Rounding()
    at_the_middle_of_the_treads = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])
    assert torch.allclose(soft_staircase(layer, at_the_middle_of_the_treads), at_the_middle_of_the_treads, atol=1e-6)
    line = torch.linspace(0, 1, 200)
    assert (soft_staircase(layer, line).diff() > 0).all()
    with pytest.raises(InputError, match="Linear has no attribute `levels`"):
        soft_staircase(nn.Linear(1, 1), line)


def test_a_model_without_declared_layers_is_told_what_to_do() -> None:
    with pytest.raises(InputError, match="name the layers to replace on the way back"):
        Bpda(nn.Linear(2, 2))


def test_eot_is_the_mean_reproducible_and_leaves_the_generator_alone() -> None:
    model = nn.Sequential(_Noise(), nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(4, 1, 4, 4)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again = Eot(model, draws=400), Eot(model, draws=400)
    one, two = first(images), first(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(images), one) and not torch.equal(one, two)
    exact = model[2](images.flatten(1))
    assert (one - exact).abs().max() < 0.15
    with pytest.raises(InputError, match="draws is 0; it must be at least 1"):
        Eot(model, draws=0)


def test_a_random_net_falls_to_eot_more_than_to_single_draws(undefended, digits) -> None:
    """Noise hides the direction from a single pass, and its mean gives it back."""
    images, labels = digits.split("test", limit=80).all()
    model = nn.Sequential(_Noise(), undefended.network).eval()
    judge = Eot(model, draws=30, seed=1)
    options = {"eps": 0.1, "steps": 8, "loss": "margin", "random_start": False}
    torch.manual_seed(0)
    single = judge(pgd(model, images, labels, **options)).argmax(1) == labels
    averaged = judge(pgd(Eot(model, draws=20), images, labels, **options)).argmax(1) == labels
    assert averaged.float().mean() <= single.float().mean()


def test_the_soft_staircase_is_a_hyperbolic_tangent_of_steepness_4_on_each_step() -> None:
    points = [place / 40 for place in range(41)]
    found = soft_staircase(_Rounding(), torch.tensor(points, dtype=torch.float64))
    for point, value in zip(points, found.tolist()):
        tread, along = divmod(3 * point, 1.0)
        assert value == pytest.approx((tread + 0.5 + math.tanh(4 * (along - 0.5)) / (2 * math.tanh(2))) / 3, abs=1e-9)


class _Counting(nn.Module):
    """Random, through layers of three levels, and it counts how often it is asked."""

    attacked_through = "eot"

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return images + 0.3 * torch.randn_like(images)


def test_random_layers_are_averaged_over_the_customary_20_draws() -> None:
    for attacked in (adapted, staircase, Eot):
        random = _Counting()
        wrapped = attacked(nn.Sequential(filters.BitDepth(), random, nn.Flatten()))
        assert wrapped is not None
        wrapped(torch.rand(2, 1, 4, 4))
        assert random.asked == 20


def test_a_model_is_wrapped_in_what_its_layers_declare_and_once() -> None:
    plain, rounding = nn.Sequential(nn.Flatten()), nn.Sequential(filters.BitDepth(), nn.Flatten())
    assert adapted(plain) is plain and staircase(plain) is None
    through = adapted(rounding)
    assert isinstance(through, Bpda) and through.model is rounding and not is_random(through)
    both = adapted(nn.Sequential(filters.BitDepth(), _Noise(), nn.Flatten()))
    assert isinstance(both, Bpda) and isinstance(both.model, Eot)
    for wrapped in (through, both):
        assert adapted(wrapped) is wrapped


def test_only_layers_with_levels_have_a_staircase() -> None:
    other = nn.Flatten()
    other.attacked_through = "bpda"
    assert staircase(other) is None
    rounding = filters.BitDepth()
    found = staircase(nn.Sequential(rounding, other))
    assert isinstance(found, Bpda) and found.layers == [rounding]


def test_restarted_draws_are_those_of_the_stream_and_no_other_s() -> None:
    images = torch.zeros(1, 1, 2, 2)
    random = Eot(nn.Sequential(_Noise(), nn.Flatten()), draws=1)
    model = nn.Sequential(nn.Identity(), random)

    def three(stream: int) -> list[Tensor]:
        restart_draws(model, stream)
        return [model(images) for _ in range(3)]
    drawn = {stream: three(stream) for stream in range(3)}
    for stream in (2, 0, 1):
        assert all(map(torch.equal, three(stream), drawn[stream]))
    everything = torch.cat([answer for answers in drawn.values() for answer in answers])
    assert len(torch.unique(everything, dim=0)) == 9
    fresh = Eot(random.model, draws=1)
    assert all(torch.equal(fresh(images), first) for first in drawn[0])  # stream 0 is how it begins
    restart_draws(lambda batch: batch, 1)
    restart_draws(None, 1)
