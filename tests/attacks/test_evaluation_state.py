"""An evaluation that is killed goes on where it was, and one of another model, data or attack is refused."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks import evaluate, run_suite
from parapet.attacks.black_box.square import square
from parapet.attacks.compositions import Attack
from parapet.attacks.evaluation_state import EvaluationState, Part
from parapet.attacks.gradient.fgsm import fgsm
from parapet.attacks.gradient.pgd import pgd
from parapet.errors import InputError
from parapet.models import save
from tests.attacks.linear import far_from_the_limits

SUITE = [Attack("fgsm", fgsm), Attack("pgd", pgd, {"steps": 5}),
         Attack("square", square, {"queries": 20}, survivors_only=True)]


@pytest.fixture
def linear() -> tuple[nn.Module, Tensor, Tensor]:
    return far_from_the_limits()


def _evaluate(model, images: Tensor, labels: Tensor, folder: Path | None, **changes) -> tuple[dict, Tensor]:
    options = {"norm": "linf", "eps": 0.05, "suite": SUITE, "batch_size": 8, **changes}
    seed = options.pop("seed", 0)
    record, points = run_suite(model, images, labels, generator=torch.Generator().manual_seed(seed), state=folder,
                               **options)
    return _timeless(record), points


def _timeless(record: dict) -> dict:
    attacks = {name: {key: value for key, value in attack.items() if key != "seconds"}
               for name, attack in record["attacks"].items()}
    return {**record, "seconds": 0, "attacks": attacks}


def test_state_changes_nothing_and_is_not_made_twice(linear: tuple, tmp_path: Path) -> None:
    without, points = _evaluate(*linear, None)
    first, first_points = _evaluate(*linear, tmp_path)
    asked = []

    def counted(images: Tensor) -> Tensor:
        if images.requires_grad:
            asked.append(len(images))
        return linear[0](images)
    counted.__qualname__ = "model"
    again, again_points = _evaluate(*linear, tmp_path)
    assert without == first == again
    assert torch.equal(points, first_points) and torch.equal(points, again_points)
    _evaluate(counted, *linear[1:], tmp_path / "callable")
    whole = sum(asked)
    asked.clear()
    _evaluate(counted, *linear[1:], tmp_path / "callable")
    assert sum(asked) < whole / 10  # one gradient, which tells this model from others


def test_a_part_that_is_missing_or_damaged_is_made_again(linear: tuple, tmp_path: Path) -> None:
    whole, points = _evaluate(*linear, tmp_path)
    parts = sorted(tmp_path.glob("*/*.safetensors"))
    assert len(parts) > 6
    parts[0].unlink()
    parts[2].write_bytes(parts[2].read_bytes()[:50])
    again, same = _evaluate(*linear, tmp_path)
    assert again == whole and torch.equal(points, same)


@pytest.mark.parametrize(("changes", "told"), [
    ({"eps": 0.06}, "eps (0.05 there, 0.06 here)"),
    ({"norm": "l2"}, "norm (linf there, l2 here)"),
    ({"seed": 1}, "the seed"),
    ({"batch_size": 7}, "batch_size (8 there, 7 here)"),
    ({"suite": [SUITE[0], Attack("pgd", pgd, {"steps": 6}), SUITE[2]]}, "attack pgd (steps 5 there, 6 here)"),
    ({"suite": SUITE[:2]}, "attack square (only there)"),
    ({"suite": [SUITE[1], SUITE[0], SUITE[2]]}, "the order of the attacks"),
])
def test_another_evaluation_is_refused_by_name(linear: tuple, tmp_path: Path, changes: dict, told: str) -> None:
    _evaluate(*linear, tmp_path)
    with pytest.raises(InputError) as caught:
        _evaluate(*linear, tmp_path, **changes)
    assert str(caught.value) == (f"{tmp_path} holds the state of another evaluation: it differs in {told}. "
                                 "Give another folder, or remove this one.")


def test_another_model_and_other_data_are_refused(linear: tuple, tmp_path: Path) -> None:
    model, images, labels = linear
    _evaluate(model, images, labels, tmp_path)
    with pytest.raises(InputError, match="differs in the images or labels"):
        _evaluate(model, images.flip(0), labels.flip(0), tmp_path)
    with torch.no_grad():
        model.weight[0] += 1e-3
    with pytest.raises(InputError, match="differs in the model"):
        _evaluate(model, images, labels, tmp_path)


def test_a_function_is_known_by_its_answers(linear: tuple, tmp_path: Path) -> None:
    model, images, labels = linear

    def evaluated(factor: float) -> None:
        def scaled(batch: Tensor) -> Tensor:
            return factor * model(batch)
        _evaluate(scaled, images, labels, tmp_path)
    evaluated(1.0)
    evaluated(1.0)
    with pytest.raises(InputError, match="differs in the model, whose answers for the clean images differ"):
        evaluated(1.1)


def test_two_at_once_are_refused(linear: tuple, tmp_path: Path) -> None:
    model, images, labels = linear

    def nested(model, images: Tensor, labels: Tensor, **rest) -> Tensor:
        with pytest.raises(InputError, match="in use by another evaluation"):
            _evaluate(model, images, labels, tmp_path)
        return images
    evaluate(model, images, labels, norm="linf", eps=0.1, suite=[Attack("nested", nested)], state=tmp_path)


_KILLED = """
import sys, torch
from pathlib import Path
from parapet.attacks import evaluate
from parapet.attacks.compositions import Attack
from parapet.attacks.gradient.pgd import pgd
from parapet.data.dataset import Dataset
from parapet.models import load
torch.set_num_threads(1)
images, labels = Dataset.open(Path(sys.argv[1])).split("test", limit=120).all()
evaluate(load(Path(sys.argv[2])), images, labels, norm="linf", eps=0.2, batch_size=10,
         suite=[Attack("pgd", pgd, {"steps": 20})], generator=torch.Generator().manual_seed(0), state=Path(sys.argv[3]))
"""


def test_a_killed_evaluation_loses_at_most_one_batch(honest, digits, digits_folder: Path, tmp_path: Path) -> None:
    save(honest.network, tmp_path / "net.safetensors")
    state = tmp_path / "state"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, digits_folder, tmp_path / "net.safetensors", state])
    deadline = time.monotonic() + 120
    while len(list(state.glob("pgd/*.safetensors"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in state.glob("pgd/*.safetensors")}
    assert len(kept) >= 3
    images, labels = digits.split("test", limit=120).all()
    options = {"norm": "linf", "eps": 0.2, "batch_size": 10, "suite": [Attack("pgd", pgd, {"steps": 20})]}
    found = [evaluate(honest.network, images, labels, generator=torch.Generator().manual_seed(0), state=folder,
                      **options) for folder in (state, None)]
    assert _timeless(found[0]) == _timeless(found[1])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return -gradient


def test_a_model_that_answers_alike_and_hides_its_gradients_is_another(linear: tuple, tmp_path: Path) -> None:
    model, images, labels = linear

    def evaluated(turned: bool) -> dict:
        def wrapped(batch: Tensor) -> Tensor:
            return model(_Turned.apply(batch) if turned else batch)
        return _evaluate(wrapped, images, labels, tmp_path)[0]
    evaluated(True)
    with pytest.raises(InputError, match="the model, whose gradients for the clean images differ"):
        evaluated(False)


def test_two_losses_without_a_name_are_not_the_same(linear: tuple, tmp_path: Path) -> None:
    losses = [lambda logits, labels: -logits.gather(1, labels[:, None]).squeeze(1),
              lambda logits, labels: logits.sum(1)]
    _evaluate(*linear, tmp_path, suite=[Attack("pgd", pgd, {"steps": 2, "loss": losses[0]})])
    with pytest.raises(InputError, match="attack pgd \\(loss"):
        _evaluate(*linear, tmp_path, suite=[Attack("pgd", pgd, {"steps": 2, "loss": losses[1]})])


def test_a_damaged_state_is_told(linear: tuple, tmp_path: Path) -> None:
    _evaluate(*linear, tmp_path)
    (tmp_path / "behaviour.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is damaged; remove"):
        _evaluate(*linear, tmp_path)
    (tmp_path / "evaluation.json").write_text("")
    with pytest.raises(InputError, match=r"evaluation.json is damaged, or from another version of Parapet \(it is "
                                         r"empty\); remove"):
        _evaluate(*linear, tmp_path)


def test_a_flipped_byte_in_a_part_is_made_again(linear: tuple, tmp_path: Path) -> None:
    whole, points = _evaluate(*linear, tmp_path)
    for path in sorted(tmp_path.glob("*/*.safetensors")):
        content = bytearray(path.read_bytes())
        content[-5] ^= 64  # one of its points, which stays a number
        path.write_bytes(content)
    again, same = _evaluate(*linear, tmp_path)
    assert _timeless(again) == _timeless(whole) and torch.equal(points, same)


def test_parts_do_not_outlive_their_manifest(linear: tuple, tmp_path: Path) -> None:
    """With it went what they were about: another model took them for its own."""
    model, images, labels = linear
    _evaluate(model, images, labels, tmp_path)
    for name in ("evaluation.json", "behaviour.safetensors"):
        (tmp_path / name).unlink()
    with torch.no_grad():
        model.weight.mul_(-1)
    expected, points = _evaluate(model, images, labels, None)
    found, same = _evaluate(model, images, labels, tmp_path)
    assert _timeless(found) == _timeless(expected) and torch.equal(points, same)


@pytest.mark.parametrize(("there", "here"), [(("pgd", 0), ("pgd", 1)), (("pgd", 1), ("pgd", 0)),
                                             (("fgsm", 0), ("pgd", 0)), (("pgd", 0), ("fgsm", 0))])
def test_a_part_in_the_place_of_another_is_not_taken_for_it(tmp_path: Path, there: tuple, here: tuple) -> None:
    """A copied file is whole and about the same images: only what is written in it says where it belongs."""
    state, rows = EvaluationState(tmp_path, {"model": "a"}, {}), torch.arange(3)
    try:
        state.save(*there, Part(rows, torch.zeros(3, 1, 2, 2), rows > 1, torch.ones(3).double(), 7, 5, 0.5))
        kept = state.load(*there, rows)
        assert kept is not None and (kept.queries, kept.gradient_evaluations, kept.seconds) == (7, 5, 0.5)
        path, copy = (tmp_path / attack / f"{batch:06d}.safetensors" for attack, batch in (there, here))
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        assert state.load(*here, rows) is None
        assert state.load(*there, rows.flip(0)) is None
    finally:
        state.close()


def test_everyone_may_read_the_lock_and_nobody_may_run_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        EvaluationState(tmp_path, {"model": "a"}, {}).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o644
