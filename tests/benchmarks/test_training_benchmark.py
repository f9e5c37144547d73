"""The training benchmark times the loop itself, runs peers' published statements and judges by pairs of turns."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.checkouts import VARIABLE
from benchmarks.training import peers, speed
from benchmarks.training.contestants import Setting
from benchmarks.training.ours import ours
from parapet.config import ThreatModel, TrainingConfig
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.training import TrainingRun, train

TINY = Genome(width=4, depth=1, loss="pgd", steps=3, learning_rate=0.01, weight_decay=0.0)


def slow_toy(*_: object):
    """A contestant that sleeps."""
    return lambda: time.sleep(0.01)


def test_our_epoch_is_the_loops(digits) -> None:
    torch.set_num_threads(1)
    config = TrainingConfig(epochs=1, batch_size=64, eps_ramp=0.0, schedule="constant", validation_images=64)
    run = TrainingRun.of(TINY, digits, config=config, threat=ThreatModel(eps=0.2), seed=3, images=200)
    trained = train(run)
    generator = torch.Generator().manual_seed(3)
    network = build(TINY, digits.image_shape, 10, generator=generator, mean=run.mean, std=run.std)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ours(network, run.images, TINY, 64, run.threat, generator=generator)()
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
        assert name.startswith("normalise") or not torch.equal(value, before[name]), name


def test_a_contest_is_timed_in_turns_and_drawn(digits_folder: Path) -> None:
    contest = speed.Contest("tiny, pgd", TINY, {"toy": slow_toy}, to_reach=1e6)
    measured = speed.measure(contest, Setting(digits_folder, 16, 2, 0.2, threads=1), rounds=2)
    assert len(measured.taken["ours"]) == 2 and min(measured.taken["toy"]) >= 0.01
    assert max(measured.worked["toy"]) < 0.01 < min(measured.taken["toy"])  # it waits and does not work
    assert measured.images == 32 and measured.images_a_second("toy") <= 3200
    assert measured.training_flops == measured.flops * (2 * 3 + 3) and 0 < measured.share_of_peak < 1
    drawn = speed.table([measured], "title")
    assert [str(cell) for cell in drawn.columns[1].cells] == ["ours", "toy"]
    assert "x < 1e+06" in str(next(iter(drawn.columns[-1].cells)))
    assert json.loads(json.dumps(measured.to_dict()))["verdict"] == measured.verdict()


def test_a_missed_ratio_is_called_missed() -> None:
    contest = speed.Contest("tiny, pgd", TINY, to_reach=1.3)
    # A machine that was three times slower in the second round: the ratio is the same in both.
    measured = speed.Measured(contest, 128, {"ours": [1.0, 3.0], "TRADES": [1.2, 3.6]})
    assert measured.ratio("TRADES") == pytest.approx(1.2) and measured.verdict() == "TRADES 1.20 x < 1.3"
    assert replace(measured, contest=replace(contest, to_reach=1.2 - 1e-9)).verdict() == "met"


def test_contests_give_everyone_ten_steps_and_the_losses_of_the_peers() -> None:
    every = speed.contests(device="cuda")
    assert len(every) == 4 and {contest.to_reach for contest in every} == {2.0}
    assert {contest.genome.steps for contest in every} == {10}
    assert [contest.genome.loss for contest in speed.contests(["plain 16x2"])] == ["trades", "pgd"]
    assert [contest.genome.trades_beta for contest in speed.contests(["TRADES"])] == [1.0, 1.0]


def test_a_missing_peer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match="PARAPET_PEERS is not set"):
        peers.find()
    with pytest.raises(InputError, match="TRADES does not exist; check out github.com/yaodongyu/TRADES at 6e8e11b"):
        peers.find(root=tmp_path)


def test_the_statement_of_a_script_is_executed_and_its_absence_told(tmp_path: Path) -> None:
    script = tmp_path / "train_mnist.py"
    script.write_text("import nothing_of_that_name\ndef main():\n    for i, (X, y) in enumerate(train_loader):\n"
                      "        seen.append((i, X, y))\n")
    names = {"train_loader": [(1, 2)], "seen": []}
    exec(peers._statement(script, peers._is_loop_over_batches), names)
    assert names["seen"] == [(0, 1, 2)]
    with pytest.raises(InputError, match="has 0 statements"):
        peers._statement(script, peers._is_train)


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} is not set")
@pytest.mark.parametrize("name", list(peers.PEERS))
def test_the_published_steps_train(name: str, digits, monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back afterwards: peers replace them for their own process.
    monkeypatch.setattr(torch.Tensor, "cuda", torch.Tensor.cuda)
    monkeypatch.setattr(torch.nn.Module, "cuda", torch.nn.Module.cuda)
    monkeypatch.setattr("sys.path", [*sys.path])
    genome = replace(TINY, **({"loss": "trades", "trades_beta": 1.0} if name == "TRADES" else {}))
    network = build(genome, digits.image_shape, 10, generator=torch.Generator().manual_seed(0))
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    peers.TRAINERS[name](network, digits.split("train", limit=32), genome, 16, ThreatModel(eps=0.2))()
    assert not any(torch.equal(one, other) for one, other in zip(before, network.parameters()))
    # Two batches: TRADES asks twice in each of 3 steps and three times for its loss, the other once for each.
    assert len(passes) == 2 * {"TRADES": 2 * 3 + 3, "fast_adversarial": 3 + 1}[name]
