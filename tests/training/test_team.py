"""Several processes that train together: equal weights, the gradient of the whole batch, and what they agree on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Dataset
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.training import TrainingRun, train
from parapet.training.team import ALONE, Team, process_group

# Layer norm looks at one image only, so that a shared batch is the whole batch; weights that batch norm has had a hand
# in depend on who shares it.
_VIT = Genome(backbone="vit", width=8, depth=1, loss="pgd", steps=2, learning_rate=0.02)
_PLAIN = Genome(backbone="plain", width=4, depth=1, loss="trades", trades_beta=3.0, steps=2, learning_rate=0.1,
                weight_perturbation=0.005)


def _process(rank: int, size: int, meeting: str, target: Callable[..., Any], arguments: tuple, out: str) -> None:
    torch.set_num_threads(1)
    import os

    environment = {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": meeting}
    os.environ.update(environment)
    with process_group(environment, device="cpu") as (team, device):
        assert device == "cpu"
        torch.save(target(team, *arguments), f"{out}/{rank}.pt")


def together(size: int, target: Callable[..., Any], out: Path, *arguments: Any) -> list[Any]:
    """What `target(team, *arguments)` returns in each of `size` processes."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = str(probe.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, size, meeting, target, arguments, str(out)))
                 for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        assert process.exitcode == 0
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _arithmetic(team: Team) -> dict[str, Any]:
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, float(team.rank))
    network[1].running_mean.fill_(10.0 * team.rank)
    network[0].bias.grad = None
    team.average_step(network.parameters(), network)
    shared, = team.share(torch.arange(6))
    return {"gradient": network[0].weight.grad, "none": network[0].bias.grad is None, "mean": network[1].running_mean,
            "counted": network[1].num_batches_tracked, "rows": shared, "everyone": team.gather(team.rank),
            "agreed": team.from_main(lambda: {"rank": team.rank})}


def _trained(team: Team, genome: Genome, folder: str, changes: dict[str, Any],
             checkpoint: str | None = None) -> dict[str, Any]:
    data = Dataset.open(Path(folder))
    epochs = []

    def stop(epoch: int, of: int, row: dict[str, Any]) -> None:
        epochs.append(epoch)
        if changes.get("stop") == epoch:
            raise KeyboardInterrupt

    config = TrainingConfig(**{"epochs": 2, "batch_size": 32, "validate_every": 1, "validation_images": 64,
                               "checkpoint_seconds": 0.0} | {name: value for name, value in changes.items()
                                                             if name != "stop"})
    try:
        found = train(TrainingRun.of(genome, data, images=320, config=config, threat=ThreatModel(), seed=3,
                                     progress=stop, team=team, checkpoint=Path(checkpoint) if checkpoint else None))
    except KeyboardInterrupt:
        return {"epochs": epochs}
    return {"weights": found.network.state_dict(), "epochs": epochs,
            "curves": [{name: value for name, value in row.items() if name != "time"} for row in found.curves]}


def test_gradients_and_statistics_are_averaged_and_the_first_one_decides(tmp_path: Path) -> None:
    for rank, found in enumerate(together(2, _arithmetic, tmp_path)):
        assert found["gradient"].tolist() == [[0.5, 0.5]] and found["none"]
        assert found["mean"].tolist() == [5.0] and found["counted"] == 0
        assert found["rows"].tolist() == [[0, 1, 2], [3, 4, 5]][rank]
        assert found["agreed"] == {"rank": 0}
        assert found["everyone"] == [0, 1]


def test_two_train_to_the_weights_of_one(digits_folder: Path, tmp_path: Path) -> None:
    alone = _trained(ALONE, _VIT, str(digits_folder), {})
    first, second = together(2, _trained, tmp_path, _VIT, str(digits_folder), {})
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
        torch.testing.assert_close(value, alone["weights"][name], rtol=2e-3, atol=2e-4)
    assert first["curves"] == second["curves"]
    for row, other in zip(first["curves"], alone["curves"]):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_with_batch_norm_adaptation_and_perturbed_weights_they_stay_equal(digits_folder: Path, tmp_path: Path) -> None:
    first, second = together(2, _trained, tmp_path, _PLAIN, str(digits_folder), {"adapt": True, "weight_average": 0.9})
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert first["curves"] == second["curves"]
    assert first["curves"][-1]["loss"] < first["curves"][0]["loss"]


def test_two_that_were_stopped_go_on_where_they_were(digits_folder: Path, tmp_path: Path) -> None:
    whole, _ = together(2, _trained, tmp_path, _PLAIN, str(digits_folder), {})
    kept = str(tmp_path / "checkpoint.safetensors")
    # The first process writes after `progress`, so that the epoch in which both are stopped is lost.
    assert together(2, _trained, tmp_path, _PLAIN, str(digits_folder), {"stop": 2}, kept)[0] == {"epochs": [1, 2]}
    again, other = together(2, _trained, tmp_path, _PLAIN, str(digits_folder), {}, kept)
    assert again["epochs"] == other["epochs"] == [2]
    for name, value in whole["weights"].items():
        assert torch.equal(value, again["weights"][name]), name


def _torn(team: Team, folder: str, out: str) -> str:
    """One process sees a checkpoint and the other does not."""
    try:
        _trained(team, _PLAIN, folder, {}, f"{out}/{team.rank}/checkpoint.safetensors")
    except RuntimeError as error:
        return str(error)
    return "nothing"


def test_processes_that_see_different_checkpoints_all_say_so(digits_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "0" / "checkpoint.safetensors"
    kept.parent.mkdir()
    together(2, _trained, tmp_path, _PLAIN, str(digits_folder), {"stop": 2}, str(kept))
    for said in together(2, _torn, tmp_path, str(digits_folder), str(tmp_path)):
        assert "do not see the same checkpoint" in said and "it ends with the epochs 1, 0." in said


def test_a_batch_that_cannot_be_shared_is_told() -> None:
    with pytest.raises(InputError, match="training.batch_size is 64, which 3 processes cannot share equally; make it a "
                       "multiple of training.gpus, 3."):
        Team(0, 3).check(64)
    with pytest.raises(InputError, match="training.batch_size is 64, which 3 processes cannot share equally"):
        TrainingConfig(gpus=3)


def test_one_alone_changes_nothing() -> None:
    batch, labels = torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    assert ALONE.share(batch, labels)[0] is batch and ALONE.from_main(lambda: 3) == 3
    assert ALONE.gather(3) == [3] and ALONE.is_main
    gradient = torch.ones(2)
    ALONE.average([gradient])
    assert gradient.tolist() == [1, 1]
