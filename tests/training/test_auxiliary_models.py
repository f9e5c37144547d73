"""Networks that are trained before another: which they are, that they are taken up again, that none stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parapet.config import ThreatModel, TrainingConfig
from parapet.genome import Genome
from parapet.models import build
from parapet.training import TrainingFailed, TrainingRun, loop, train
from parapet.training.auxiliary_models import AuxiliaryModels, auxiliary_genomes, checkpoint_of

PUPIL = Genome(width=4, depth=1, loss="distillation", temperature=30.0).canonical()
ENSEMBLE = Genome(width=4, depth=1, loss="pgd", crafting="ensemble", clean_share=0.5).canonical()


class _Killed(Exception):
    pass


def _train(digits, genome: Genome, path: Path | None = None, validate_every: int = 3, gradient_clip: float = 1.0,
           **options):
    config = TrainingConfig(epochs=3, validate_every=validate_every, validation_steps=1, checkpoint_seconds=0.0,
                            gradient_clip=gradient_clip, validation_images=60)
    return train(TrainingRun.of(genome, digits, images=200, config=config, threat=ThreatModel(eps=0.2), seed=7,
                                checkpoint=path, **options))


def test_who_needs_whom() -> None:
    assert auxiliary_genomes(Genome()) == {}
    teacher = auxiliary_genomes(PUPIL)["teacher"]
    assert (teacher.loss, teacher.temperature, teacher.width) == ("softened", 30.0, 4)
    static = auxiliary_genomes(ENSEMBLE)
    assert list(static) == ["static-1", "static-2"] and {genome.loss for genome in static.values()} == {"standard"}
    assert all(auxiliary_genomes(genome) == {} for genome in (*static.values(), teacher))


def test_the_finished_ones_learn_no_more() -> None:
    networks = {name: build(genome, (1, 8, 8), 10, generator=torch.Generator()).train()
                for name, genome in auxiliary_genomes(ENSEMBLE).items()}
    found = AuxiliaryModels.of(networks)
    assert found.teacher is None and len(found.static) == 2
    assert not any(network.training or parameter.requires_grad for network in found.static
                   for parameter in network.parameters())


@pytest.mark.parametrize("genome", [PUPIL, ENSEMBLE])
def test_killed_in_the_pupil_s_second_epoch_nothing_is_trained_twice(digits, tmp_path: Path, genome: Genome) -> None:
    torch.set_num_threads(1)
    path = tmp_path / "checkpoint.safetensors"
    undisturbed = _train(digits, genome)

    def kill(epoch: int, *rest: object) -> None:
        if epoch == 2:
            raise _Killed

    with pytest.raises(_Killed):
        _train(digits, genome, path, progress=kill)
    assert all(checkpoint_of(path, name).exists() for name in auxiliary_genomes(genome))
    again: list[str] = []

    def beforehand(name: str) -> Callable[[], AbstractContextManager]:
        return lambda: again.append(name) or nullcontext()
    resumed = _train(digits, genome, path, auxiliary_turn=beforehand)
    assert again == []
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert resumed.training_flops == undisturbed.training_flops
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("genome", [PUPIL, ENSEMBLE])
def test_killed_in_the_middle_of_an_auxiliary_model_it_ends_the_same(digits, tmp_path: Path, genome: Genome) -> None:
    torch.set_num_threads(1)
    path, last = tmp_path / "checkpoint.safetensors", list(auxiliary_genomes(genome))[-1]
    undisturbed, turns = _train(digits, genome), 0

    @contextmanager
    def dies() -> Iterator[None]:
        nonlocal turns
        turns += 1
        if turns == 5:
            raise _Killed
        yield

    with pytest.raises(_Killed):
        _train(digits, genome, path, auxiliary_turn=lambda name: dies if name == last else nullcontext)
    assert not path.exists() and checkpoint_of(path, last).exists()
    resumed = _train(digits, genome, path)
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_an_auxiliary_model_is_its_last_epoch(digits, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    honest = loop._keep_best

    def looked(run, learner, state):
        looks.append(state.epoch)
        return honest(run, learner, state)
    monkeypatch.setattr(loop, "_keep_best", looked)
    _train(digits, PUPIL, validate_every=1)
    assert looks == [3, 1, 2, 3]


def test_an_auxiliary_model_that_fails_is_named(digits) -> None:
    with pytest.raises(TrainingFailed, match=r"^the teacher, which is trained first: the loss was not finite in epoch"):
        _train(digits, replace(PUPIL, learning_rate=1e6), gradient_clip=0.0)


def test_what_was_trained_beforehand_counts(digits) -> None:
    alone = _train(digits, Genome(width=4, depth=1, loss="softened").canonical()).training_flops
    # The pupil's step is 3 forward passes and asks the teacher once more.
    assert _train(digits, PUPIL).training_flops == alone + alone * 4 // 3
