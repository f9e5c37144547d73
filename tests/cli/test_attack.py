"""`parapet attack` on weights, exported programs and a user's own code; what it says where the input is wrong."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from parapet.cli import main
from parapet.models import save

OWN = """
import torch
from torch import nn

MODEL = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def needs(width):
    return None

def probabilities():
    return nn.Sequential(make(), nn.Softmax(1))

def nothing():
    return 3

def fails():
    return weights

def pair():
    return lambda images: (images, images)

class Suspicious(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make()

    def forward(self, images):
        if (images * 16 - (images * 16).round()).abs().max() > 1e-3:
            raise ValueError("suspicious input")
        return self.net(images)

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits) -> Path:
    """A working directory with images.npz and own_nets.py, from which the command is called."""
    images, labels = digits.split("test", limit=40).all()
    np.savez(tmp_path / "images.npz", images=images.numpy(), labels=labels.numpy())
    (tmp_path / "torn.npz").write_bytes((tmp_path / "images.npz").read_bytes()[:2000])
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _attack(*arguments: str) -> int:
    return main(["attack", "--eps", "0.1", "--attacks", "fgsm,pgd_margin", *arguments])


def _record(folder: Path) -> dict:
    return json.loads((folder / "runs/attack/evaluation.json").read_text())


def test_weights_on_a_prepared_data_set(honest, digits_folder: Path, folder: Path, capsys) -> None:
    save(honest.network, folder / "net.safetensors")
    code = _attack("--model", "net.safetensors", "--data", str(digits_folder), "--images", "50", "--seed", "3",
                   "--save-images", "found.npz")
    told = capsys.readouterr().out
    record = _record(folder)
    assert code == 0 and record["evaluation"]["n"] == 50 and record["audit"] is None and record["seed"] == 3
    assert list(record["evaluation"]["attacks"]) == ["fgsm", "pgd_margin"]
    assert "pgd_margin" in told and f"robust accuracy {record['evaluation']['robust_accuracy']:.1%}" in told
    found = np.load("found.npz")
    assert (found["predictions"] == found["labels"]).mean() == record["evaluation"]["robust_accuracy"]
    assert np.abs(found["adversarial"] - found["images"]).max() <= 0.1 + 1e-6


@pytest.mark.parametrize(("batch", "dimension"), [
    (4, torch.export.Dim("batch")), (4, torch.export.Dim("batch", min=2, max=16)), (16, None)],
    ids=["any batch", "2 to 16", "exactly 16"])
def test_an_exported_program_gets_the_numbers_of_its_model(honest, folder: Path, batch: int, dimension) -> None:
    images = torch.rand(batch, 1, 8, 8)
    shapes = {"images": {0: dimension}} if dimension else None
    torch.export.save(torch.export.export(honest.network, (images,), dynamic_shapes=shapes), folder / "net.pt2")
    save(honest.network, folder / "net.safetensors")
    outcomes = []
    for name in ("net.pt2", "net.safetensors"):
        assert _attack("--model", name, "--trust", "--data", "images.npz", "--out", f"runs/{name}") == 0
        outcomes.append(json.loads((folder / "runs" / name / "evaluation.json").read_text())["evaluation"]["outcomes"])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["make", "MODEL"])
def test_a_users_own_code(folder: Path, name: str) -> None:
    assert _attack("--model", f"own_nets:{name}", "--data", "images.npz") == 0
    assert _record(folder)["evaluation"]["n"] == 40


def test_the_audit_and_transfer_are_asked_for(undefended, honest, folder: Path, capsys) -> None:
    save(honest.network, folder / "net.safetensors")
    save(undefended.network, folder / "plain.safetensors")
    code = main(["attack", "--eps", "25.5/255", "--attacks", "fgsm", "--model", "net.safetensors", "--data",
                 "images.npz", "--surrogate", "plain.safetensors", "--audit", "--audit-images", "30"])
    record = _record(folder)
    assert code == 0 and record["evaluation"]["threat"]["eps"] == pytest.approx(0.1)
    # One step is a weak suite: the audit beats it, and so all images are attacked again.
    assert list(record["evaluation"]["attacks"]) == ["fgsm", "transfer", "audit", "adaptive"]
    transfer = next(check for check in record["audit"]["checks"] if check["id"] == "transfer")
    assert transfer["numbers"]["surrogates"] == 1
    said = capsys.readouterr().out
    assert f"audit: {record['audit']['verdict']}" in said and record["audit"]["settled"]["sentence"][:40] in said


def test_a_part_of_a_file_that_is_sorted_by_class_tells_of_all_classes(
        digits, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    images, labels = digits.split("test").all()
    order = labels.argsort(stable=True)
    np.savez("sorted.npz", images=images[order].numpy(), labels=labels[order].numpy())
    # Right about the first five classes and about no other.
    table = {tuple(image.flatten().tolist()): int(label) for image, label in zip(images, labels)}

    class Known(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            named = [table.get(tuple(image.flatten().tolist()), 9) for image in batch]
            scores = nn.functional.one_hot(torch.tensor([name if name < 5 else 0 for name in named]), 10).float()
            return scores + 1e-3 * batch.flatten(1).sum(1, keepdim=True)
    module = types.ModuleType("halves_of")
    module.MODEL = Known()
    monkeypatch.setitem(sys.modules, "halves_of", module)
    assert main(["attack", "--eps", "0.001", "--attacks", "fgsm", "--model", "halves_of:MODEL", "--data", "sorted.npz",
                 "--images", "100", "--seed", "7", "--audit", "--audit-images", "40"]) == 0
    told, record = capsys.readouterr().out, _record(folder)
    assert record["images"] == {"count": 100, "available": len(labels), "seed": 7}
    assert abs(record["evaluation"]["clean_accuracy"] - float((labels < 5).float().mean())) <= 0.05
    assert (f"on 100 of {len(labels)} images, drawn with seed 7, stratified by label; audited on 40 of 100 images, "
            "drawn with seed 7, stratified by label.") in told.replace("\n", " ")
    rows = record["audit"]["rows"]
    assert len(rows) == len(set(rows)) == len(record["audit"]["survived"]) == 40 and max(rows) > 60
    clean = record["evaluation"]["outcomes"]["clean"]
    assert 15 <= sum(clean[row] == "1" for row in rows) <= 25


def test_a_second_call_goes_on_and_another_one_is_refused(honest, folder: Path, capsys) -> None:
    save(honest.network, folder / "net.safetensors")
    options = ["--model", "net.safetensors", "--data", "images.npz"]
    assert _attack(*options) == 0
    parts = {path: path.stat().st_mtime_ns for path in (folder / "runs/attack/state").glob("*/*.safetensors")}
    assert parts and _attack(*options) == 0
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    capsys.readouterr()
    assert main(["attack", "--eps", "0.2", "--attacks", "fgsm,pgd_margin", *options]) == 2
    told = capsys.readouterr().err
    assert "runs/attack/state holds the state of another evaluation: it differs in eps (0.1 there, 0.2 here)" in told


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--model", "net.pt2"], "net.pt2 does not exist"),
    (["--model", "images.npz"], "images.npz is of no known kind; give a weights file of Parapet"),
    (["--model", "net.pth"], "pickled weights can run any code: save the model with torch.export.save"),
    (["--model", "net.onnx"], "an ONNX graph has no gradients"),
    (["--model", "own_nets:missing"], "own_nets has no missing"),
    (["--model", "no_such_package:make"], "no_such_package cannot be imported"),
    (["--model", "own_nets:needs"], "cannot be called without arguments"),
    (["--model", "own_nets:fails"], "fails when it is (NameError: name 'weights' is not defined)"),
    (["--model", "own_nets:pair"], "the model returned tuple; it must return logits"),
    (["--model", "own_nets:wide"], "the model cannot be called on torch.float32 images of shape (40, 1, 8, 8)"),
    (["--model", "own_nets:make", "--data", "torn.npz"], "torn.npz cannot be read as .npz"),
    (["--model", "own_nets:make", "--attacks", ""], "--attacks is empty"),
    (["--model", "own_nets:make", "--also", ","], "--also is empty"),
    (["--model", "own_nets:make", "--also", "pgd"], "--also names pgd; allowed for linf: fgsm, pgd_ce"),
    (["--model", "own_nets:make", "--also", "fgsm"], "--also names fgsm, which the suite holds already; leave it out."),
    (["--model", "own_nets:make", "--eps", "1/"], "--eps is '1/'"),
    (["--model", "own_nets:make", "--seed", str(2**70)], "it must lie in 0 to 2**63 - 1"),
    (["--model", "own_nets:make", "--save-images", "nowhere/x.npz"], "nowhere is no folder that can be written to"),
    (["--model", "own_nets:nothing"], "returned int; it has to return a model"),
    (["--model", "own_nets:NUMBER"], "own_nets:NUMBER is int"),
    (["--model", "own_nets:probabilities"], "the model returns probabilities"),
    (["--model", "own_nets:make", "--data", "nowhere.npz"], "--data nowhere.npz does not exist"),
    (["--model", "own_nets:make", "--attacks", "fgsm,pdg"], "--attacks names pdg; allowed for linf: fgsm, pgd_ce"),
    (["--model", "own_nets:make", "--eps", "8"], "did you mean 8/255?"),
    (["--model", "own_nets:make", "--eps", "a lot"], "--eps is 'a lot'; it must be a number above 0, such as"),
    (["--model", "own_nets:make", "--images", "0"], "--images is 0; it must be at least 1."),
    (["--model", "own_nets:make", "--save-images", "x.png"], "x.png; it must be a file that ends in .npz."),
    (["--model", "own_nets:make", "--threads", "0"], "--threads is 0; it must be a whole number from 1 to 1,024."),
    (["--model", "own_nets:make", "--threads", "9" * 9], "--threads is 999999999; it must be a whole number from 1 to"),
    (["--model", "own_nets:make", "--threads", "9" * 9999], "...; it must be a whole number from 1 to 1,024."),
    (["--model", "own_nets:make", "--batch-size", "0"], "--batch-size is 0; it must be a whole number from 1 to"),
    (["--model", "own_nets:make", "--batch-size", "-1"], "--batch-size is -1; it must be a whole number from 1 to"),
    (["--model", "own_nets:make", "--batch-size", "1e3"], "--batch-size is '1e3'; it must be a whole number from 1 to"),
    (["--model", "own_nets:make", "--batch-size", "9" * 20], "it must be a whole number from 1 to 65,536."),
    (["--model", "own_nets:make", "--images", "9" * 20], "it must be a whole number from 1 to 1,000,000,000."),
    (["--model", "own_nets:make", "--audit", "--audit-images", "0"], "--audit-images is 0; it must be at least 1."),
    (["--model", "own_nets:make", "--seed", "-1"], "--seed is -1; it must lie in 0 to 2**63 - 1."),
    (["--model", "own_nets:make", "--eps", "1e-300"],
     "--eps is '1e-300', less than float32 pixels can tell apart; it must be at least 1e-06."),
    (["--model", "own_nets:make", "--eps", "nan"], "--eps is 'nan'; it must be a number above 0, such as"),
    (["--model", "own_nets:make", "--eps", "inf"], "--eps is 'inf'; it must be a number above 0, such as"),
    (["--model", "own_nets:make", "--eps", "-0.1"], "--eps is '-0.1'; it must be a number above 0, such as"),
    (["--model", "own_nets:make", "--eps", "1/" + "9" * 9999], "...; it must be a number above 0, such as"),
    (["--model", "own_nets:make", "--attacks", "x" * 9999], "...; allowed for linf: fgsm, pgd_ce"),
])
def test_wrong_input_is_one_sentence_and_exit_code_2(folder: Path, arguments: list[str], sentence: str, capsys) -> None:
    assert _attack("--data", "images.npz", *arguments) == 2
    told = capsys.readouterr().err
    assert sentence in told and len(told.strip().splitlines()) == 1 and len(told) < 1000


def test_a_model_that_refuses_what_an_attack_asks_is_one_sentence(folder: Path, capsys) -> None:
    assert _attack("--model", "own_nets:Suspicious", "--data", "images.npz", "--attacks", "pgd_ce") == 2
    assert ("own_nets:Suspicious raised ValueError (suspicious input) for images inside the ball; "
            "a model has to answer every image of its shape with pixels in [0, 1]") in capsys.readouterr().err
    assert not list(folder.glob("parapet-crash-*"))


def test_a_suite_that_is_not_there_is_refused(folder: Path, capsys) -> None:
    code = main(["attack", "--eps", "0.1", "--suite", "strong", "--model", "own_nets:make", "--data", "images.npz"])
    assert code == 2 and "allowed: search, full, standard, plus, rand, rapid." in capsys.readouterr().err


def test_a_program_is_not_read_without_trust(folder: Path, capsys) -> None:
    torch.export.save(torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (torch.rand(4, 1, 8, 8),)),
                      folder / "net.pt2")
    assert _attack("--model", "net.pt2", "--data", "images.npz") == 2
    assert "net.pt2 can run any code while it is read; say --trust" in capsys.readouterr().err
    (folder / "broken.pt2").write_bytes(b"no program")
    assert _attack("--model", "broken.pt2", "--trust", "--data", "images.npz") == 2
    assert "broken.pt2 cannot be read as a program of torch.export" in capsys.readouterr().err


def test_a_program_for_other_images_says_which(folder: Path, capsys) -> None:
    torch.export.save(torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
                                          (torch.rand(4, 1, 28, 28),)), folder / "net.pt2")
    assert _attack("--model", "net.pt2", "--trust", "--data", "images.npz") == 2
    assert "net.pt2 was exported for images of shape 1x28x28, and these have 1x8x8" in capsys.readouterr().err
