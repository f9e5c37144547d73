"""The suite: per-image minimum, intervals, what is counted, and no belief in an attack's own word."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from parapet.attacks import Attack, evaluate, fgsm, full_suite, run_suite, search_suite
from parapet.attacks.intervals import sign_test, wilson
from parapet.errors import InputError


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (880, 1000)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(5, 0), (9, 4), (0, 3)])
def test_the_sign_test_agrees_with_scipy(first: int, second: int) -> None:
    expected = binomtest(first, first + second, alternative="greater").pvalue
    assert sign_test(first, second) == pytest.approx(expected)


def test_no_difference_is_no_evidence() -> None:
    assert sign_test(0, 0) == 1.0


def test_robust_accuracy_is_the_per_image_minimum(honest, digits) -> None:
    images, labels = digits.split("test", limit=100).all()
    record, adversarial = run_suite(honest.network, images, labels, norm="linf", eps=0.2,
                                    suite=full_suite(pgd_steps=10, pgd_restarts=1, deepfool_steps=10),
                                    generator=torch.Generator().manual_seed(0), batch_size=33)
    rows = [[mark == "1" for mark in row] for name, row in record["outcomes"].items() if name != "clean"]
    survived = [all(marks) for marks in zip(*rows)]
    assert record["robust_accuracy"] == sum(survived) / 100
    assert record["robust_accuracy"] <= min(attack["accuracy"] for attack in record["attacks"].values())
    # the images handed back are the proof
    fooled = honest.network(adversarial).argmax(1) != labels
    assert (~fooled).tolist() == survived
    assert (adversarial - images).abs().max() <= 0.2 + 1e-6
    assert record["attacks"]["deepfool"]["median_distance"] > 0
    assert record["attacks"]["pgd_ce"]["gradient_evaluations"] > record["attacks"]["fgsm"]["gradient_evaluations"] > 0


def test_an_undefended_net_falls_and_a_trained_one_stands(honest, undefended, digits) -> None:
    images, labels = digits.split("validation").all()
    suite = search_suite(pgd_steps=20, pgd_restarts=1)
    weak, strong = (evaluate(trained.network, images, labels, norm="linf", eps=0.2, suite=suite,
                             generator=torch.Generator().manual_seed(0)) for trained in (undefended, honest))
    assert weak["clean_accuracy"] > 0.9 and weak["robust_accuracy"] < 0.2
    assert strong["robust_accuracy"] > weak["robust_accuracy"] + 0.3


def test_an_attack_that_leaves_its_ball_has_not_succeeded(honest, digits) -> None:
    images, labels = digits.split("test", limit=20).all()

    def cheat(model, images: Tensor, labels: Tensor, *, eps: float, **rest: object) -> Tensor:
        return 1 - images

    record = evaluate(honest.network, images, labels, norm="linf", eps=0.1, suite=[Attack("cheat", cheat)])
    assert record["robust_accuracy"] == record["clean_accuracy"]


def test_images_that_are_wrong_already_are_broken_under_every_attack(digits) -> None:
    images, labels = digits.split("test", limit=20).all()
    record = evaluate(lambda batch: torch.eye(10)[torch.zeros(len(batch), dtype=torch.long)] + 0 * batch.sum(),
                      images, labels, norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])
    zeros = float((labels == 0).float().mean())
    assert record["clean_accuracy"] == pytest.approx(zeros)
    assert record["attacks"]["fgsm"]["accuracy"] == pytest.approx(zeros)


@pytest.mark.parametrize(("model", "sentence"), [
    (lambda images: torch.full((len(images), 10), torch.nan), "the model returned NaN or infinite logits"),
    (lambda images: images.sum((1, 2, 3)), "it must return logits of shape (N, classes)"),
    (lambda images: torch.zeros(len(images), 3), "the model has 3 classes"),
])
def test_models_that_would_give_wrong_numbers_are_refused(digits, model, sentence: str) -> None:
    images, labels = digits.split("test", limit=50).all()
    with pytest.raises(InputError) as caught:
        evaluate(model, images, labels, norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])
    assert sentence in str(caught.value)
