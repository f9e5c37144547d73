"""Wishes: what a line of text asks for, in any case and spacing, and the sentence where it cannot be read."""

from __future__ import annotations

import pytest

from parapet.catalogue.quantities import QUANTITIES
from parapet.errors import InputError
from parapet.promotion.query import Constraints, Knee, Weights, read


def test_the_three_forms() -> None:
    assert read(" KNEE\n") == Knee()
    assert read("weights: robust_accuracy 3, FLOPs .5") == Weights(
        {QUANTITIES["robust_accuracy"]: 3.0, QUANTITIES["flops"]: 0.5})
    asked = read("Robust accuracy  >= 88.3%, latency_ms<2e-1 , then fewest FLOPs then MOST params,")
    assert isinstance(asked, Constraints)
    assert [(item.quantity.name, item.sign, item.bound) for item in asked.constraints] == [
        ("robust_accuracy", ">=", 0.883), ("latency_ms", "<", 0.2)]
    assert [str(order) for order in asked.orders] == ["fewest FLOPs", "most params"]
    assert str(asked) == "Robust accuracy >= 88.3%, latency_ms<2e-1"


def test_the_fewest_flops_settle_what_no_order_does() -> None:
    assert [str(order) for order in read("params < 5").orders] == ["fewest FLOPs"]


@pytest.mark.parametrize("word", ["fewest", "least", "lowest", "smallest", "most", "highest", "Largest"])
def test_the_words_of_an_order(word: str) -> None:
    assert read(f"params < 5, then {word} Clean_Accuracy").orders[0].least == (
        word in ("fewest", "least", "lowest", "smallest"))


@pytest.mark.parametrize("wish", ["flops >= 5, flops <= 5", "flops > 5, flops > 6", "flops > 5, params < 5"])
def test_what_can_be_met_is_no_contradiction(wish: str) -> None:
    assert len(read(wish).constraints) == 2


def test_thousands_may_be_separated() -> None:
    assert [(each.quantity.name, each.bound) for each in read("params <= 1,250,000, flops < 10,000").constraints] == [
        ("params", 1_250_000), ("flops", 10_000)]


@pytest.mark.parametrize(("wish", "sentence"), [
    ("robust_accuracy >= 0.9, robust_accuracy <= 0.5",
     "robust_accuracy >= 0.9 and robust_accuracy <= 0.5 contradict each other, since no number meets both; change one "
     "of them."),
    ("flops < 5, Flops >= 5", "Flops >= 5 and flops < 5 contradict each other, since no number meets both; change one "
                              "of them."),
    ("flops <= 1e999", "the constraint 'flops <= 1e999' has a number that is too large; write for example flops <= "
                       "1e6."),
    ("weightsrobust_accuracy 3", "the constraint 'weightsrobust_accuracy 3' cannot be read; write knee, or weights"),
    ("robustness >= 0.9", "the constraint 'robustness >= 0.9' cannot be read; write knee, or weights: QUANTITY "
                          "NUMBER, or QUANTITY >= NUMBER (or <=, >, <) with one of clean_accuracy, robust_accuracy, "
                          "flops, params, latency_ms, several separated by commas, and after constraints for example "
                          "then fewest FLOPs."),
    ("", "the constraint '' cannot be read; write knee, or weights"),
    ("then fewest FLOPs", "the constraint '' cannot be read; write knee, or weights"),
    ("robust_accuracy = 0.9", "the constraint 'robust_accuracy = 0.9' cannot be read; write knee"),
    ("flops <= -", "the constraint 'flops <= -' has no number after <=; write for example flops <= 1e6."),
    ("flops <= 1e", "the constraint 'flops <= 1e' has no number after <=; write for example flops <= 1e6."),
    ("latency_ms < nan", "the constraint 'latency_ms < nan' has no number after <; write for example latency_ms < "
                         "0.2."),
    ("flops <= 5%", "the constraint 'flops <= 5%' has a percentage, and only clean_accuracy and robust_accuracy are "
                    "shares; write a number."),
    ("robust_accuracy >= 88", "the constraint 'robust_accuracy >= 88' lies outside of what an accuracy can be, 0 to 1; "
                              "did you mean 88%?"),
    ("robust_accuracy >= 188%", "the constraint 'robust_accuracy >= 188%' lies outside of what an accuracy can be, 0 "
                                "to 1; write for example 0.88 or 88%."),
    ("knee then fewest flops", "the wish 'knee then fewest flops' says more than knee, which stands alone; take"),
    ("knee,", "the wish 'knee,' says more than knee, which stands alone"),
    ("kneecap >= 1", "the constraint 'kneecap >= 1' cannot be read"),
    ("flops <= 1e6, then", "the wish has the word then without an order behind it; write for example then fewest"),
    ("flops <= 1e6, then, then fewest flops", "the wish has the word then without an order behind it"),
    ("flops <= 1e6, then cheapest", "the order 'then cheapest' cannot be read; write then fewest or then most, and "
                                    "one of clean_accuracy, robust_accuracy, flops, params, latency_ms."),
    ("weights:", "the weight '' cannot be read; write for example weights: robust_accuracy 3, flops 0.5, with any of "
                 "clean_accuracy, robust_accuracy, flops, params, latency_ms."),
    ("weights: speed 3", "the weight 'speed 3' cannot be read; write for example"),
    ("weights: flops 1, flops 2", "the weight 'flops 2' is the second one of flops; give each quantity one."),
    ("weights: flops -1", "the weight 'flops -1' must be a number from 0 on; FLOPs, params and latency_ms count "
                          "against a member by themselves."),
    ("weights: flops 1e999", "the weight 'flops 1e999' must be a number from 0 on"),
    ("weights: flops 0, params 0.0", "all weights are 0, and then nothing is better than anything else; give at least "
                                     "one quantity a weight above 0."),
])
def test_what_cannot_be_read_is_told_in_a_sentence(wish: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read(wish)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value) == sentence or not sentence.endswith((".", "?"))
