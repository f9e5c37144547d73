"""The curve of the card: every point where it belongs, whatever the radii."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from parapet.report.card import curve_svg

POINTS = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=12)


@given(POINTS, st.floats(1e-4, 50))
def test_every_point_lies_inside_the_picture_and_higher_shares_lie_higher(points: list, eps: float) -> None:
    picture = ElementTree.fromstring(curve_svg(*zip(*points), {"norm": "l2", "eps": eps}))
    width, height = float(picture.get("width")), float(picture.get("height"))
    circles = [(float(circle.get("cx")), float(circle.get("cy")))
               for circle in picture.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(circles) == len(points)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in circles)
    for (_, share), (_, y) in zip(sorted(points), circles):
        assert all(y <= other_y + 0.1 for (_, other), (_, other_y) in zip(sorted(points), circles) if share >= other)


def test_the_radius_of_the_threat_model_is_marked() -> None:
    assert "eps of the threat model" in curve_svg([0, 0.1, 0.2], [1, 0.7, 0.4], {"norm": "linf", "eps": 0.1})
