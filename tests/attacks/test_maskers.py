"""Every masker answers as the network that it hides, and falls as that one does once somebody knows what it hides."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.audit.truth import truth_of_masker
from tests.attacks.maskers import MASKERS, Networks, built
from tests.attacks.maskers.base import drawn_from
from tests.attacks.maskers.deployment import eight_bit_even, frame_of_zeros, in_a_frame
from tests.attacks.maskers.literature import _codes, _cosines
from tests.attacks.maskers.networks import networks as loaded
from tests.attacks.maskers.networks import prepare


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return prepare(digits, tmp_path_factory.mktemp("maskers"))


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return loaded(folder)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("test", limit=120).all()


@pytest.mark.parametrize("name", MASKERS)
def test_a_masker_is_right_on_clean_images(name: str, networks: Networks, images) -> None:
    masker = MASKERS[name]
    given = masker.given(images[0])
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        right = masker.asked(masker.build(networks), masker.met(given)).argmax(1) == images[1]
    assert float(right.float().mean()) > 0.8


# What costs a stand-in of many draws is measured by the benchmark alone.
_CHEAP = [name for name in MASKERS if not name.endswith(("at_random", "by_hash")) and name not in ("noise", "winners")]


@pytest.mark.parametrize("name", [*_CHEAP, "gradient_killed_at_random"])
def test_a_masker_falls_to_who_knows_what_it_hides(name: str, networks: Networks, images) -> None:
    clean, robust = truth_of_masker(MASKERS[name], networks, images[0][:24], images[1][:24])
    # At a radius of 0.05 or 0.1 the undefended network itself keeps much.
    assert robust <= 0.4 if MASKERS[name].eps >= 0.2 else robust <= clean


def test_there_are_many_kinds_each_with_its_paper() -> None:
    assert len(MASKERS) >= 30 and all(masker.paper for masker in MASKERS.values())
    assert {masker.kind for masker in MASKERS.values()} == {
        "gradients", "logits", "randomness", "memory", "deployment", "literature"}


def test_a_masker_is_built_from_its_folder_in_any_process(folder: Path, images) -> None:
    loader = pickle.loads(pickle.dumps(partial(built, "codes", str(folder))))
    assert torch.equal(loader()(images[0]), built("codes", str(folder))(images[0]))


def test_what_is_drawn_from_an_image_belongs_to_it_alone(images) -> None:
    drawn = drawn_from(images[0], 50)
    assert torch.equal(drawn_from(images[0].flip(0), 50).flip(0), drawn) and drawn.min() >= 0 and drawn.max() < 1
    moved = images[0].clone()
    moved[:, 0, 4, 4] = (moved[:, 0, 4, 4] - 0.01).abs()
    assert ((drawn_from(moved, 50) - drawn).abs() > 0.01).float().mean() > 0.9
    assert abs(float(drawn.mean()) - 0.5) < 0.05


def test_images_of_the_kind_that_users_send_are_of_that_kind(images) -> None:
    even = eight_bit_even(images[0] + 0.001) * 255
    assert torch.allclose(even, even.round(), atol=1e-3) and (even.round().flatten(1).sum(1) % 2 == 0).all()
    framed = frame_of_zeros(in_a_frame(images[0]))
    assert framed[:, :, 0].abs().max() == 0 and framed[:, :, :, -1].abs().max() == 0
    assert framed.min() >= 0 and framed.max() <= 1
    assert ((framed * 255 - (framed * 255).round()).abs() > 1e-3).flatten(1).any(1).all()


def test_waves_and_words_are_those_of_their_names() -> None:
    rows, words = _cosines(8), _codes()
    assert torch.allclose(rows @ rows.T, torch.eye(8), atol=1e-5)
    apart = (words[:, None] != words[None]).sum(2)
    assert (apart[~torch.eye(10, dtype=torch.bool)] == 8).all()
