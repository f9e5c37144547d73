"""No attack and no check knows how large logits are: the known answers at every scale, offset and precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks import carlini_wagner, deepfool, evaluate, fab, hop_skip_jump
from parapet.attacks.balls import distance, dual_length, unit
from parapet.attacks.compositions import Attack, catalogue, pgd_suite
from parapet.attacks.inputs import answers, predict
from parapet.attacks.minimum_norm.projections import shortest_move
from parapet.attacks.model_contract import ROUNDING, observe
from tests.attacks.linear import SHAPE, ManyClasses, far_from_the_limits

FEW = {"steps": 20, "restarts": 1, "queries": 200, "draws": 20}
ATTACKS = {**{f"{name} {norm}": (attack, norm) for norm in ("linf", "l2") for name, attack in catalogue(norm).items()},
           **{f"fab untargeted {norm}": (Attack("fab", fab, {"steps": 20, "targets": None}, minimum_norm=True), norm)
              for norm in ("linf", "l2")}}
# Cross-entropy weighs the classes by their probabilities, which the scale of the logits changes.
WEIGHING = ("fgsm", "pgd_ce", "pgd_100", "mi_fgsm", "apgd_ce")
MINIMUM = {"deepfool": deepfool, "fab": partial(fab, steps=40), "fab untargeted": partial(fab, targets=None, steps=40),
           "carlini_wagner": partial(carlini_wagner, steps=100, searches=9, step_size=0.02)}
SCALES = (1e-8, 1e-7, 1e-4, 1.0, 1e4, 1e8)


class Rescaled(nn.Module):
    """A model's logits times `scale` plus `offset`, rounded to `dtype`."""

    def __init__(self, model: nn.Module, scale: float = 1.0, offset: float = 0.0,
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model, self.scale, self.offset, self.dtype = model, scale, offset, dtype

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return (self.model(images).double() * self.scale + self.offset).to(self.dtype)

    def blur(self, images: Tensor) -> float:
        """By how much rounding can move a difference of two logits, as a share of the scale."""
        return 2 * torch.finfo(self.dtype).eps * float(self(images).double().abs().max()) / self.scale


def _attacked(attack: Attack, norm: str, model: nn.Module, images: Tensor, labels: Tensor,
              eps: float = 0.1) -> tuple[Tensor, ...]:
    options = {**attack.options, **{name: few for name, few in FEW.items() if name in attack.options},
               "norm": norm, "generator": torch.Generator().manual_seed(0)}
    if attack.name == "carlini_wagner":
        options |= {"steps": 40, "searches": 4}
    if not attack.minimum_norm:
        options["eps"] = eps
    found = attack.function(model, images, labels, **options)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("power", [-40, -27, 27, 40])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_power_of_two_changes_no_attack_by_a_single_bit(name: str, power: int) -> None:
    attack, norm = ATTACKS[name]
    classes = 2 if attack.name in WEIGHING else 6
    model = nn.Sequential(ManyClasses(classes), nn.Hardtanh(-8.0, 8.0))  # with a place where it is flat
    images = 0.4 + 0.2 * torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = predict(model, images)
    known, found = (_attacked(attack, norm, scaled, images, labels, eps=0.1 if norm == "linf" else 0.4)
                    for scaled in (model, Rescaled(model, 2.0**power)))
    assert all(torch.equal(one, other) for one, other in zip(known, found))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", MINIMUM)
def test_the_exact_distance_of_a_linear_model_at_any_scale(name: str, norm: str, scale: float) -> None:
    if name == "carlini_wagner" and norm == "linf":
        return
    linear, images, labels = far_from_the_limits()
    found, distances = MINIMUM[name](Rescaled(linear, scale), images, labels, norm=norm)
    assert torch.allclose(distances, linear.exact_distances(images, norm), rtol=2e-3, atol=1e-5)
    assert torch.allclose(distances, distance(found, images, norm))
    assert (predict(Rescaled(linear, scale), found) != labels).all()


LOW = [(1.0, 1e3, torch.float32), (1.0, 1e6, torch.float32), (1.0, -1e6, torch.float32), (1e4, 1e6, torch.float32),
       (1e8, 1e6, torch.float32), (1e-2, 1e3, torch.float32), (1.0, 0.0, torch.float16), (1e-4, 0.0, torch.float16),
       (1e3, 0.0, torch.float16), (1.0, 100.0, torch.float16), (1.0, 0.0, torch.bfloat16), (1e-8, 0.0, torch.bfloat16),
       (1e8, 0.0, torch.bfloat16), (1e8, 1e6, torch.bfloat16), (1.0, 3.0, torch.bfloat16)]


@pytest.mark.parametrize("case", LOW, ids=str)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", [*MINIMUM, "hop_skip_jump"])
def test_the_exact_distance_within_what_the_precision_of_the_logits_leaves(name: str, norm: str, case: tuple) -> None:
    if name == "carlini_wagner" and (norm == "linf" or case not in LOW[1::4]):
        return  # a thousand steps each
    linear, images, labels = far_from_the_limits()
    model = Rescaled(linear, *case)
    exact = linear.exact_distances(images, norm)
    blurred = model.blur(images) / float(linear.weight.detach().norm(p=1 if norm == "linf" else 2))
    attack = partial(hop_skip_jump, queries=1500) if name == "hop_skip_jump" else MINIMUM[name]
    found, distances = attack(model, images, labels, norm=norm)
    wrong = predict(model, found) != labels
    assert torch.equal(distances < torch.inf, wrong) and torch.equal(distances[wrong], distance(found, images,
                                                                                                norm)[wrong])
    # HopSkipJump asks for labels alone, and how near it comes is tested elsewhere.
    nearest, furthest = exact - blurred - 1e-5, 1.02 * exact + 2 * blurred + 2e-4
    assert (distances >= nearest).all()
    if name != "hop_skip_jump":
        assert wrong.all() and (distances <= furthest).all(), (distances - exact).abs().max()


@pytest.mark.parametrize("case", [*((scale, 0.0, torch.float32) for scale in SCALES), *LOW], ids=str)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_falls_where_eps_exceeds_its_distance_at_any_scale(norm: str, case: tuple) -> None:
    linear, images, labels = far_from_the_limits()
    model, exact = Rescaled(linear, *case), linear.exact_distances(images, norm)
    blurred = model.blur(images) / float(linear.weight.detach().norm(p=1 if norm == "linf" else 2))
    eps = float(exact.median()) + 1e-4
    clear = (exact - eps).abs() > 1e-3 + 2 * blurred
    for name, attack in catalogue(norm).items():
        if attack.minimum_norm or name.endswith("noise") or name == "square":
            continue  # see above; and what is drawn at random may miss
        found, = _attacked(attack, norm, model, images, labels, eps)
        fooled = predict(model, found) != labels
        assert torch.equal(fooled[clear], (exact < eps)[clear]), name


@pytest.mark.parametrize("case", [(1e-8, 0.0, torch.float32), (1e8, 0.0, torch.float32), (1.0, 1e6, torch.float32),
                                  (1e8, 1e6, torch.float32), (1.0, 0.0, torch.bfloat16), (1e-6, 1e6, torch.float32)],
                         ids=str)
def test_rounding_is_not_taken_for_randomness_and_randomness_is_found_at_any_scale(case: tuple) -> None:
    model = Rescaled(ManyClasses(6), *case)
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    labels = predict(model, images)
    seen = observe(model, images, answers(model, images))
    assert seen.drift <= ROUNDING and seen.batch_effect <= ROUNDING
    record = evaluate(model, images, labels, norm="linf", eps=0.01, suite=pgd_suite(pgd_steps=2, pgd_restarts=1))
    assert record["clean_accuracy"] == 1.0
    noise = torch.Generator().manual_seed(0)
    spread = float(answers(model, images).double().std())
    if spread > 0:
        def random(batch: Tensor) -> Tensor:
            logits = model(batch).double()
            return (logits + 0.5 * spread * torch.randn(logits.shape, generator=noise)).to(case[2])
        assert observe(random, images, answers(random, images)).drift > ROUNDING


def test_lengths_of_gradients_whose_squares_are_no_numbers() -> None:
    directions = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-45, 0.0]])
    for scale in (1e-30, 1e-20, 1.0, 1e20, 1e30):
        scaled = directions[:2] * scale
        assert torch.allclose(unit(scaled), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
        assert torch.allclose(dual_length(scaled, "l2") / scale, torch.tensor([5.0, 0.0]))
        assert torch.allclose(dual_length(scaled, "linf") / scale, torch.tensor([7.0, 0.0]))
    assert unit(directions[2:]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_the_shortest_move_does_not_know_the_scale_of_the_plane(norm: str, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    points, normals = torch.rand(8, 12, generator=generator), torch.randn(8, 12, generator=generator)
    gaps = 0.3 * torch.randn(8, generator=generator)
    known = shortest_move(points, normals, gaps, norm)
    assert torch.allclose(shortest_move(points, normals * scale, gaps * scale, norm), known, atol=1e-6)
    flat = shortest_move(points, torch.zeros_like(normals), gaps * scale, norm)
    assert torch.equal(flat, torch.zeros_like(flat))
