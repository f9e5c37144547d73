"""DefenceParameters parameters follow feedback: by hand, and in a run whose network misleads single steps."""

from __future__ import annotations

import pytest
import torch

from parapet.config import ThreatModel, TrainingConfig
from parapet.genome import Genome
from parapet.training import TrainingRun, loop
from parapet.training.adaptation import DefenceParameters, Feedback, adapt, strengthen_attack
from parapet.training.recipe import Recipe

STEADY = Feedback(0.62, 0.60)


def test_a_wide_gap_adds_a_step_and_a_narrow_one_takes_it_away() -> None:
    wider = adapt(DefenceParameters(), Feedback(0.80, 0.60))
    assert wider.extra_steps == 1
    assert adapt(wider, Feedback(0.63, 0.60)).extra_steps == 1
    assert adapt(wider, Feedback(0.605, 0.60)).extra_steps == 0
    assert adapt(DefenceParameters(), Feedback(0.605, 0.60)).extra_steps == 0


def test_regularisers_grow_where_robust_accuracy_stands_still() -> None:
    defence, factors = DefenceParameters(), []
    for _ in range(20):
        defence = adapt(defence, STEADY)
        factors.append(defence.regulariser_factor)
    assert factors[:3] == [1.0, 1.0, 1.25] and factors[-1] == 4.0 and factors == sorted(factors)
    assert adapt(defence, Feedback(0.72, 0.70)).stalled == 0


def test_the_radius_follows_what_the_attack_leaves() -> None:
    weak, strong = Feedback(0.97, 0.96, clean=0.99), Feedback(0.32, 0.3, clean=0.9)
    assert adapt(DefenceParameters(), weak).radius_factor == pytest.approx(1.05)
    assert adapt(DefenceParameters(), strong).radius_factor == pytest.approx(1 / 1.05)
    assert adapt(DefenceParameters(), Feedback(0.62, 0.60, clean=0.9)).radius_factor == 1.0
    assert adapt(DefenceParameters(), Feedback(0.0, 0.0, clean=0.0)).radius_factor < 1
    for seen, bound in ((weak, 1.25), (strong, 0.75)):
        defence = DefenceParameters()
        for _ in range(20):
            defence = adapt(defence, seen)
        assert defence.radius_factor == bound


def test_what_a_collapse_adds_stays() -> None:
    defence = strengthen_attack(DefenceParameters())
    assert (defence.extra_steps, defence.collapses) == (1, 1)
    assert adapt(defence, Feedback(0.60, 0.60)).extra_steps == 1


def test_a_collapse_is_a_gap_of_more_than_twenty_points_after_a_good_look_and_a_fall() -> None:
    good = DefenceParameters(good=0.6)
    assert Feedback(0.9, 0.4).collapsed(good)
    assert not Feedback(0.59, 0.4).collapsed(good)  # no gap
    assert not Feedback(0.9, 0.6).collapsed(good)  # a gap, and no fall
    assert not Feedback(0.9, 0.4).collapsed(DefenceParameters())  # never good


def test_the_defence_changes_what_an_epoch_does_and_the_log_says_so() -> None:
    recipe = Recipe.of(Genome(loss="pgd", steps=2, input_gradient=0.5), TrainingConfig())
    now = recipe.adapted(DefenceParameters(extra_steps=3, radius_factor=1.2, regulariser_factor=2.0))
    assert now.eps_ratio == pytest.approx(1.2) and now.crafting.step_size(0.2) == pytest.approx(2.5 * 0.2 / 5)
    assert now.metrics() == {"training_steps": 5.0, "input_gradient_weight": 1.0}
    single = Recipe.of(Genome(loss="pgd", crafting="n_fgsm"), TrainingConfig())
    assert single.crafting.single
    stronger = single.adapted(DefenceParameters(extra_steps=1)).crafting
    assert (stronger.kind, stronger.steps) == ("pgd", 2)


def _train(digits, genome: Genome, monkeypatch, seen: list[Feedback], **options):
    told = iter(seen)
    monkeypatch.setattr(loop, "feedback", lambda *rest, **more: next(told, STEADY))
    config = TrainingConfig(epochs=3, validate_every=1, validation_steps=1, validation_images=60, **options)
    return loop.train(TrainingRun.of(genome, digits, images=200, config=config, threat=ThreatModel(eps=0.2), seed=1))


def test_a_collapse_rolls_back_to_the_last_good_epoch_and_attacks_harder(digits, monkeypatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    restore = loop.Learner.restore

    def watched(learner, snapshot) -> None:
        restore(learner, snapshot)
        kept.append({name: value.clone() for name, value in learner.network.state_dict().items()})
        for name, value in snapshot["weights"].items():
            assert torch.equal(value, kept[-1][name])
    monkeypatch.setattr(loop.Learner, "restore", watched)
    trained = _train(digits, Genome(width=4, depth=1, loss="pgd", steps=1), monkeypatch,
                     [STEADY, Feedback(0.9, 0.1), STEADY])
    assert len(kept) == 1 and trained.collapses == 1
    assert [row["rolled_back"] for row in trained.curves] == [0.0, 1.0, 0.0]
    assert [row["training_steps"] for row in trained.curves] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(("adaptive", "steps"), [(False, [2.0, 2.0, 2.0]), (True, [2.0, 3.0, 4.0])])
def test_parameters_adapt_where_that_is_asked_for(digits, monkeypatch, adaptive: bool, steps: list[float]) -> None:
    trained = _train(digits, Genome(width=4, depth=1, loss="pgd", steps=2), monkeypatch, [Feedback(0.79, 0.6)] * 3,
                     adapt=adaptive)
    assert [row["training_steps"] for row in trained.curves] == steps


def test_an_honest_gap_from_the_first_look_on_throws_nothing_away(digits, monkeypatch) -> None:
    trained = _train(digits, Genome(width=4, depth=1, loss="pgd", steps=2, clean_share=0.5), monkeypatch,
                     [Feedback(0.6, 0.3)] * 3)
    assert trained.collapses == 0 and [row["rolled_back"] for row in trained.curves] == [0.0] * 3
    assert [row["training_steps"] for row in trained.curves] == [2.0] * 3


def test_a_single_step_that_misleads_from_the_start_is_strengthened(digits, monkeypatch) -> None:
    trained = _train(digits, Genome(width=4, depth=1, loss="pgd", steps=1), monkeypatch,
                     [Feedback(0.9, 0.1), STEADY, STEADY])
    assert trained.collapses == 0 and [row["training_steps"] for row in trained.curves] == [1.0, 2.0, 2.0]


@pytest.mark.parametrize("ratio", [0.0, 4.0])
def test_every_training_radius_that_a_genome_allows_trains(digits, ratio: float) -> None:
    genome = Genome(width=4, depth=1, loss="pgd", steps=1, eps_ratio=ratio)
    config = TrainingConfig(epochs=1, validate_every=1, validation_steps=1, validation_images=20)
    trained = loop.train(TrainingRun.of(genome, digits, images=64, config=config, threat=ThreatModel(eps=0.3), seed=1))
    assert trained.best_epoch == 1


def test_weights_that_are_not_finite_are_never_the_best(digits, monkeypatch) -> None:
    epoch = loop.train_epoch

    def spoil(run, learner, *rest):
        metrics = epoch(run, learner, *rest)
        with torch.no_grad():
            next(learner.network.parameters()).fill_(torch.nan)
        return metrics
    monkeypatch.setattr(loop, "train_epoch", spoil)
    with pytest.raises(loop.TrainingFailed, match="not finite in epoch 1 of 3"):
        _train(digits, Genome(width=4, depth=1, loss="pgd", steps=1), monkeypatch, [STEADY] * 3)
