"""The picture for the README is whole XML, needs nothing from elsewhere, and has every member in its place."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from parapet.report import colours
from parapet.report.svg import front_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_every_member_is_drawn_where_its_numbers_say(made) -> None:
    root = ElementTree.fromstring(front_svg(made.front))
    points = root.findall(f".//{SVG}circle")
    own = sorted((candidate for candidate in made.front["candidates"] if candidate["derived_from"] is None),
                 key=lambda candidate: candidate["flops"])
    assert len(points) == len(own)
    left = [float(point.get("cx")) for point in points]
    height = [float(point.get("cy")) for point in points]
    assert left == sorted(left)
    robust = [candidate["test"]["robust_accuracy"] for candidate in own]
    assert [index for index, _ in sorted(enumerate(height), key=lambda item: -item[1])] == [
        index for index, _ in sorted(enumerate(robust), key=lambda item: item[1])]


def test_it_says_threat_attacks_n_and_interval_and_loads_nothing(made) -> None:
    text = front_svg(made.front)
    for words in ("L-inf, eps = 0.2", "n = 360", "95 % intervals", "square", "undefended net: 1.4 %"):
        assert words in text
    assert "href" not in text and "url(" not in text and "<script" not in text


@pytest.mark.parametrize("flops", [0, 10**4, 10**9])
def test_a_front_of_one_and_hostile_names(make_study, flops) -> None:
    made = make_study(members=1, rest=0, variants=0)
    made.front["candidates"][0].update(flops=flops, description="<b>&")
    made.front["data"]["name"] = "<script>"
    root = ElementTree.fromstring(front_svg(made.front))
    assert len(root.findall(f".//{SVG}circle")) == 1 and root.find(f".//{SVG}script") is None


def test_colours_meet_the_ends_of_their_scale() -> None:
    assert (colours.at(0), colours.at(1), colours.at(-3)) == (colours.SCALE[0][1], colours.SCALE[-1][1],
                                                               colours.SCALE[0][1])
    low, high = colours.span([0.9, 0.9])
    assert low < 0.9 < high
