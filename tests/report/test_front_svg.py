"""The picture for the README is well-formed XML, loads nothing, and shows every member in its place."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from parapet.report import colours
from parapet.report.front_svg import front_svg
from parapet.report.members import members

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


def drawn(front) -> list[ElementTree.Element]:
    """The points of the members, in the order in which they are drawn."""
    group = ElementTree.fromstring(front_svg(front)).find(f".//{SVG}g[@id='members']")
    return list(group.iter(f"{SVG}use"))


def test_every_member_is_drawn_where_its_numbers_say(made) -> None:
    points, own = drawn(made.front), members(made.front)
    left, height = ([float(point.get(name)) for point in points] for name in "xy")
    assert len(points) == len(own) and left == sorted(left)
    robust = [candidate["test"]["robust_accuracy"] for candidate in own]
    assert sorted(range(len(own)), key=lambda index: -height[index]) == sorted(range(len(own)), key=robust.__getitem__)
    # Linear in the accuracy, from the axis at 0 % upwards.
    for accuracy, y in zip(robust, height):
        assert (450 - y) / accuracy == pytest.approx((450 - height[0]) / robust[0], rel=1e-4)


def test_every_point_has_a_title_that_says_which_member_it_is(made) -> None:
    for point, candidate in zip(drawn(made.front), members(made.front)):
        title = point.find(f"{SVG}title").text
        assert title.startswith(f"{candidate['id']}: {candidate['description']}; robust ") and "n = 360" in title


def test_it_says_threat_attacks_n_and_interval_and_loads_nothing(made) -> None:
    text = front_svg(made.front)
    for words in ("L-inf, eps = 0.2", "n = 360", "95 % intervals", "square", "undefended net: 1.4 %"):
        assert words in text
    assert text.startswith("<svg ") and 'role="img"' in text and "<script" not in text and "<image" not in text
    root = ElementTree.fromstring(text)
    assert "L-inf, eps = 0.2" in root.find(f"{SVG}title").text
    assert all(element.get(LINK, "#").startswith("#") for element in root.iter())
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", text))


def test_it_is_the_same_every_time_whatever_the_user_s_settings(made) -> None:
    first = front_svg(made.front)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        settings = dict(matplotlib.rcParams)
        assert front_svg(made.front) == first
        assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("flops", [0, 10**4, 10**9])
def test_a_front_of_one_and_hostile_names(make_study, flops) -> None:
    made = make_study(members=1, rest=0, variants=0)
    made.front["candidates"][0].update(flops=flops, description="<b>&$x^2$")
    made.front["data"]["name"] = "<script>$"
    (point,) = drawn(made.front)
    assert "<b>&$x^2$" in point.find(f"{SVG}title").text
    text = front_svg(made.front)
    assert "<script" not in text and "The Pareto front on &lt;script&gt;$: 1 candidate<" in text


def test_a_colour_bar_is_never_narrow() -> None:
    low, high = colours.span([0.9, 0.9])
    assert low < 0.9 < high and high - low == pytest.approx(0.02)
