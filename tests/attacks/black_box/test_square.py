"""Square Attack: its schedule, its squares, its budget, and that it asks for no gradient."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from parapet.attacks import pgd, square
from parapet.attacks.balls import LinfBall, distance
from parapet.attacks.black_box.square import share_of_pixels
from parapet.attacks.black_box.square_proposals import L2Squares, LinfSquares, _peak
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, far_from_the_limits


def test_the_schedule_is_the_paper_s() -> None:
    # appendix B: halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries
    shares = {query: share_of_pixels(query, 10_000, 0.8, rescale=False) for query in (0, 10, 11, 51, 501, 5000, 9999)}
    assert shares == {0: 0.8, 10: 0.8, 11: 0.4, 51: 0.2, 501: 0.05, 5000: 0.8 / 2**7, 9999: 0.8 / 2**9}
    assert share_of_pixels(500, 1000, 0.8, rescale=True) == share_of_pixels(5000, 10_000, 0.8, rescale=False)


def test_a_proposal_is_one_square_of_the_ball_s_colours_and_can_be_taken_back() -> None:
    images = torch.full((5, 2, 6, 6), 0.5)
    search = LinfSquares(images, 0.1, torch.rand(5, 2, 1, 6))
    before = search.points.clone()
    search.plan(3, torch.rand(5, 2, search.draws))
    after = search.propose(0).clone()
    changed = (after != before).any(1)
    for mask in changed:
        rows, columns = mask.any(1).nonzero().squeeze(1), mask.any(0).nonzero().squeeze(1)
        assert not len(rows) or (rows[-1] - rows[0] < 3 and columns[-1] - columns[0] < 3)
    around = LinfBall(images, 0.1)
    assert ((after == around.lower) | (after == around.upper)).all()
    search.settle(torch.tensor([True, False, True, False, False]))
    for part, kept in (([0, 2], after), ([1, 3, 4], before)):
        assert torch.equal(search.points[part], kept[part])


def test_a_square_that_changes_nothing_is_not_asked_for(honest, digits, monkeypatch) -> None:
    images, labels = digits.split("test", limit=128).all()
    asked: list[int] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(len(batch))
        return honest.network(batch)
    attack = partial(square, model, images, labels, eps=0.05, queries=200)
    found, sparing = attack(), sum(asked)
    asked.clear()
    monkeypatch.setattr(LinfSquares, "changed", lambda search: torch.ones(len(search.points), dtype=torch.bool))
    assert torch.equal(attack(), found)
    assert sparing < 0.95 * sum(asked)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.5)])
def test_it_breaks_an_undefended_net_without_any_gradient(undefended, digits, norm: str, eps: float) -> None:
    images, labels = digits.split("test", limit=60).all()
    asked = torch.zeros(())

    def model(batch: Tensor) -> Tensor:
        assert not batch.requires_grad and not torch.is_grad_enabled()
        asked.add_(len(batch))
        return undefended.network(batch)
    found = square(model, images, labels, eps=eps, norm=norm, queries=300, generator=torch.Generator().manual_seed(0))
    assert (distance(found, images, norm) <= eps).all() and found.min() >= 0 and found.max() <= 1
    accuracy = float((undefended.network(found).argmax(1) == labels).float().mean())
    assert accuracy < 0.2
    assert asked <= 301 * 60


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_queries_never_help_the_model(honest, digits, norm: str) -> None:
    images, labels = digits.split("test", limit=80).all()
    eps = 0.2 if norm == "linf" else 1.0
    broken = [honest.network(square(honest.network, images, labels, eps=eps, norm=norm, queries=queries,
                                    generator=torch.Generator().manual_seed(0))).argmax(1) != labels
              for queries in (20, 200)]
    assert (broken[1] | ~broken[0]).all() and broken[1].sum() > broken[0].sum()


def test_it_falls_short_of_white_box_attacks_on_an_honest_net_by_little(honest, digits) -> None:
    images, labels = digits.split("validation", limit=150).all()
    options = {"eps": 0.2, "generator": torch.Generator().manual_seed(0)}
    black = honest.network(square(honest.network, images, labels, queries=500, **options)).argmax(1) == labels
    white = honest.network(pgd(honest.network, images, labels, loss="margin", steps=40, early_stop=True,
                               **options)).argmax(1) == labels
    assert white.float().mean() - 0.03 <= black.float().mean() <= white.float().mean() + 0.2


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_another_batching_gives_every_image_the_same_squares(norm: str) -> None:
    model = Linear(torch.linspace(-1, 1, 16), 0.0)
    images = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(4))
    labels = model(images).argmax(1)
    seeds = torch.arange(9)
    whole = square(model, images, labels, eps=0.3, norm=norm, queries=70, generator=seeds)
    parts = torch.cat([square(model, images[part], labels[part], eps=0.3, norm=norm, queries=70, generator=seeds[part])
                       for part in (slice(0, 4), slice(4, 9))])
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 7, 4)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_of_any_shape(shape: tuple[int, int, int], norm: str) -> None:
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))

    def model(batch: Tensor) -> Tensor:
        value = batch.mean((1, 2, 3)) - 0.5
        return torch.stack([value, -value], 1)
    labels = model(images).argmax(1)
    found = square(model, images, labels, eps=0.05, norm=norm, queries=15)
    assert found.shape == images.shape and torch.isfinite(found).all()
    assert (distance(found, images, norm) <= 0.05).all()


def test_a_peak_is_nested_rectangles_that_add_one_over_the_square_of_their_number() -> None:
    ring, edge = 1 / 4 + 1 / 9, 1 / 9
    expected = torch.tensor([[edge, ring, ring, ring, edge], [edge, ring, 1 + ring, ring, edge],
                             [edge, ring, ring, ring, edge]])
    assert torch.allclose(_peak(3, 5), expected / expected.norm(), atol=1e-6)


def test_windows_under_l2_are_odd_and_three_pixels_at_least() -> None:
    windows = object.__new__(L2Squares)
    windows.points = torch.zeros(1, 1, 28, 28)
    assert [windows.side(share) for share in (1e-6, 0.01, 0.03, 0.1)] == [3, 3, 5, 9]


def test_wrong_options_are_told() -> None:
    images, labels = torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1])
    with pytest.raises(InputError, match="square got queries=0 and initial_share=0.8; queries must be at least"):
        square(Linear(torch.ones(16), 0.0), images, labels, eps=0.1, queries=0)


@pytest.mark.parametrize(("bound", "halved"), [(10, 1), (50, 2), (200, 3), (500, 4), (1000, 5), (2000, 6), (4000, 7),
                                               (6000, 8), (8000, 9)])
def test_the_squares_are_halved_right_after_each_bound_of_the_paper(bound: int, halved: int) -> None:
    for rescale, of in ((False, 5000), (True, 10_000)):
        shares = [share_of_pixels(query, of, 0.8, rescale=rescale) for query in (bound - 1, bound, bound + 1)]
        assert shares == [0.8 / 2 ** (halved - 1), 0.8 / 2 ** (halved - 1), 0.8 / 2**halved]


def test_by_default_squares_begin_at_eight_tenths_and_shrink_at_fixed_queries() -> None:
    """The published attack takes 0.8 and AutoAttack's schedule does not know how many queries there are."""
    model, images, labels = far_from_the_limits(8)
    attack = partial(square, model, images, labels, eps=0.01, queries=60)
    assert torch.equal(attack(), attack(initial_share=0.8, rescale=False))
    assert not torch.equal(attack(), attack(rescale=True)) and not torch.equal(attack(), attack(initial_share=0.2))


def test_an_image_that_nearly_falls_is_searched_as_any_other() -> None:
    """All margins lie between -0.01 and 0, and eps is three times what a linear model needs."""
    linear, images, labels = far_from_the_limits(16)
    largest = float(linear(images).detach().abs().max())

    def model(batch: Tensor) -> Tensor:
        return linear(batch) * 0.004 / largest
    eps = 3 * float(linear.exact_distances(images, "linf").max())
    found = square(model, images, labels, eps=eps, queries=100)
    assert (linear(found).argmax(1) != labels).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_can_begin_at_points_of_the_caller_s(norm: str) -> None:
    model, images, labels = far_from_the_limits()
    asked: list[Tensor] = []

    def heard(batch: Tensor) -> Tensor:
        asked.append(batch)
        return model(batch)
    start = images + 0.001
    square(heard, images, labels, eps=0.01, norm=norm, queries=1, start=start)
    assert torch.allclose(asked[0], start)
    asked.clear()
    square(heard, images, labels, eps=0.01, norm=norm, queries=1, start=images + 0.5)  # brought into the ball
    assert (distance(asked[0], images, norm) <= 0.01).all() and (asked[0] > images).all()


def test_it_ends_where_so_many_queries_in_a_row_have_broken_nothing() -> None:
    asked: list[int] = []

    def model(batch: Tensor) -> Tensor:
        """Says of an image what its first pixel says, until it has been asked 100 times; then all are broken but two.

        Its margin is never quite the same, so that no proposal is left unasked.
        """
        asked.append(len(batch))
        value = torch.full((len(batch),), 1 + len(asked) * 1e-4)
        if len(asked) == 100:
            value[2:] = -1
        return torch.stack([value, -value], 1)
    images, labels = torch.full((200, *SHAPE), 0.5), torch.zeros(200, dtype=torch.int64)
    square(model, images, labels, eps=0.1, queries=5000, patience=300)
    assert 390 <= len(asked) <= 100 + 300 + 16
    asked.clear()
    square(model, images, labels, eps=0.1, queries=600)
    assert len(asked) > 590


@pytest.mark.parametrize(("options", "sentence"), [
    ({"patience": 0}, "square got patience=0; it must be at least 1, or None to spend all queries."),
    ({"start": torch.zeros(1, *SHAPE)}, r"start has shape \(1, 1, 4, 4\), and the images have \(32, 1, 4, 4\); it is"),
])
def test_wrong_starts_and_patience_are_told(options: dict, sentence: str) -> None:
    model, images, labels = far_from_the_limits()
    with pytest.raises(InputError, match=sentence):
        square(model, images, labels, eps=0.1, **options)
