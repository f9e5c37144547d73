"""Networks that are trained before another: which they are, that they are taken up again, that none stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parapet.config import ThreatModel, TrainingConfig
from parapet.genome import Genome
from parapet.models import build
from parapet.training import loop, train
from parapet.training.companions import Companions, checkpoint_of, needed

PUPIL = Genome(width=4, depth=1, loss="distillation", temperature=30.0).canonical()
ENSEMBLE = Genome(width=4, depth=1, loss="pgd", crafting="ensemble", clean_share=0.5).canonical()


class _Killed(Exception):
    pass


def _train(digits, genome: Genome, path: Path | None = None, **options):
    config = TrainingConfig(epochs=3, validate_every=3, validation_steps=1, checkpoint_seconds=0.0)
    return train(genome, digits.split("train", limit=200), digits.split("validation", limit=60), classes=10,
                 mean=torch.tensor(digits.mean), std=torch.tensor(digits.std), config=config,
                 threat=ThreatModel(eps=0.2), seed=7, checkpoint_path=path, **options)


def test_who_needs_whom() -> None:
    assert needed(Genome()) == {}
    teacher = needed(PUPIL)["teacher"]
    assert (teacher.loss, teacher.temperature, teacher.width) == ("softened", 30.0, 4)
    static = needed(ENSEMBLE)
    assert list(static) == ["static-1", "static-2"] and {genome.loss for genome in static.values()} == {"standard"}
    assert all(needed(genome) == {} for genome in (*static.values(), teacher))


def test_the_finished_ones_learn_no_more() -> None:
    networks = {name: build(genome, (1, 8, 8), 10, generator=torch.Generator()).train()
                for name, genome in needed(ENSEMBLE).items()}
    found = Companions.of(networks)
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
    assert all(checkpoint_of(path, name).exists() for name in needed(genome))
    turns: list[str] = []
    resumed = _train(digits, genome, path, beforehand=lambda name: turns.append(name) or loop.nullcontext)
    assert turns == list(needed(genome))
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert resumed.training_flops == undisturbed.training_flops
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_trained_beforehand_counts(digits) -> None:
    alone = _train(digits, Genome(width=4, depth=1, loss="softened").canonical())
    assert _train(digits, PUPIL).training_flops == 2 * alone.training_flops
