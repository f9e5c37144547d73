"""A model that behaves otherwise while it is examined fails, and one that does not passes."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import CHECKS, DEEP_CHECKS, AuditBudget, audit, audited_rows, run_audit
from parapet.attacks.audit.otherwise import VARIATIONS, _cornered, _nudged, _rounded, _unframed, copy
from parapet.attacks.audit.scene import Scene
from parapet.errors import ProcessDied
from parapet.models import save
from parapet.models.foreign import load_any
from tests.attacks import maskers

ROOT = Path(__file__).parents[3]
BUDGET = AuditBudget(pgd_steps=20, varied_images=48, copied_images=60)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    images, labels = digits.split("validation", limit=100).all()
    return torch.round(images * 255) / 255, labels  # as a picture of 8 bits has them


def _check(name: str, model: Any, images: tuple[Tensor, Tensor], loader: Any = None) -> dict[str, Any]:
    checks = ["margin", name]  # the first asks for the clean images and attacks them, as an audit does
    return audit(model, *images, norm="linf", eps=0.2, checks=checks, limits=BUDGET, loader=loader)["checks"][1]


@pytest.mark.parametrize(("masker", "seen"), [
    (maskers.on_the_grid, "8-bit pixels"), (maskers.one_at_a_time, "one at a time"),
    (maskers.in_inference_mode, "in inference mode"), (maskers.framed, "frame zeroed")])
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
        others = set(VARIATIONS) - {"as before", "as served"}
        assert found["verdict"] == "pass" and set(found["numbers"]) == {"images", "as_before", *others}
        assert all(found["numbers"][name] > found["numbers"]["as_before"] - 0.1 for name in others)


def test_what_a_variation_breaks_inside_the_ball_counts_where_the_model_falls_as_it_is_examined(
        undefended, honest, images) -> None:
    model = maskers.on_the_grid(undefended.network, honest.network)
    report, points = run_audit(model, *images, norm="linf", eps=0.2, checks=["variations"], limits=BUDGET)
    broken = torch.tensor([mark == "0" for mark in report["survived"]]) & (model(images[0]).argmax(1) == images[1])
    assert int(broken.sum()) > 30
    assert ((points - images[0]).abs().flatten(1).amax(1) <= 0.2 + 1e-6).all()
    assert (model(points[broken]).argmax(1) != images[1][broken]).all()


def test_changes_that_nobody_sees_are_as_small_as_they_say() -> None:
    images = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    images[0], images[1] = 0.0, 1.0
    for change, size, count in ((_cornered, 1 / 255, 2), (_nudged, 1 / 765, 2)):
        moved = change(images) - images
        assert torch.allclose(moved.abs().amax(), torch.tensor(size), atol=1e-6)
        assert ((moved != 0).flatten(1).sum(1) == count).all()
        assert change(images).amin() >= 0 and change(images).amax() <= 1
    assert torch.allclose(_rounded(images) * 255, (images * 255).round(), atol=1e-4)
    assert (_unframed(images)[:, :, 0] == 0).all() and torch.equal(_unframed(images)[:, :, 1:-1, 1:-1],
                                                                   images[:, :, 1:-1, 1:-1])
    points = images.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(_rounded(points).sum(), points)[0], torch.ones_like(images))


@pytest.mark.parametrize("masker", [maskers.Halves, maskers.CleanLooking, maskers.Memo])
def test_a_memory_is_found_out_by_a_copy_that_has_not_seen_the_images(undefended, images, tmp_path: Path,
                                                                      masker: Any, digits) -> None:
    save(undefended.network, tmp_path / "net.safetensors")
    loader = partial(maskers.from_file, masker, str(tmp_path / "net.safetensors"))
    clean = digits.split("validation", limit=100).all()
    found = _check("copy", loader(), clean, loader)
    assert found["verdict"] == "fail" and found["numbers"]["attacked"] == 60
    assert found["numbers"]["this_one"] > 0.8 and found["numbers"]["copy"] < 0.2
    # Without a way to load it nothing is known, and the verdict says so.
    found = _check("copy", loader(), clean)
    assert found["verdict"] == "pass" and "Not looked at, because the model was given" in found["advice"]


def test_a_copy_of_an_honest_net_stands_as_much(honest, images, tmp_path: Path) -> None:
    save(honest.network, tmp_path / "net.safetensors")
    found = _check("copy", honest.network, images, partial(maskers.from_file, maskers.honest, str(
        tmp_path / "net.safetensors")))
    assert found["verdict"] == "pass" and abs(found["numbers"]["this_one"] - found["numbers"]["copy"]) < 0.1


@pytest.mark.parametrize(("loader", "reason"), [
    (partial(load_any, "nowhere.safetensors"), "InputError: nowhere.safetensors does not exist"),
    (maskers.unlicensed, "ValueError: no licence for a second process")])
def test_a_model_that_cannot_be_asked_again_is_a_warning(honest, images, loader: Any, reason: str) -> None:
    found = _check("copy", honest.network, images, loader)
    assert found["verdict"] == "warn" and found["advice"].startswith(
        f"The model cannot be loaded and asked again in another process ({reason}")


def test_a_copy_that_falls_on_other_images_as_often_as_this_one_is_no_finding(honest, images, monkeypatch) -> None:
    """Two runs of PGD break a few images each that the other leaves, which is chance and no memory."""
    def elsewhere(loader: object, given: tuple, *rest: object) -> tuple[str, tuple]:
        stands = scene_stands[:len(given[1])].clone()
        fell, stood = stands.nonzero().squeeze(1)[:9], (~stands).nonzero().squeeze(1)[:9]
        stands[fell], stands[stood] = False, True
        return "done", (given[0], stands.numpy())
    scene = Scene(honest.network, *images, "linf", 0.2, torch.Generator().manual_seed(0), (), BUDGET, maskers.dying)
    scene_stands = scene.pgd_margin[audited_rows(scene.labels, BUDGET.copied_images, seed=0)]
    monkeypatch.setattr(sys.modules["parapet.attacks.audit.otherwise"], "_in_another_process", elsewhere)
    assert copy(scene)["verdict"] == "pass"


def test_the_copy_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed while the copy is being attacked, for which the loader sleeps."""
    program = ("import torch; from parapet.attacks.audit import audit; from tests.attacks import maskers; "
               "audit(lambda x: torch.stack([x.flatten(1).sum(1), 8 + 0 * x.flatten(1).sum(1)], 1), "
               "torch.rand(9, 1, 4, 4), torch.ones(9, dtype=torch.int64), norm='linf', eps=0.1, checks=['copy'], "
               "loader=maskers.sleeping)")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as parent:
        watched, end = [], time.monotonic() + 60
        while not watched and time.monotonic() < end:
            watched = [child for child in psutil.Process(parent.pid).children() if "spawn_main" in " ".join(
                child.cmdline())]
            time.sleep(0.1)
        time.sleep(2)
        parent.kill()
    assert watched and not psutil.wait_procs(watched, timeout=30)[1]


def test_a_model_that_works_in_place_or_cannot_take_another_order_of_memory(images) -> None:
    colour = images[0].repeat(1, 3, 1, 1)

    def in_place(points: Tensor) -> Tensor:
        return (points.sub_(0.5).flatten(1) @ torch.randn(192, 10, generator=torch.Generator().manual_seed(0))).mul_(2)

    def viewing(points: Tensor) -> Tensor:
        return points.view(-1, 192) @ torch.randn(192, 10, generator=torch.Generator().manual_seed(0))
    for model, lacking in ((in_place, ["double precision"]),
                           (viewing, ["channels last", "not contiguous", "double precision"])):
        labels = model(colour.clone()).argmax(1)
        found = _check("variations", model, (colour, labels))
        assert found["verdict"] == "pass"
        assert [name for name, value in found["numbers"].items() if value is None] == lacking
        assert found["advice"].endswith(f"it cannot be asked this way: {', '.join(lacking)}.")


def test_a_batch_that_does_not_fit_into_memory_is_halved(honest, images) -> None:
    def short(points: Tensor) -> Tensor:
        if len(points) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest.network(points)
    assert _check("variations", short, images)["verdict"] == "pass"


def test_a_copy_that_dies_is_one_sentence(honest, images) -> None:
    with pytest.raises(ProcessDied, match=r"a copy of the model was attacked died \(it said nothing\); run"):
        _check("copy", honest.network, images, maskers.dying)


def test_deep_checks_are_asked_for(honest, images) -> None:
    assert set(DEEP_CHECKS) < set(CHECKS)
    few = [part[:12] for part in images]
    tiny = AuditBudget(pgd_steps=2, restarts=1, targeted_steps=1, targets=1, square_queries=2, decision_queries=30,
                       decision_images=2, noise_draws=2, varied_images=2)
    shallow, deep = (audit(honest.network, *few, norm="linf", eps=0.1, limits=tiny, deep=asked)
                     for asked in (False, True))
    assert [check["id"] for check in deep["checks"]][-4:] == list(DEEP_CHECKS)
    assert [check["id"] for check in shallow["checks"]] == [check["id"] for check in deep["checks"]][:-4]
