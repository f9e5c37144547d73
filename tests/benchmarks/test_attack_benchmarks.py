"""The benchmarks measure what they say: the same passes again, ratios of pairs, verdicts against targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import checkouts
from benchmarks.attacks import agreement, budget, contests, nets, peers, rapid, speed
from benchmarks.attacks.contestants import Setting
from benchmarks.attacks.replay import Pass, Recorder, replay
from parapet.attacks import deepfool, pgd
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import save
from parapet.versions import ATTACK_VERSION
from tests.attacks.linear import far_from_the_limits


def test_a_replay_does_the_same_passes_again() -> None:
    model, images, labels = far_from_the_limits()
    recorder = Recorder(model)
    deepfool(recorder, images, labels, steps=3)
    pgd(recorder, images, labels, eps=0.1, steps=4)
    assert any(one.backward == 0 for one in recorder.passes) and any(one.backward for one in recorder.passes)
    again = Recorder(model)
    replay(again, images, recorder.passes)
    assert again.passes == recorder.passes


def test_ratios_are_of_rounds_that_were_timed_together() -> None:
    contest = contests.Contest("PGD", lambda *_: None, over_bare=1.15, over_peer={"foolbox": 2.0})
    # A machine that was three times slower in the second round: every ratio is the same in both.
    measured = speed.Measured(contest, {"bare": [1.0, 3.0], "ours": [1.1, 3.3], "foolbox": [1.65, 4.95]},
                              {"ours": 0.5, "foolbox": 0.5}, [Pass(10, True, 1)])
    assert measured.ratio("ours", "bare") == pytest.approx(1.1)
    assert measured.ratio("foolbox") == pytest.approx(1.5)
    assert measured.verdict() == "foolbox 1.50 x < 2"
    assert json.loads(json.dumps(measured.to_dict()))["images_backward"] == 10


def test_a_contest_is_timed_and_judged_by_the_models_own_answers(honest, digits_folder: Path, tmp_path: Path) -> None:
    save(honest.network, tmp_path / "net.safetensors")
    setting = Setting(tmp_path / "net.safetensors", digits_folder, 20, 0.2, threads=1)
    contest, = contests.contests(0.2, ["PGD-40"])
    measured = speed.measure(contest, setting, rounds=2, with_peers=False)
    assert len(measured.taken["ours"]) == len(measured.taken["bare"]) == 2 and min(measured.taken["bare"]) > 0
    assert 0 < measured.robust["ours"] < 1
    assert measured.flops > 10_000 and 0 < measured.share_of_peak < 1
    assert measured.images_a_second * measured.seconds("ours") == pytest.approx(sum(
        one.images * (1 + one.backward) for one in measured.passes))
    assert "PGD-40" in [str(cell) for cell in speed.table([measured], "title").columns[0].cells]


def test_a_missing_peer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    with pytest.raises(InputError, match="PARAPET_PEERS is not set"):
        peers.find()
    with pytest.raises(InputError, match=r"foolbox does not exist; check out github.com/bethgelab/foolbox at 2513a9a"):
        peers.find(("foolbox",), tmp_path)


def test_accuracies_are_counted_from_the_images_that_were_handed_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    images = torch.tensor([[0.6, 0.5, 0, 0], [0.6, 0.5, 0, 0]]).reshape(2, 1, 2, 2)
    labels = torch.tensor([0, 0])
    near, far = images.clone(), images.clone()
    near[0, 0, 0] = torch.tensor([0.55, 0.56])  # inside the ball of 0.1
    far[1, 0, 0] = torch.tensor([0.0, 1.0])     # outside
    found = agreement._accuracies(model, images, labels, near, far, "linf", 0.1, 0.002, {})
    assert (found["ours_robust"], found["theirs_robust"]) == (0.5, 1.0)
    assert found["only_ours_breaks"] == 1 and found["only_theirs_breaks"] == 0 and found["met"]
    assert not agreement._accuracies(model, images, labels, far, near, "linf", 0.1, 0.002, {})["met"]


def _compared(ours: float, theirs: float, ours_seconds: float, n: int = 1000) -> dict[str, object]:
    return {"net": "net", "norm": "linf", "eps": 0.3, "n": n, "clean": 0.99, "ours_robust": ours,
            "interval": [0.8, 0.9],
            "theirs_robust": theirs, "ours_seconds": ours_seconds, "theirs_seconds": 80.0}


@pytest.mark.parametrize(("found", "verdicts"), [
    ([_compared(0.855, 0.85, 10.0)], ["met", "at most 0.1 points above in 1/8 of the time"]),
    ([_compared(0.856, 0.85, 1.0)], ["at most 0.5 points above", "at most 0.1 points above in 1/8 of the time"]),
    ([_compared(0.855, 0.85, 8.0), _compared(0.5, 0.52, 12.0, 250)], ["met", "met", "met"]),
    ([_compared(0.8, 0.85, 10.1)], ["met", "at most 0.1 points above in 1/8 of the time"]),
])
def test_rapid_is_judged_on_each_net_and_over_all(found: list[dict], verdicts: list[str]) -> None:
    drawn = rapid.table(found)
    assert [str(cell) for cell in drawn.columns[-1].cells] == verdicts
    assert [str(cell) for cell in drawn.columns[0].cells] == ["net"] * len(found) + ["all"]


def test_a_comparison_that_was_made_is_not_made_again(honest, digits_folder: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The official code is somebody else's checkout, so another attack stands in for it here."""
    save(honest.network, tmp_path / "net.safetensors")
    (tmp_path / "dataset").symlink_to(digits_folder)
    monkeypatch.setitem(nets.NETS, "net", nets.Net(Genome(), 1))
    monkeypatch.setitem(nets.NETS, "later", nets.Net(Genome(), 1))
    monkeypatch.setitem(rapid.THREATS, "mnist", (("linf", 0.2, 50),))
    asked = []

    def official(name: str, norm: str, eps: float) -> object:
        asked.append((name, norm, eps))
        return lambda model, images, labels: pgd(model, images, labels, eps=eps, norm=norm)
    monkeypatch.setattr(peers, "official", official)
    for _ in range(2):
        rapid.run(tmp_path, ["net", "later"], {"official": "abc"}, "here", tmp_path, 40)
    assert asked == [("standard", "linf", 0.2)]
    assert "later is not trained yet; run `python -m benchmarks.attacks nets later`" in capsys.readouterr().out
    record = json.loads((tmp_path / "rapid-net-linf-40.json").read_text())
    assert 0 < record["ours_robust"] <= record["theirs_robust"] < record["clean"] and record["n"] == 40
    assert record["only_theirs_breaks"] == 0 and record["theirs_seconds"] > 0
    rapid.run(tmp_path, ["net"], {"official": "abc"}, "here", tmp_path, 40, again=True)
    assert len(asked) == 2


def test_the_official_attack_goes_on_from_the_pieces_that_it_finished(honest, digits_folder: Path, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    save(honest.network, tmp_path / "net.safetensors")
    (tmp_path / "dataset").symlink_to(digits_folder)
    monkeypatch.setitem(nets.NETS, "net", nets.Net(Genome(), 1))
    monkeypatch.setitem(rapid.THREATS, "mnist", (("linf", 0.2, 50),))
    monkeypatch.setattr(rapid, "_PIECE", 15)
    given = []

    def official(name: str, norm: str, eps: float) -> object:
        def attack(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            if len(given) == 2:
                given.append(0)
                raise KeyboardInterrupt
            given.append(len(images))
            return pgd(model, images, labels, eps=eps, norm=norm)
        return attack
    monkeypatch.setattr(peers, "official", official)
    with pytest.raises(KeyboardInterrupt):
        rapid.run(tmp_path, ["net"], {"official": "abc"}, "here", tmp_path, 40)
    kept = json.loads((tmp_path / "rapid-net-linf-40.pieces").read_text())["pieces"]
    assert [len(piece["stands"]) for piece in kept] == [15, 15]
    rapid.run(tmp_path, ["net"], {"official": "abc"}, "here", tmp_path, 40)
    assert given == [15, 15, 0, 10]
    record = json.loads((tmp_path / "rapid-net-linf-40.json").read_text())
    assert record["theirs_seconds"] > sum(piece["seconds"] for piece in kept)
    assert 0 < record["ours_robust"] <= record["theirs_robust"] < record["clean"]
    assert not (tmp_path / "rapid-net-linf-40.pieces").exists()


def test_two_budgets_are_compared_and_kept(honest, digits_folder: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    save(honest.network, tmp_path / "net.safetensors")
    (tmp_path / "dataset").symlink_to(digits_folder)
    monkeypatch.setitem(nets.NETS, "net", nets.Net(Genome(), 1))
    monkeypatch.setitem(rapid.THREATS, "mnist", (("linf", 0.2, 1000), ("l2", 0.8, 1000)))
    (tmp_path / "budget.json").write_text(json.dumps({"records": [{"net": "other", "norm": "l2"}]}))
    budget.run(tmp_path, ["net"], "here", tmp_path, 30)
    other, first, second = json.loads((tmp_path / "budget.json").read_text())["records"]
    assert first["hardware"] == "here" and first["attack_version"] == ATTACK_VERSION
    assert other["net"] == "other" and (first["norm"], second["norm"], first["n"]) == ("linf", "l2", 30)
    for one in (first, second):
        assert all(one[name]["seconds"] > 0 and len(one[name]["robust"]) == 2 for name in ("pgd", "rapid"))
        assert sum(one["rapid"]["robust"]) <= sum(one["pgd"]["robust"]) + 0.07
    assert "PGD and a small budget of rapid" in capsys.readouterr().out
