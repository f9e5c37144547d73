"""The shortest move to a plane, worked out by hand; tests/attacks/minimum_norm/test_fab.py has scipy's."""

from __future__ import annotations

import pytest
import torch

from parapet.attacks.minimum_norm.projections import shortest_move


@pytest.mark.parametrize(("norm", "expected"), [
    # 2 a + b must grow by the gap. Both go up alike, or in proportion to (2, 1), until a has reached white.
    ("linf", [[0.3, 0.3], [0.1, 0.7], [0.5, 0.6]]),
    ("l2", [[0.36, 0.18], [0.1, 0.7], [0.5, 0.6]]),
])
def test_a_pixel_that_reaches_white_leaves_the_rest_to_the_other(norm: str, expected: list[list[float]]) -> None:
    points, normals = torch.tensor([[0.2, 0.2], [0.9, 0.2], [0.5, 0.2]]), torch.tensor([[2.0, 1.0]] * 3)
    gaps = torch.tensor([0.9, 0.9, 1.6])
    for sign in (1.0, -1.0):
        moves = shortest_move(points, sign * normals, sign * gaps, norm)
        assert torch.allclose(moves, torch.tensor(expected), atol=1e-6)
        # Its mirror image goes down to black.
        moves = shortest_move(1 - points, sign * normals, -sign * gaps, norm)
        assert torch.allclose(moves, -torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("gap", [1e6, -1e30])
def test_a_plane_out_of_reach_sends_every_pixel_of_a_large_image_to_its_limit(norm: str, gap: float) -> None:
    """The plane is taken as twice as far as the box reaches: one just out of reach is lost in float32's rounding."""
    generator = torch.Generator().manual_seed(0)
    points, normals = torch.rand(2, 150_528, generator=generator), torch.randn(2, 150_528, generator=generator)
    moves = shortest_move(points, normals, torch.tensor([gap] * 2), norm)
    assert torch.allclose(points + moves, (normals * gap > 0).float(), atol=1e-6)
