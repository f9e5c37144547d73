"""Fresh copies of honest models are as robust as the model; those of models that remember their queries are not."""

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

from parapet.attacks.audit import AuditBudget, audit
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.fresh_copies import fresh_copy
from parapet.errors import ProcessDied
from parapet.models import save
from parapet.models.foreign import load_any
from tests.attacks import maskers

ROOT = Path(__file__).parents[3]
BUDGET = AuditBudget(pgd_steps=20, copied_images=60)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=100).all()


def _check(name: str, model: Any, images: tuple[Tensor, Tensor], loader: Any = None) -> dict[str, Any]:
    checks = ["margin", name]  # the first asks for the clean images and attacks them, as an audit does
    return audit(model, *images, norm="linf", eps=0.2, checks=checks, limits=BUDGET, loader=loader)["checks"][1]


@pytest.mark.parametrize("masker", [maskers.Halves, maskers.CleanLooking, maskers.Memo, maskers.Plausible])
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
    assert found["verdict"] == "pass" and "Not tested, because the audit was given the model" in found["advice"]


def test_a_memory_that_copies_share_is_found_out_by_what_it_writes(undefended, images, tmp_path: Path) -> None:
    save(undefended.network, tmp_path / "net.safetensors")
    loader = partial(maskers.from_file, maskers.InAFile, str(tmp_path / "net.safetensors"))
    model = loader()
    found = _check("copy", model, images, loader)
    model.path.unlink()
    assert found["numbers"]["copy"] < 0.2  # each process has a temporary folder of its own
    assert found["verdict"] == "fail"
    assert "While it answers, the model writes to a file, through which copies" in found["advice"]


def test_a_memory_that_copies_share_elsewhere_fails_by_what_it_writes_alone(undefended, images, tmp_path: Path,
                                                                          ) -> None:
    save(undefended.network, tmp_path / "net.safetensors")
    loader = partial(maskers.in_this_file, str(tmp_path / "net.safetensors"), str(tmp_path / "memory.pt"))
    found = _check("copy", loader(), images, loader)
    assert found["numbers"]["copy"] > 0.8 and found["verdict"] == "fail" and "writes to a file" in found["advice"]


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
        f"The model cannot be loaded and queried again in another process ({reason}")


def _context(honest: Any, images: tuple[Tensor, Tensor]) -> AuditContext:
    return AuditContext(honest.network, *images, "linf", 0.2, torch.Generator().manual_seed(0), (), BUDGET,
                        maskers.dying)


@pytest.mark.parametrize(("fallen", "verdict"), [(3, "pass"), (12, "fail")])
def test_a_copy_may_fall_on_a_few_images_more_than_this_one(honest, images, monkeypatch, fallen: int,
                                                            verdict: str) -> None:
    """Another order of sums may break an image or two; what the model itself does not keep is no finding."""
    context = _context(honest, images)
    assert bool(context.pgd_margin.any())

    def elsewhere(loader: object, given: list, shown: list, *rest: object) -> tuple[str, tuple]:
        assert len(shown) == 2 and given[0].shape == shown[0].shape == shown[1].shape
        stands = context.standing[context.copied_rows].clone()
        stands[stands.nonzero().squeeze(1)[:fallen]] = False
        return "done", (given[0], stands.numpy(), "")
    monkeypatch.setattr(sys.modules["parapet.attacks.audit.fresh_copies"], "_run_in_child", elsewhere)
    found = fresh_copy(context)
    assert found["verdict"] == verdict and found["numbers"]["points_shown"] == 2


def test_what_the_attack_breaks_here_too_is_no_finding(honest, images, monkeypatch) -> None:
    """On rough networks another start of PGD breaks other images, so the copy meets the same one as this model."""
    context = _context(honest, images)
    module = sys.modules["parapet.attacks.audit.fresh_copies"]
    stands = torch.arange(60) >= 30
    monkeypatch.setattr(module, "_attack", lambda *arguments: (context.images[context.copied_rows], stands))
    monkeypatch.setattr(module, "_run_in_child",
                        lambda loader, given, *rest: ("done", (given[0], stands.numpy(), "")))
    found = fresh_copy(context)
    assert found["verdict"] == "pass" and found["numbers"]["this_one"] == found["numbers"]["copy"] == 0.5


def _is_a_copy(child: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(child.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):  # torch starts short programs of its own while it loads
        return False


def test_the_copy_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed while the copy is being attacked, for which the loader sleeps."""
    program = ("import torch; from parapet.attacks.audit import audit; from tests.attacks import maskers; "
               "audit(lambda x: torch.stack([x.flatten(1).sum(1), 8 + 0 * x.flatten(1).sum(1)], 1), "
               "torch.rand(9, 1, 4, 4), torch.ones(9, dtype=torch.int64), norm='linf', eps=0.1, checks=['copy'], "
               "loader=maskers.sleeping)")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as parent:
        watched, end = [], time.monotonic() + 60
        while not watched and time.monotonic() < end:
            watched = [child for child in psutil.Process(parent.pid).children() if _is_a_copy(child)]
            time.sleep(0.1)
        time.sleep(2)
        parent.kill()
    assert watched and not psutil.wait_procs(watched, timeout=30)[1]


def test_a_copy_that_dies_is_one_sentence(honest, images) -> None:
    with pytest.raises(ProcessDied, match=r"a copy of the model was attacked died \(without a message\); run"):
        _check("copy", honest.network, images, maskers.dying)
