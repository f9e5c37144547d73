"""A model that behaves differently while it is evaluated fails, and one that does not passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import CHECKS, DEEP_CHECKS, AuditBudget, audit, run_audit
from parapet.attacks.audit.variations import (
    VARIATIONS,
    _cast_through,
    _shift_corner,
    _shift_middle,
    _uniform_areas,
    _zero_frame,
    change_of,
    quantise,
)
from tests.attacks import maskers

BUDGET = AuditBudget(pgd_steps=20, varied_images=48)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    images, labels = digits.split("validation", limit=100).all()
    return torch.round(images * 255) / 255, labels  # as a picture of 8 bits has them


def _check(name: str, model: Any, images: tuple[Tensor, Tensor], loader: Any = None) -> dict[str, Any]:
    checks = ["margin", name]  # the first asks for the clean images and attacks them, as an audit does
    return audit(model, *images, norm="linf", eps=0.2, checks=checks, limits=BUDGET, loader=loader)["checks"][1]


@pytest.mark.parametrize(("masker", "seen"), [
    (maskers.on_the_grid, "8-bit pixels"), (maskers.one_at_a_time, "one at a time"),
    (maskers.in_inference_mode, "in inference mode"), (maskers.framed, "frame zeroed"),
    (maskers.in_few_bits, "mixed precision"), (maskers.in_medium_batches, "in batches of 17"),
    (maskers.in_a_bulk_job, "in batches of 1025"), (maskers.on_the_float16_grid, "float16 pixels")])
def test_an_undefended_net_that_shows_a_robust_one_is_found_out(undefended, honest, images, masker: Any,
                                                                seen: str) -> None:
    # In a frame of zeros, as those of MNIST.
    networks = [lambda points, net=net.network: net(points[:, :, 2:-2, 2:-2]) for net in (undefended, honest)]
    found = _check("variations", masker(*networks), (torch.nn.functional.pad(images[0], (2, 2, 2, 2)), images[1]))
    assert found["verdict"] == "fail" and seen in found["advice"]
    assert found["numbers"][seen] < found["numbers"]["as_before"] - 0.2


def test_a_robust_net_is_the_same_in_every_variation(honest, undefended, images) -> None:
    for trained in (honest, undefended):
        found = _check("variations", trained.network, images)
        # The digits have even black areas.
        others = set(VARIATIONS) - {"as before", "as served", "half precision", "mixed precision",
                                    "alike in all channels"}
        assert found["verdict"] == "pass" and set(found["numbers"]) == {"images", "as_before", *others}
        assert all(found["numbers"][name] > found["numbers"]["as_before"] - 0.1 for name in others)


def test_a_model_that_has_fallen_before_is_not_said_to_stand(undefended, images) -> None:
    """Its losing logits are turned around, so that PGD on the margin alone does not find what others do."""
    def model(batch: Tensor) -> Tensor:
        logits = undefended.network(batch)
        top = logits.argmax(1, keepdim=True)
        raised = logits.gather(1, top).detach() + 5 + logits.abs().amax(1, keepdim=True)
        return (logits.mean(1, keepdim=True) - logits).scatter(1, top, raised)
    found = audit(model, *images, norm="linf", eps=0.2, checks=["order", "noise", "black_box", "variations"],
                  limits=BUDGET)["checks"][-1]
    assert found["verdict"] == "pass" and found["numbers"]["as_before"] > found["numbers"]["in inference mode"] + 0.2


def test_what_a_variation_breaks_inside_the_ball_counts_where_the_model_falls_as_it_is_examined(
        undefended, honest, images) -> None:
    model = maskers.on_the_grid(undefended.network, honest.network)
    report, points = run_audit(model, *images, norm="linf", eps=0.2, checks=["variations"], limits=BUDGET)
    broken = torch.tensor([mark == "0" for mark in report["survived"]]) & (model(images[0]).argmax(1) == images[1])
    assert int(broken.sum()) > 30
    assert ((points - images[0]).abs().flatten(1).amax(1) <= 0.2 + 1e-6).all()
    assert (model(points[broken]).argmax(1) != images[1][broken]).all()


def test_a_grey_image_in_colour_is_attacked_in_grey(undefended, honest, images) -> None:
    model = maskers.of_grey_pixels(undefended.network, honest.network)
    found = _check("variations", model, (images[0].repeat(1, 3, 1, 1), images[1]))
    assert found["verdict"] == "fail" and "alike in all channels" in found["advice"]
    coloured = images[0].repeat(1, 3, 1, 1) * torch.tensor([1.0, 0.9, 0.8]).reshape(1, 3, 1, 1)
    assert "alike in all channels" not in _check("variations", model, (coloured, images[1]))["numbers"]


def test_a_frame_is_kept_as_it_comes(undefended, honest, images) -> None:
    networks = [lambda points, net=net.network: net(points[:, :, 2:-2, 2:-2]) for net in (undefended, honest)]
    framed = maskers.deployment.in_a_grey_frame(images[0])
    found = _check("variations", maskers.framed_in_grey(*networks), (framed, images[1]))
    assert found["verdict"] == "fail" and "even areas kept" in found["advice"]
    assert found["numbers"]["even areas kept"] < found["numbers"]["as_before"] - 0.2


def test_even_areas_are_squares_of_alike_pixels() -> None:
    image = torch.zeros(1, 2, 5, 5)
    image[0, 1, 2, 3:] = 0.5  # whatever lies around them lies in squares of the other side, too
    expected = torch.ones(5, 5, dtype=torch.bool)
    expected[2, 3:] = False
    assert torch.equal(_uniform_areas(image)[0, 0], expected)
    points = torch.rand(3, 2, 5, 5, generator=torch.Generator().manual_seed(0)) / 10
    changed = change_of(VARIATIONS["even areas kept"], torch.cat([image + 0.9, image]))(image + points)
    assert torch.equal(changed, torch.where(expected, image, image + points))


def test_changes_that_nobody_sees_are_as_small_as_they_say() -> None:
    images = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    images[0], images[1] = 0.0, 1.0
    for change, size, count in ((_shift_corner, 1 / 255, 2), (_shift_middle, 1 / 765, 2)):
        moved = change(images) - images
        assert torch.allclose(moved.abs().amax(), torch.tensor(size), atol=1e-6)
        assert ((moved != 0).flatten(1).sum(1) == count).all()
        assert change(images).amin() >= 0 and change(images).amax() <= 1
    assert torch.allclose(quantise(images) * 255, (images * 255).round(), atol=1e-4)
    assert (_zero_frame(images)[:, :, 0] == 0).all() and torch.equal(_zero_frame(images)[:, :, 1:-1, 1:-1],
                                                                   images[:, :, 1:-1, 1:-1])
    for change in (quantise, _cast_through(torch.bfloat16)):
        points = images.clone().requires_grad_()
        assert torch.equal(torch.autograd.grad(change(points).sum(), points)[0], torch.ones_like(images))
    assert 0 < (_cast_through(torch.bfloat16)(images) - images).abs().max() <= 1 / 512


def test_a_model_that_works_in_place_or_cannot_take_another_order_of_memory(images) -> None:
    colour = images[0].repeat(1, 3, 1, 1)

    def in_place(points: Tensor) -> Tensor:
        return (points.sub_(0.5).flatten(1) @ torch.randn(192, 10, generator=torch.Generator().manual_seed(0))).mul_(2)

    def viewing(points: Tensor) -> Tensor:
        return points.view(-1, 192) @ torch.randn(192, 10, generator=torch.Generator().manual_seed(0))
    for model, lacking in ((in_place, ["double precision", "half precision"]),
                           (viewing, ["channels last", "not contiguous", "double precision", "half precision"])):
        labels = model(colour.clone()).argmax(1)
        found = _check("variations", model, (colour, labels))
        assert found["verdict"] == "pass"
        assert [name for name, value in found["numbers"].items() if value is None] == lacking
        assert found["advice"].endswith(f"it cannot be queried in these ways: {', '.join(lacking)}.")


def test_a_batch_that_does_not_fit_into_memory_is_halved(honest, images) -> None:
    def short(points: Tensor) -> Tensor:
        if len(points) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest.network(points)
    assert _check("variations", short, images)["verdict"] == "pass"


def test_deep_checks_are_asked_for(honest, images) -> None:
    assert set(DEEP_CHECKS) < set(CHECKS)
    few = [part[:12] for part in images]
    tiny = AuditBudget(pgd_steps=2, restarts=1, targeted_steps=1, targets=1, square_queries=2, decision_queries=30,
                       decision_images=2, noise_draws=2, varied_images=2)
    shallow, deep = (audit(honest.network, *few, norm="linf", eps=0.1, limits=tiny, deep=asked)
                     for asked in (False, True))
    assert [check["id"] for check in deep["checks"]][-5:] == list(DEEP_CHECKS)
    assert [check["id"] for check in shallow["checks"]] == [check["id"] for check in deep["checks"]][:-5]
