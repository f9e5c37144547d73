"""The squares of Square Attack against algorithms 2 and 3 of its paper, written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.black_box import square_proposals
from parapet.attacks.black_box.square_proposals import L2Squares, LinfSquares, _pattern, _peak, _window


def _uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _grey(*shape: int) -> Tensor:
    """Images that no small step leads out of [0, 1]."""
    return 0.4 + 0.2 * _uniform(*shape, seed=1)


def _two_peaks(side: int, transposed: bool) -> Tensor:
    """Section 3.3: a peak above, its negative below, of norm 1."""
    pattern = torch.cat([_peak(side // 2, side), -_peak(side - side // 2, side)])
    pattern = pattern / pattern.norm()
    return pattern.T if transposed else pattern


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_a_pattern_stands_upright_or_lies_with_equal_chances(side: int) -> None:
    found = _pattern(side, torch.tensor([0.0, 0.49, 0.5, 0.51]))
    assert found.shape == (4, 1, side, side)
    for row, transposed in enumerate((False, False, True, True)):
        assert torch.allclose(found[row, 0], _two_peaks(side, transposed))


def test_a_window_lies_anywhere_in_the_image_with_equal_chances() -> None:
    """Windows of 3 pixels in 5 x 8: three rows and six columns where they can begin."""
    places = [(row, column) for row in range(3) for column in range(6)]
    vertical, horizontal = (torch.tensor([(place[axis] + 0.5) / (3, 6)[axis] for place in places]) for axis in (0, 1))
    window = _window(vertical, horizontal, 3, 5, 8)
    for found, (top, left) in zip(window.tolist(), places):
        assert found == [(top + row) * 8 + left + column for row in range(3) for column in range(3)]
    last = _window(torch.tensor([1 - 2**-24]), torch.tensor([1 - 2**-24]), 3, 5, 8)
    assert int(last.max()) == 39


def test_the_start_under_linf_is_vertical_stripes_for_each_channel() -> None:
    images, noise = _grey(2, 3, 5, 4), _uniform(2, *LinfSquares.start_draws(torch.Size((2, 3, 5, 4))))
    offset = LinfSquares(images, 0.1, noise).points - images
    for row in range(2):
        for channel in range(3):
            for column in range(4):
                expected = torch.full((5,), -0.1 if noise[row, channel, 0, column] < 0.5 else 0.1)
                assert torch.allclose(offset[row, channel, :, column], expected, atol=1e-6)


def test_a_square_under_linf_is_painted_where_and_as_its_draws_say() -> None:
    images = _grey(3, 2, 5, 8)
    search = LinfSquares(images, 0.1, _uniform(3, 2, 1, 8))
    draws = _uniform(3, 4, search.draws, seed=2)
    search.plan(3, draws)
    for turn in range(4):
        expected = search.points.clone()
        for row in range(3):
            vertical, horizontal, *colours = draws[row, turn].tolist()
            top, left = int(vertical * 3), int(horizontal * 6)
            for channel, colour in enumerate(colours):
                bound = search.lower if colour < 0.5 else search.upper
                window = (row, channel, slice(top, top + 3), slice(left, left + 3))
                expected[window] = bound[window]
        assert torch.equal(search.propose(turn), expected)
        search.settle(torch.ones(3, dtype=torch.bool))


def test_as_many_squares_are_worked_out_ahead_as_fit_and_it_changes_none(monkeypatch) -> None:
    """Two images of three channels and squares of nine pixels are 54 numbers a query."""
    images, noise, draws = _grey(2, 3, 6, 6), _uniform(2, 3, 1, 6), _uniform(2, 8, 5, seed=2)
    worked_out: list[int] = []
    squares = LinfSquares._squares

    def counting(search: LinfSquares, part: Tensor) -> None:
        worked_out.append(part.shape[1])
        squares(search, part)
    monkeypatch.setattr(LinfSquares, "_squares", counting)
    found = []
    for bound, groups in ((120, [2, 2, 2, 2]), (54, [1] * 8), (10, [1] * 8), (10_000, [8]), (3 * 54, [3, 3, 2])):
        monkeypatch.setattr(square_proposals, "_PIXELS_AHEAD", bound)
        worked_out.clear()
        search = LinfSquares(images, 0.1, noise)
        search.plan(3, draws)
        for turn in range(8):
            search.propose(turn)
            search.settle(torch.tensor([True, turn % 2 == 0]))
        found.append(search.points)
        assert worked_out == groups
    assert all(torch.equal(points, found[0]) for points in found)


@pytest.mark.parametrize(("height", "width", "tile", "rows", "columns"), [(10, 12, 2, 5, 5), (8, 9, 1, 5, 5),
                                                                         (10, 7, 2, 5, 3), (3, 4, 1, 3, 4)])
def test_the_start_under_l2_is_a_grid_of_patterns_that_spends_eps(height: int, width: int, tile: int, rows: int,
                                                                  columns: int) -> None:
    images = _grey(2, 3, height, width)
    noise = _uniform(2, *L2Squares.start_draws(images.shape))
    start = torch.zeros_like(images)
    for image in range(2):
        for row in range(rows):
            for column in range(columns):
                pattern = _two_peaks(tile, bool(noise[image, 3, row, column] >= 0.5))
                for channel in range(3):
                    sign = -1 if noise[image, channel, row, column] < 0.5 else 1
                    start[image, channel, row * tile:(row + 1) * tile, column * tile:(column + 1) * tile] = \
                        sign * pattern
    length = start.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    found = L2Squares(images, 0.3, noise).points
    assert torch.allclose(found, images + 0.3 * start / length, atol=1e-5)


def test_a_proposal_under_l2_moves_the_norm_of_one_window_into_another() -> None:
    """Algorithm 3, one image and one channel after the other."""
    images, eps, side = _grey(6, 2, 7, 6), 0.3, 3
    search = L2Squares(images, eps, _uniform(6, *L2Squares.start_draws(images.shape)))
    # what the last query left unspent goes into the new window
    search.points = images + 0.75 * (search.points - images)
    draws = _uniform(6, 1, search.draws, seed=3)
    search.plan(side, draws)
    found = search.propose(0)
    for row in range(6):
        top, left, source_top, source_left, lying, *signs = draws[row, 0].tolist()
        into, source = (torch.zeros(7, 6, dtype=torch.bool) for _ in range(2))
        for mask, down, along in ((into, top, left), (source, source_top, source_left)):
            first, second = int(down * 5), int(along * 4)
            mask[first:first + side, second:second + side] = True
        delta = (search.points - images)[row].clone()
        unspent = eps**2 - float(delta.norm()) ** 2
        for channel, sign in enumerate(signs):
            norm = float(delta[channel][into | source].norm())
            old = delta[channel][into]
            new = (-1 if sign < 0.5 else 1) * _two_peaks(side, lying >= 0.5).flatten()
            if float(old.norm()) > 0:
                new = new + old / old.norm()
            delta[channel][source] = 0.0
            delta[channel][into] = new / new.norm() * (unspent / 2 + norm**2) ** 0.5
        expected = images[row] + eps * delta / delta.norm()
        assert torch.allclose(found[row], expected, atol=1e-5)
    search.settle(torch.tensor([True, False] * 3))
    assert torch.equal(search.points[::2], found[::2]) and not torch.equal(search.points[1::2], found[1::2])
