"""The model card carries the numbers with all that belongs to them, and no markup from data."""

from __future__ import annotations

import re

from parapet.report.card import card_html, model_card
from parapet.report.wording import plain


def test_card_says_threat_attacks_n_intervals_audit_and_latency(made) -> None:
    candidate = made.front["candidates"][5]
    evaluation = made.evaluations[candidate["id"]]
    card = model_card(candidate, made.front, evaluation)
    test = candidate["test"]
    low, high = test["robust_interval"]
    assert f"{100 * test['robust_accuracy']:.1f} % (95 % interval {100 * low:.1f}–{100 * high:.1f} %)" in card
    assert "L-inf, eps = 0.2" in card and "n = 360" in card and f"**{candidate['audit']['verdict']}**" in card
    for name, shares in test["attacks"].items():
        low, high = evaluation["evaluation"]["attacks"][name]["interval"]
        kind = "alone" if shares["left"] is None else "left"
        row = f"| {plain(name)} | {100 * shares[kind]:.1f} % | {100 * low:.1f}–{100 * high:.1f} % |"
        heading = {"alone": "| this attack alone |", "left": "| this attack and all before it |"}[kind]
        table = card.split(heading)[1].split("\n\n")[0]
        assert row in table
    for check in evaluation["audit"]["checks"]:
        assert plain(check["id"]) in card
    assert plain(candidate["latency_ms"]["machine"]) in card
    assert "deepfool 0.231." in card
    for heading in ("Intended use", "Data", "Threat model", "Audit", "Limits", "Reproduce it"):
        assert f"\n## {heading}" in card
    assert candidate["weights"] in card and candidate["onnx"] in card and made.front["data"]["fingerprint"] in card


def test_card_without_an_evaluation_and_of_a_variant(made) -> None:
    variant = made.front["variants"][0]
    card = model_card(variant, made.front, {})
    assert f"variant of {variant['derived_from']}" in card and "not recorded" in card
    assert "Every number under attack is an upper bound." in card


def test_tables_of_the_card_are_whole(made) -> None:
    lines = model_card(made.front["candidates"][0], made.front,
                       made.evaluations[made.front["candidates"][0]["id"]]).splitlines()
    for line, below in zip(lines, lines[1:]):
        if line.startswith("|") and below.startswith("|"):
            assert line.replace("\\|", "").count("|") == below.replace("\\|", "").count("|")


def test_hostile_text_stays_text(made) -> None:
    candidate = made.front["candidates"][0]
    candidate["description"] = "a | b <img src=x>\n# heading [x](http://x) `code`"
    card = model_card(candidate, made.front, {})
    assert "<img" not in card and "\n# heading" not in card and "[x]" not in card
    assert plain("a|b\n*c*") == "a\\|b \\*c\\*"


def test_card_shows_the_curves_that_the_audit_measured(made) -> None:
    candidate = made.front["candidates"][5]
    evaluation = made.evaluations[candidate["id"]]
    card = model_card(candidate, made.front, evaluation)
    curves = evaluation["curves"]
    for name, share in zip(curves["eps"], curves["accuracy"]):
        assert f"{name:.4g} |" in card and f"{100 * share:.1f} % |" in card
    assert "| steps | 1 | 2 | 5 | 10 | 20 | 50 | 100 |" in card
    assert "## Curves" not in model_card(candidate, made.front, {**evaluation, "curves": None})


def test_card_says_whether_the_onnx_graph_does_what_the_network_does(made) -> None:
    candidate = made.front["candidates"][0] | {"onnx_parity": {"verdict": "failed", "reason": "they part at head"}}
    card = model_card(candidate, made.front, made.evaluations[candidate["id"]])
    assert "Parity with torch: **failed** (they part at head)." in card


def test_the_html_card_says_what_the_markdown_card_says_and_loads_nothing(made) -> None:
    candidate = made.front["candidates"][5]
    evaluation = made.evaluations[candidate["id"]]
    page, card = card_html(candidate, made.front, evaluation), model_card(candidate, made.front, evaluation)
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert re.findall(r"<h2>(.*)</h2>", page) == headings and len(headings) >= 9
    rows = [line for line in card.splitlines() if line.startswith("| ") and "---" not in line]
    assert page.count("<tr>") == len(rows) and page.count("<table>") == card.count("\n| ---")
    assert page.count("<svg") == 1 and page.count("<circle") == len(evaluation["curves"]["eps"])
    for outside in ("src=", "href=", "url(", "@import", "<script"):
        assert outside not in page
    assert "<svg" not in card_html(candidate, made.front, {})


def test_hostile_text_stays_text_in_html_too(made) -> None:
    candidate = made.front["candidates"][0]
    candidate["description"] = "a | b <img src=x>\n# heading [x](http://x) `code` <script>alert(1)</script>"
    page = card_html(candidate, made.front, {})
    assert "<img" not in page and "<script" not in page and "href" not in page
    assert "&lt;img src=x&gt;" in page


def test_card_tells_of_a_busy_machine_of_throughput_and_of_size(made) -> None:
    candidate = made.front["candidates"][0] | {"footprint": {"bytes": 58_300, "peak_memory_bytes": 92_000_000}}
    candidate["latency_ms"] = candidate["latency_ms"] | {
        "noise": {"verdict": "busy", "others": 0.9, "drift": 0.0, "reason": "other processes took 90% of a core"},
        "throughput": {"batch": 64, "images_per_second": 81_234.0}}
    card = model_card(candidate, made.front, {})
    assert "The machine was busy while it was measured: other processes took 90% of a core." in card
    assert "At batch 64 it classifies 81.2 k images per second." in card
    assert "The ONNX file has 58.3 kB, and a process that runs it takes at most 92 MB of memory." in card
    quiet = candidate | {"latency_ms": candidate["latency_ms"] | {"noise": {"verdict": "quiet", "reason": None}}}
    assert "busy" not in model_card(quiet, made.front, {})


def test_a_variant_s_card_does_not_borrow_what_was_measured_on_its_float_model(made) -> None:
    variant = made.front["variants"][0] | {"note": "INT8: an upper bound."}
    parent = made.evaluations[variant["derived_from"]]
    card = model_card(variant, made.front, parent)
    assert "outside dominance. INT8: an upper bound." in card and "## Curves" not in card and "not recorded" in card
    assert "| check | verdict |" not in card and "parapet.models" not in card
    assert "<svg" not in card_html(variant, made.front, parent)
