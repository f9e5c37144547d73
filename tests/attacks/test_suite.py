"""The suite: per-image minimum, intervals, what is counted, and no belief in an attack's own word."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from parapet.attacks import (
    Attack,
    audited_rows,
    evaluate,
    fgsm,
    full_suite,
    hop_skip_jump,
    pgd_suite,
    run_audit,
    run_suite,
    with_audit,
)
from parapet.attacks.audit import AuditBudget
from parapet.attacks.compositions import AUTO_ATTACKS, catalogue, named_suite
from parapet.attacks.noise import image_seeds
from parapet.errors import InputError
from parapet.intervals import sign_test, wilson
from parapet.models.defence import Defence
from parapet.models.filters import BitDepth
from tests.attacks import maskers
from tests.attacks.maskers.memory import Changing


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
                                    suite=full_suite(pgd_steps=10, pgd_restarts=1, deepfool_steps=10, apgd_steps=10,
                                                     targets=2, fab_steps=10, square_queries=200),
                                    generator=torch.Generator().manual_seed(0), batch_size=33)
    rows = [[mark == "1" for mark in row] for name, row in record["outcomes"].items() if name != "clean"]
    survived = [all(marks) for marks in zip(*rows)]
    assert record["robust_accuracy"] == sum(survived) / 100
    assert record["robust_accuracy"] <= min(attack["alone"] if attack["left"] is None else attack["left"]
                                            for attack in record["attacks"].values())
    # the images handed back are the proof
    fooled = honest.network(adversarial).argmax(1) != labels
    assert (~fooled).tolist() == survived
    assert (adversarial - images).abs().max() <= 0.2 + 1e-6
    assert record["attacks"]["deepfool"]["median_distance"] > 0
    assert record["attacks"]["pgd_ce"]["gradient_evaluations"] > record["attacks"]["fgsm"]["gradient_evaluations"] > 0


def test_an_undefended_net_falls_and_a_trained_one_stands(honest, undefended, digits) -> None:
    images, labels = digits.split("validation").all()
    suite = pgd_suite(pgd_steps=20, pgd_restarts=1)
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
    record = evaluate(lambda batch: 5 * torch.eye(10)[torch.zeros(len(batch), dtype=torch.long)] + 0 * batch.sum(),
                      images, labels, norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])
    zeros = float((labels == 0).float().mean())
    assert record["clean_accuracy"] == pytest.approx(zeros)
    assert record["attacks"]["fgsm"]["alone"] == pytest.approx(zeros)


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


def _same(batch: Tensor) -> Tensor:
    return batch.flatten(1)[:, :10] * 9


@pytest.mark.parametrize(("model", "sentence"), [
    (lambda images: _same(images).softmax(1), "the model returns probabilities"),
    (lambda images: _same(images) + torch.randn(len(images), 10), "answers the same images differently"),
    (lambda images: _same(images) - _same(images).mean(0), "answer to an image depends on its batch"),
    (lambda images: _same(images) + torch.where(images.flatten(1).amax(1, keepdim=True) > 0.85, torch.nan, 0.0),
     "the model returned NaN or infinite logits"),
])
def test_models_that_do_not_answer_alike_are_refused(model, sentence: str) -> None:
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.9
    with pytest.raises(InputError) as caught:
        evaluate(model, images, _same(images).argmax(1), norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])
    assert sentence in str(caught.value)


def test_a_model_that_is_another_one_after_many_questions_is_refused(honest, undefended, digits) -> None:
    """Whoever attacks it first breaks it, and whoever audits it then finds a robust network."""
    images, labels = digits.split("test", limit=40).all()
    model = Changing(undefended.network, honest.network, 20)
    with pytest.raises(InputError, match="answers the same images differently when asked again"):
        run_suite(model, images, labels, norm="linf", eps=0.2, suite=pgd_suite(pgd_steps=10, pgd_restarts=1))


def test_nan_under_attack_names_the_attack() -> None:
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5

    def model(batch: Tensor) -> Tensor:
        return _same(batch) / (batch.flatten(1).amax(1, keepdim=True) < 0.55)
    with pytest.raises(InputError, match="NaN or infinite logits under the attack fgsm"):
        evaluate(model, images, _same(images).argmax(1), norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])


def test_a_model_in_training_mode_is_judged_in_evaluation_mode_and_comes_back(honest, digits) -> None:
    images, labels = digits.split("test", limit=60).all()
    suite = pgd_suite(pgd_steps=3, pgd_restarts=1)
    expected = evaluate(honest.network, images, labels, norm="linf", eps=0.1, suite=suite)
    gradients = [parameter.grad for parameter in honest.network.parameters()]
    honest.network.train()
    statistics = {name: tensor.clone() for name, tensor in honest.network.state_dict().items()}
    try:
        found = evaluate(honest.network, images, labels, norm="linf", eps=0.1, suite=suite)
        assert honest.network.training
    finally:
        honest.network.eval()
    assert found["outcomes"] == expected["outcomes"]
    for name, tensor in honest.network.state_dict().items():
        assert torch.equal(tensor, statistics[name]), name
    assert [parameter.grad for parameter in honest.network.parameters()] == gradients
    assert all(parameter.requires_grad for parameter in honest.network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in honest.network.modules())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_changes(honest, digits, error: Exception) -> None:
    images, labels = digits.split("test", limit=60).all()
    sizes = []

    def small(batch: Tensor) -> Tensor:
        if batch.requires_grad:
            sizes.append(len(batch))
            if len(batch) > 16:
                raise error
        return honest.network(batch)
    options = {"norm": "linf", "eps": 0.2, "suite": pgd_suite(pgd_steps=5, pgd_restarts=1)}
    found, expected = (evaluate(model, images, labels, generator=torch.Generator().manual_seed(0), **options)
                       for model in (small, honest.network))
    assert found["outcomes"] == expected["outcomes"]
    assert max(sizes) > 16 and min(sizes) <= 16


def test_every_attack_and_the_audit_survive_a_small_memory(honest, digits) -> None:
    images, labels = digits.split("test", limit=40).all()

    def small(batch: Tensor) -> Tensor:
        if len(batch) > 24:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest.network(batch)
    for name, attack in catalogue("linf").items():
        options = {key: min(value, 3) if isinstance(value, int) else value for key, value in attack.options.items()}
        suite = [Attack(name, attack.function, options, attack.minimum_norm, attack.takes_eps)]
        assert evaluate(small, images, labels, norm="linf", eps=0.2, suite=suite)["attacks"][name]["attacked"] > 30
    assert run_audit(small, images, labels, norm="linf", eps=0.2, checks=["order", "noise"],
                     limits=AuditBudget(pgd_steps=3, targeted_steps=3, targets=2, noise_draws=30))[0]["checks"]


def test_a_net_for_large_batches_is_refused(undefended, honest, digits) -> None:
    images, labels = digits.split("test", limit=40).all()
    model = maskers.in_a_large_batch(undefended.network, honest.network)
    with pytest.raises(InputError, match="the model's answer to an image depends on its batch"):
        run_suite(model, images, labels, norm="linf", eps=0.2, suite=[Attack("fgsm", fgsm)])


def test_hop_skip_jump_does_not_depend_on_its_batch(honest, digits) -> None:
    images, labels = digits.split("test", limit=48).all()
    seeds = image_seeds(48, torch.Generator().manual_seed(0), images.device)
    for norm in ("linf", "l2"):
        whole = hop_skip_jump(honest.network, images, labels, norm=norm, queries=400, generator=seeds)[1]
        parts = torch.cat([hop_skip_jump(honest.network, images[part], labels[part], norm=norm, queries=400,
                                         generator=seeds[part])[1] for part in torch.arange(48).split(8)])
        both = whole.isfinite() & (whole > 0)
        assert torch.equal(both, parts.isfinite() & (parts > 0))
        assert ((whole - parts)[both].abs() <= 1e-3 * whole[both]).float().mean() >= 0.95


def test_a_model_without_any_gradient_can_be_asked_everything(honest, digits) -> None:
    images, labels = digits.split("test", limit=20).all()
    suite = full_suite(pgd_steps=2, pgd_restarts=1, deepfool_steps=2, apgd_steps=2, fab_steps=2, square_queries=2)
    record = evaluate(lambda batch: honest.network(batch.detach()), images, labels, norm="linf", eps=0.01, suite=suite)
    assert record["robust_accuracy"] > 0.8


def test_an_error_of_the_model_is_not_taken_for_lack_of_memory(digits) -> None:
    images, labels = digits.split("test", limit=20).all()

    def broken(batch: Tensor) -> Tensor:
        if batch.requires_grad:
            raise RuntimeError("shapes do not match")
        return torch.nn.functional.one_hot(labels[:1].expand(len(batch)), 10).float() * 5
    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluate(broken, images, labels, norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)])


def test_another_batch_size_gives_each_image_the_same_outcome(honest, digits) -> None:
    images, labels = digits.split("test").all()
    suite = full_suite(pgd_steps=10, pgd_restarts=2, deepfool_steps=5, apgd_steps=10, targets=2, fab_steps=5,
                       square_queries=50)
    rows = [evaluate(honest.network, images, labels, norm="linf", eps=0.2, suite=suite, batch_size=size,
                     generator=torch.Generator().manual_seed(0))["outcomes"] for size in (512, 512, 37)]
    assert rows[0] == rows[1]
    for name in rows[0]:
        same = sum(one == other for one, other in zip(rows[0][name], rows[2][name]))
        assert same >= 0.99 * len(labels), name


def test_an_attack_finds_the_same_whatever_stands_beside_it_in_the_suite(honest, digits) -> None:
    images, labels = digits.split("test", limit=100).all()
    suite = pgd_suite(pgd_steps=5, pgd_restarts=2)
    alone, among = (evaluate(honest.network, images, labels, norm="linf", eps=0.2, suite=part,
                             generator=torch.Generator().manual_seed(0))["outcomes"]["pgd_margin"]
                    for part in (suite[2:], suite))
    assert alone == among


def test_survivors_are_attacked_alone_and_counted_together(honest, digits) -> None:
    images, labels = digits.split("test", limit=150).all()
    suite = full_suite(pgd_steps=5, pgd_restarts=1, deepfool_steps=5, apgd_steps=10, targets=3, fab_steps=10,
                       square_queries=100)
    record = evaluate(honest.network, images, labels, norm="linf", eps=0.2, suite=suite,
                      generator=torch.Generator().manual_seed(0))
    attacks = record["attacks"]
    assert list(attacks)[-4:] == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert attacks["pgd_ce"]["attacked"] == attacks["deepfool"]["attacked"] == record["outcomes"]["clean"].count("1")
    before = ["apgd_ce", "apgd_t", "fab_t", "square"]
    for earlier, later in zip(before, before[1:]):
        assert attacks[later]["attacked"] == record["outcomes"][earlier].count("1")
        assert attacks[later]["left"] <= attacks[earlier]["left"]
    assert attacks["square"]["left"] == record["robust_accuracy"]
    for name, attack in attacks.items():
        assert (attack["alone"] is None) == (name in before) != (attack["left"] is None)
    assert attacks["square"]["gradient_evaluations"] == 0 < attacks["square"]["queries"]


def test_the_first_attack_of_autoattack_meets_every_image(honest, digits) -> None:
    images, labels = digits.split("test", limit=60).all()
    suite = [Attack(name, fgsm, survivors_only=True) for name in ("first", "second")]
    attacks = evaluate(honest.network, images, labels, norm="linf", eps=0.1, suite=suite)["attacks"]
    assert attacks["first"]["left"] is None and attacks["second"]["alone"] is None
    assert attacks["first"]["alone"] == attacks["second"]["left"]


def test_what_the_audit_breaks_lowers_the_number(honest, digits) -> None:
    images, labels = digits.split("test", limit=100).all()
    record, adversarial = run_suite(honest.network, images, labels, norm="linf", eps=0.2,
                                    suite=[Attack("fgsm", fgsm)], generator=torch.Generator().manual_seed(0))
    rows = audited_rows(labels, 60, seed=0)
    report, points = run_audit(honest.network, images[rows], labels[rows], norm="linf", eps=0.2,
                               checks=["margin"], generator=torch.Generator().manual_seed(0))
    lowered, both = with_audit(record, adversarial, report, points, rows)
    stands = honest.network(both).argmax(1) == labels
    assert lowered["robust_accuracy"] == int(stands.sum()) / 100 < record["robust_accuracy"]
    assert ["1" if one else "0" for one in stands.tolist()] == list(lowered["outcomes"]["audit"])
    assert lowered["attacks"]["audit"]["left"] == lowered["robust_accuracy"]
    assert lowered["attacks"]["audit"]["alone"] is None
    met = [row for row in rows.tolist() if record["outcomes"]["fgsm"][row] == "1"]
    assert lowered["attacks"]["audit"]["attacked"] == len(met) < 60 == len(rows)
    assert rows.tolist() != list(range(60))
    assert "audit" not in record["attacks"]  # what was handed in is not changed
    assert (both - images).abs().max() <= 0.2 + 1e-6


def test_an_attack_that_is_named_twice_is_refused(honest, digits) -> None:
    images, labels = digits.split("test", limit=5).all()
    with pytest.raises(InputError, match="names an attack twice: fgsm, fgsm"):
        evaluate(honest.network, images, labels, norm="linf", eps=0.1, suite=[Attack("fgsm", fgsm)] * 2)


def test_layers_that_round_are_also_attacked_through_their_staircase() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(BitDepth(2), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    images = torch.rand(30, 1, 4, 4)
    labels = model(images).argmax(1)
    record = evaluate(model, images, labels, norm="linf", eps=0.3, suite=[Attack("fgsm", fgsm)])
    assert list(record["attacks"]) == ["fgsm", "pgd_staircase"]
    assert record["attacks"]["pgd_staircase"]["alone"] < 1


class _RandomShift(Defence):
    attacked_through = "eot"

    def forward(self, images: Tensor) -> Tensor:
        return images + 0.1 * torch.randn_like(images)


def test_layers_that_are_random_are_attacked_and_judged_in_the_mean() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(_RandomShift(), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    images = torch.rand(10, 1, 4, 4)
    labels = model[2](images.flatten(1)).argmax(1)
    records = [evaluate(model, images, labels, norm="linf", eps=0.3, suite=[Attack("fgsm", fgsm)]) for _ in range(2)]
    assert records[0]["outcomes"] == records[1]["outcomes"]
    assert records[0]["attacks"]["fgsm"]["alone"] < records[0]["clean_accuracy"]


@pytest.mark.parametrize("name", AUTO_ATTACKS)
def test_attacks_of_autoattack_meet_what_still_stands(name: str) -> None:
    suite = named_suite(name)
    assert suite and all(attack.survivors_only for attack in suite)


@pytest.mark.parametrize(("reached", "median"), [(0, None), (1, None), (2, 0.25), (3, 0.25)])
def test_the_median_distance_is_none_where_most_images_stand(reached: int, median: float | None) -> None:
    """Of the three images the first `reached` are broken at 0.25; an infinite number is no JSON."""
    images, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)

    def model(batch: Tensor) -> Tensor:
        value = 0.6 - batch.mean((1, 2, 3))
        return torch.stack([value, -value], 1)

    def attack(model: object, images: Tensor, labels: Tensor, **rest: object) -> tuple[Tensor, Tensor]:
        points = images + torch.where(torch.arange(3) < reached, 0.25, 0.0).reshape(-1, 1, 1, 1)
        return points, torch.zeros(3)  # its own word for the distances is not believed
    record = evaluate(model, images, labels, norm="linf", eps=0.1,
                      suite=[Attack("nearest", attack, minimum_norm=True)])
    assert record["attacks"]["nearest"]["median_distance"] == median
    record = evaluate(model, images, 1 - labels, norm="linf", eps=0.1,
                      suite=[Attack("nearest", attack, minimum_norm=True)])
    assert record["attacks"]["nearest"]["median_distance"] is None  # nobody was right, so that nobody was met
