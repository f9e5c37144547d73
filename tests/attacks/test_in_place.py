"""Models that write where they should not: on their input, on the input before, on the answer that they gave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks import Eot, adapted, audit, auto_attack, evaluate, fab, pgd, transfer
from parapet.attacks.audit import AuditBudget
from parapet.attacks.black_box.transfer import transfer as transfer_attack
from parapet.attacks.compositions import Attack, catalogue, pgd_suite
from parapet.attacks.inputs import predict
from parapet.errors import InputError
from tests.attacks.linear import SHAPE

# Budgets with which every attack still goes through all of its code.
FEW = {"steps": 4, "restarts": 2, "queries": 60, "draws": 20, "targets": 3}
QUICK = AuditBudget(pgd_steps=3, restarts=2, targeted_steps=3, targets=2, square_queries=20, decision_queries=60,
                    decision_images=4, noise_draws=8)


def _network() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 6))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


class Clamping(nn.Module):
    """`clamp_`; its twin takes a copy first, as all the others' do."""

    def __init__(self, *, careful: bool) -> None:
        super().__init__()
        self.network, self.careful = _network(), careful

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 6)."""
        return self.answer(images.clone() if self.careful else images)

    def answer(self, images: Tensor) -> Tensor:
        """Logits, with what the model does in place."""
        return self.network(images.clamp_(0.2, 0.8))


class Scaling(Clamping):
    """The normalisation of many examples on the net."""

    def answer(self, images: Tensor) -> Tensor:
        """Logits, with what the model does in place."""
        images.mul_(2).sub_(1)
        return self.network(images)


class Masking(Clamping):
    """Writes a part of the image."""

    def answer(self, images: Tensor) -> Tensor:
        """Logits, with what the model does in place."""
        images[:, :, 0] = 0.5
        return self.network(images)


class Remembering(Clamping):
    """Keeps its input and overwrites it at the next call."""

    last: Tensor | None = None

    def answer(self, images: Tensor) -> Tensor:
        """Logits, with what the model does in place."""
        if self.last is not None:
            with torch.no_grad():
                self.last.fill_(-7.0)
        self.last = images
        return self.network(images)


class Buffered(Clamping):
    """Answers in one buffer, again and again, where no gradient is asked for."""

    def __init__(self, *, careful: bool) -> None:
        super().__init__(careful=careful)
        self.buffer = torch.zeros(4096, 6)

    def answer(self, images: Tensor) -> Tensor:
        """Logits, in place of the last ones."""
        logits = self.network(images)
        if self.careful or logits.requires_grad:
            return logits
        self.buffer[:len(logits)] = logits
        return self.buffer[:len(logits)]


class Viewing(Clamping):
    """Answers with a view of its input."""

    def answer(self, images: Tensor) -> Tensor:
        """Six pixels."""
        pixels = images.flatten(1)[:, 3:9]
        return pixels.clone() if self.careful else pixels


MODELS = (Clamping, Scaling, Masking, Remembering, Buffered, Viewing)
ATTACKS = {**{f"{name} {norm}": (attack, norm) for norm in ("linf", "l2") for name, attack in catalogue(norm).items()},
           "fab untargeted l2": (Attack("fab", fab, {"targets": None}, minimum_norm=True), "l2")}


def _images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2))


def _run(attack: Attack, norm: str, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    options = {**attack.options, **{name: few for name, few in FEW.items() if name in attack.options},
               "norm": norm, "generator": torch.Generator().manual_seed(0)}
    if attack.name in ("carlini_wagner", "fab"):
        options |= {"steps": 12}
    if not attack.minimum_norm:
        options |= {"eps": 0.2, "early_stop": True}
    found = attack.function(model, images, labels, **options)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_what_it_finds_on_a_careful_twin(name: str, kind: type[Clamping]) -> None:
    images = _images()
    labels = predict(kind(careful=True), images)
    before = images.clone()
    found, known = (_run(*ATTACKS[name], kind(careful=careful), images, labels) for careful in (False, True))
    assert torch.equal(images, before)
    assert all(torch.equal(one, other) for one, other in zip(found, known))
    assert found[0].min() >= 0 and found[0].max() <= 1 and found[0].data_ptr() != images.data_ptr()


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_whatever_asks_a_model_asks_it_with_copies(kind: type[Clamping]) -> None:
    images = _images().repeat(6, 1, 1, 1)
    labels, before = predict(kind(careful=True), images), images.clone()

    def asked(careful: bool) -> list:
        model, generator = kind(careful=careful), torch.Generator().manual_seed(0)
        suite = [*pgd_suite(pgd_steps=3, pgd_restarts=1),
                 Attack("transfer", transfer_attack, {"surrogate": kind(careful=careful), "steps": 2})]
        record = evaluate(model, images, labels, norm="linf", eps=0.1, suite=suite, generator=generator)
        report = audit(model, images, labels, norm="linf", eps=0.1, generator=generator, limits=QUICK,
                       surrogates=[kind(careful=careful)])
        return [predict(model, images).tolist(), record["outcomes"], report["survived"],
                [(check["id"], check["verdict"], check["numbers"]) for check in report["checks"]],
                transfer(model, images, labels, surrogate=kind(careful=careful), eps=0.1).tolist(),
                pgd(Eot(model, draws=2), images, labels, eps=0.1, steps=2).tolist()]
    assert asked(careful=False) == asked(careful=True)
    assert torch.equal(images, before)


def test_the_whole_ensemble_on_a_model_that_clamps_its_input() -> None:
    images = _images()
    labels = predict(Clamping(careful=True), images)
    found, known = (auto_attack(Clamping(careful=careful), images, labels, eps=0.4,
                                generator=torch.Generator().manual_seed(0)) for careful in (False, True))
    assert torch.equal(found, known)


class Rounding(nn.Module):
    """A filter of four grey levels, in place or not."""

    attacked_through, levels = "bpda", 4

    def __init__(self, *, careful: bool) -> None:
        super().__init__()
        self.careful = careful

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W)."""
        return (images.clone() if self.careful else images).mul_(self.levels).round_().div_(self.levels)


@pytest.mark.parametrize("stand_in", ["identity", "staircase"])
def test_the_stand_in_of_a_layer_that_works_in_place(stand_in: str) -> None:
    from parapet.attacks import Bpda

    images = _images()
    rounded = [Bpda(nn.Sequential(Rounding(careful=careful), _network()), stand_in) for careful in (False, True)]
    labels = predict(rounded[1], images)
    found, known = (pgd(model, images, labels, eps=0.2, steps=5) for model in rounded)
    assert torch.equal(found, known) and not torch.equal(found, images)


def test_a_random_model_that_works_in_place_is_averaged_over_the_same_images() -> None:
    class Noisy(Clamping):
        attacked_through = "eot"

        def answer(self, images: Tensor) -> Tensor:
            return self.network(images.add_(0.3 * torch.rand_like(images)))
    images = _images()
    found, known = (adapted(Noisy(careful=careful), draws=4)(images) for careful in (False, True))
    assert torch.equal(found, known)


@pytest.mark.parametrize("attack", [ATTACKS["pgd_margin linf"], ATTACKS["deepfool l2"], ATTACKS["carlini_wagner l2"]],
                         ids=lambda case: case[0].name)
def test_a_model_that_overwrites_what_its_gradient_needs_is_told_in_a_sentence(attack: tuple) -> None:
    class Overwriting(Clamping):
        def answer(self, images: Tensor) -> Tensor:
            bent = images.sigmoid()
            return self.network(bent.mul_(2))
    images = _images()
    model: Callable = Overwriting(careful=True)
    with pytest.raises(InputError) as caught:
        _run(*attack, model, images, predict(model, images))
    assert str(caught.value) == ("the model has no gradient: one of its operations in place, such as x.mul_(2) after x "
                                 "= x.sigmoid(), overwrites what autograd keeps; write a new tensor there.")
