"""Sums of a loss and regularisers: their arithmetic, their forward passes, and wrong input in a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.losses import LOSSES
from parapet.catalogue.spec import resolve
from parapet.errors import InputError
from parapet.training.morel import MorelHead
from parapet.training.regularisers import gradient_alignment, input_gradient
from parapet.training.training_loss import TrainingLoss
from parapet.training.weight_perturbation import perturbed
from tests.training.losses.two_pixels import small_network

SEEDS = torch.arange(9)
TEACHER = small_network(torch.Generator().manual_seed(5)).eval()
NAMES = "pgd, trades, mart, alp, standard, softened, distillation, max_mahalanobis"


class _Counting(nn.Module):
    """A network that counts its calls, without batch norm, so that batches do not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.sizes = small_network(torch.Generator().manual_seed(0)).eval(), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return self.network(images)


def _case() -> tuple[_Counting, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(9, 1, 4, 4, generator=generator)
    return _Counting(), images, torch.arange(9) % 3, (images + 0.1 * torch.rand(images.shape, generator=generator))


def _head() -> MorelHead:
    return MorelHead(8, torch.Generator().manual_seed(0))


def _alone(name: str, model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor,
           **options: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss by itself, with the weights of its paper."""
    given = {"teacher": TEACHER} if name == "distillation" else {}
    loss = LOSSES[name]
    attacked = adversarial if loss.attacked else None
    return resolve(loss.function)(model, images, labels, attacked, **loss.recommended, **given, **options)


def test_every_loss_has_its_weights_listed() -> None:
    assert list(LOSSES) == NAMES.split(", ")
    assert list(REGULARISERS) == ["input_gradient", "gradient_alignment", "logit_squeezing"]


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_alone_is_its_function_with_the_values_of_its_paper(name: str) -> None:
    model, *batch = _case()
    loss, pieces = TrainingLoss(name, smoothing=0.1)(model, *batch, teacher=TEACHER)
    expected, theirs = _alone(name, model, *batch, smoothing=0.1)
    assert torch.equal(loss, expected) and pieces.keys() == theirs.keys()
    assert not any(value.requires_grad for value in pieces.values())


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_sum_is_its_terms_times_their_weights_from_one_forward_pass(name: str) -> None:
    model, images, labels, adversarial = _case()
    training_loss = TrainingLoss(name, regularisers={"input_gradient": 2.0, "gradient_alignment": 0.5,
                                              "logit_squeezing": 0.25})
    loss, pieces = training_loss(model, images, labels, adversarial, eps=0.2, seeds=SEEDS, teacher=TEACHER)
    assert model.sizes == [9 * len(training_loss.parts)]
    expected, _ = _alone(name, model, images, labels, adversarial)
    inputs = input_gradient(model, images, labels)
    alignment = gradient_alignment(model, images, labels, eps=0.2, seeds=SEEDS)
    squared = model(images).square().sum(1).mean()
    if LOSSES[name].attacked:
        squared = (squared + model(adversarial).square().sum(1).mean()) / 2
    total = expected + 2 * inputs + 0.5 * alignment + 0.25 * squared
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    assert pieces["input_gradient"].item() == pytest.approx(inputs.item(), rel=1e-5)
    assert pieces["gradient_alignment"].item() == pytest.approx(alignment.item(), rel=1e-4)
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("training_loss, parts", [
    (TrainingLoss("standard"), ("clean",)),
    (TrainingLoss("pgd"), ("adversarial",)),
    (TrainingLoss("pgd", {"clean_share": 0.5}), ("clean", "adversarial")),
    (TrainingLoss("pgd", regularisers={"input_gradient": 1.0}), ("clean", "adversarial")),
    (TrainingLoss("pgd", regularisers={"input_gradient": 0.0}), ("adversarial",)),
    (TrainingLoss("pgd", regularisers={"logit_squeezing": 1.0}), ("adversarial",)),
    (TrainingLoss("standard", regularisers={"gradient_alignment": 1.0}), ("clean", "noisy")),
    (TrainingLoss("trades", regularisers={"gradient_alignment": 1.0}), ("clean", "adversarial", "noisy"))])
def test_only_what_is_needed_goes_through_the_model(training_loss: TrainingLoss, parts: tuple[str, ...]) -> None:
    model, *batch = _case()
    training_loss(model, *batch, eps=0.2, seeds=SEEDS)
    assert training_loss.parts == parts and model.sizes == [9 * len(parts)]


@pytest.mark.parametrize("name", ["trades", "mart"])
@pytest.mark.parametrize("regularisers", [{}, {"gradient_alignment": 1.0}])
def test_morel_is_the_weighted_sum_from_the_same_pass(name: str, regularisers: dict[str, float]) -> None:
    model, *batch = _case()
    training_loss = TrainingLoss(name, {"beta": 2.0, "morel": 0.1, "morel_alpha": 0.5}, regularisers)
    loss, pieces = training_loss(model, *batch, eps=0.2, seeds=SEEDS, morel_head=_head())
    assert len(model.sizes) == 1
    accuracy, _ = TrainingLoss(name, {"beta": 2.0})(model, *batch)
    expected = 0.9 * accuracy + 0.1 * (pieces["cosine_loss"] + 0.5 * pieces["contrastive_loss"])
    rest = sum(pieces[regulariser].item() * weight for regulariser, weight in regularisers.items())
    assert loss.item() == pytest.approx(expected.item() + rest, rel=1e-5)


def test_without_a_share_morel_costs_nothing() -> None:
    model, *batch = _case()
    loss, _ = TrainingLoss("trades", {"beta": 6.0})(model, *batch)
    again, pieces = TrainingLoss("trades", {"beta": 6.0, "morel": 0.0})(model, *batch, morel_head=_head())
    assert torch.equal(loss, again) and "cosine_loss" not in pieces


def test_it_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(9)
    model = _case()[0]
    for name in LOSSES:
        for _ in range(10):
            images = torch.rand(9, 1, 4, 4, generator=generator)
            loss, _ = TrainingLoss(name, regularisers=dict.fromkeys(REGULARISERS, 0.1))(
                model, images, torch.randint(3, (9,), generator=generator), images, eps=0.1, seeds=SEEDS,
                teacher=TEACHER)
            assert loss >= 0


def test_distillation_without_a_teacher_is_refused() -> None:
    model, *batch = _case()
    with pytest.raises(InputError, match="the loss distillation has no teacher; train one with the loss softened and"):
        TrainingLoss("distillation")(model, *batch)


def test_weights_are_perturbed_around_a_whole_objective() -> None:
    model, *batch = _case()
    training_loss = TrainingLoss("trades", {"morel": 0.1}, {"gradient_alignment": 0.5})
    head = _head()

    def loss() -> torch.Tensor:
        return training_loss(model, *batch, eps=0.2, seeds=SEEDS, morel_head=head)[0]

    before = [parameter.detach().clone() for parameter in model.parameters()]
    with perturbed(model, loss, 0.01) as plain:
        worse = loss()
        worse.backward()
    assert worse >= plain
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))
    assert all(parameter.grad is not None for parameter in (*model.parameters(), *head.parameters()))


def test_images_that_came_in_are_left_as_they_were() -> None:
    model, images, labels, adversarial = _case()
    TrainingLoss("trades", regularisers={"input_gradient": 1.0})(model, images, labels, adversarial)
    assert not images.requires_grad and not adversarial.requires_grad


@pytest.mark.parametrize("arguments, sentence", [
    ({"loss": "tradez"}, f"loss is 'tradez'; did you mean trades? Allowed: {NAMES}."),
    ({"loss": "wgan"}, f"loss is 'wgan'. Allowed: {NAMES}."),
    ({"loss": "trades", "weights": {"betta": 1.0}},
     "a weight of the loss trades is 'betta'; did you mean beta? Allowed: beta, morel, morel_alpha."),
    ({"loss": "standard", "weights": {"beta": 1.0}}, "the loss standard has no weights; leave out beta."),
    ({"loss": "alp", "weights": {"morel": 0.1}}, "a weight of the loss alp is 'morel'. Allowed: pairing."),
    ({"loss": "trades", "weights": {"beta": -1.0}},
     "weights.beta of the loss trades is -1.0; it must be a finite number of at least 0."),
    ({"loss": "mart", "weights": {"beta": float("inf")}},
     "weights.beta of the loss mart is inf; it must be a finite number of at least 0."),
    ({"loss": "alp", "weights": {"pairing": float("nan")}},
     "weights.pairing of the loss alp is nan; it must be a finite number of at least 0."),
    ({"loss": "alp", "weights": {"pairing": "1"}},
     "weights.pairing of the loss alp is '1'; it must be a finite number of at least 0."),
    ({"loss": "distillation", "weights": {"temperature": 0.0}},
     "weights.temperature of the loss distillation is 0; it must be a finite number above 0."),
    ({"loss": "pgd", "weights": {"clean_share": 1.5}},
     "weights.clean_share of the loss pgd is 1.5; it must be a number from 0 to below 1."),
    ({"loss": "trades", "weights": {"morel": 1}},
     "weights.morel of the loss trades is 1; it must be a number from 0 to below 1."),
    ({"loss": "pgd", "regularisers": {"input_gradients": 1.0}},
     "a regulariser is 'input_gradients'; did you mean input_gradient? Allowed: input_gradient, "
     "gradient_alignment, logit_squeezing."),
    ({"loss": "pgd", "regularisers": {"logit_squeezing": -0.5}},
     "regularisers.logit_squeezing is -0.5; it must be a finite number of at least 0."),
    ({"loss": "pgd", "smoothing": True}, "smoothing is True; it must be a number from 0 to below 1.")])
def test_wrong_objectives_are_refused_in_a_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainingLoss(**arguments)
    assert str(caught.value) == sentence


def test_morel_without_its_head_is_refused() -> None:
    model, *batch = _case()
    with pytest.raises(InputError) as caught:
        TrainingLoss("mart", {"morel": 0.1})(model, *batch)
    assert str(caught.value) == ("weights.morel of the loss mart is 0.1 and there is no morel_head; build one with "
                                 "MorelHead(features, generator).")
