"""`parapet archive` on real journals: what it prints, what it answers to wrong input, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parapet.cli import main
from parapet.data import digits
from parapet.disk import sealed
from parapet.disk.files import write_json
from parapet.genome import Genome
from parapet.store import archive
from tests.search.archive_records import failed_line as failed
from tests.search.archive_records import line as record

NETS = {name: Genome(width=width, depth=1) for name, width in
        {"small": 4, "middle": 8, "near": 12, "large": 16, "broken": 20}.items()}
CHEAP = record(0.80, 0.40, 100_000, genome=NETS["middle"], rung=0, training_seconds=0.5, latency_ms=None)
RECORDS = {
    "cheap": CHEAP,
    "small": record(0.85, 0.30, 20_000, genome=NETS["small"], training_seconds=1.0),
    "middle": record(0.90, 0.50, 100_000, genome=NETS["middle"], generation=1, training_seconds=3.0,
                     parent={"training_key": CHEAP["training_key"], "kind": "promoted", "epochs": 2}),
    "near": record(0.905, 0.51, 1_300_000, genome=NETS["near"], generation=1),
    "large": record(0.95, 0.70, 3_300_000, genome=NETS["large"], generation=2, training_seconds=9.0,
                    parent={"training_key": "f" * 64, "kind": "inherited", "epochs": 0}),
    "broken": failed("out of memory\nin epoch [1]", genome=NETS["broken"], generation=2),
    "twice": record(0.90, 0.50, 100_000, genome=NETS["middle"], repeat=1),
    "worse": record(0.90, 0.30, 4_000_000, genome=NETS["large"], generation=3, status="infeasible", violation=0.125,
                    reason="the audit failed."),
}
ID = {name: entry["id"] for name, entry in RECORDS.items()}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a finished search; the candidate "middle" was looked at twice."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "artifacts/search/archive.jsonl"
    archive.append(path, RECORDS.values())
    archive.append(path, [{**RECORDS["middle"], "looks": 2, "validation": record(0.89, 0.49, n=2000)["validation"]}])
    return path


def _run(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main(["archive", *arguments]) == 0
    return capsys.readouterr().out


def _refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main(["archive", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err.removeprefix("parapet: ").rstrip("\n")


def _listed(capsys: pytest.CaptureFixture, *arguments: str) -> list[str]:
    ids = {identifier: name for name, identifier in ID.items()}
    return [ids[line.split()[0]] for line in _run(capsys, "list", *arguments).splitlines() if line.split()[0] in ids]


def test_a_line_for_each_candidate_with_its_last_look(journal: Path, capsys) -> None:
    lines = _run(capsys, "list").splitlines()
    assert lines[0].split("  ")[0] == "id" and "95 % interval" in lines[0] and lines[0].endswith("what it is")
    assert [line.split()[0] for line in lines[1:-1]] == list(ID.values())
    middle = " ".join(next(line for line in lines if line.startswith(ID["middle"])).split())
    assert middle == (f"{ID['middle']} full 12 1 feasible 89.0 % 49.0 % 46.8–51.2 % 100 k 0.1 3.0 "
                      "plain 8x1 relu, trades beta 4")
    assert " ".join(lines[6].split()) == f"{ID['broken']} full 12 2 infeasible plain 20x1 relu, trades beta 4"
    assert lines[-1] == "8 of 8, 8 candidates in artifacts/search/archive.jsonl"


@pytest.mark.parametrize(("arguments", "names"), [
    (["--rung", "0"], ["cheap"]),
    (["--feasible"], ["cheap", "small", "middle", "near", "large", "twice"]),
    (["--front"], ["small", "near"]),
    (["--front", "--rung", "0"], ["cheap"]),
    (["--front", "--sort", "robust", "--limit", "2"], ["near", "small"]),
    (["--sort", "clean", "--limit", "1"], ["large"]),
    (["--sort", "flops", "--rung", "2"], ["small", "middle", "twice", "near", "large", "worse", "broken"]),
    (["--sort", "seconds", "--limit", "2"], ["cheap", "small"]),
    (["--archive", "artifacts/search/archive.jsonl", "--rung", "0"], ["cheap"]),
])
def test_what_is_listed_and_in_which_order(journal: Path, capsys, arguments: list[str], names: list[str]) -> None:
    assert _listed(capsys, *arguments) == names


def test_the_front_is_that_of_the_search_s_own_objectives(journal: Path, capsys) -> None:
    assert "the front is over clean accuracy, robust accuracy and FLOPs" in _run(capsys, "list", "--front")
    write_json(journal.parent / "search.json", {"objectives": ["clean_error", "robust_error", "latency_ms"]})
    told = _run(capsys, "list", "--front")
    assert "1 of 1 on the front" in told and told.endswith("clean accuracy, robust accuracy and latency\n")


def test_lists_and_records_as_json(journal: Path, capsys) -> None:
    assert json.loads(_run(capsys, "list", "--rung", "0", "--json")) == [CHEAP]
    assert json.loads(_run(capsys, "show", ID["large"], "--json")) == RECORDS["large"]


def test_the_archive_may_be_named_before_the_action(journal: Path, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    assert "8 of 8" in _run(capsys, "--archive", str(journal), "list")


def test_an_empty_archive_has_an_empty_list(tmp_path: Path, capsys) -> None:
    path = tmp_path / "archive.jsonl"
    path.touch()
    assert "0 of 0 on the front, 0 candidates in" in _run(capsys, "list", "--front", "--archive", str(path))
    assert "it holds none at all." in _refused(capsys, "show", "a", "--archive", str(path))


def test_everything_about_a_candidate(journal: Path, capsys) -> None:
    told = _run(capsys, "show", ID["middle"][:6].upper())
    lines = [" ".join(line.split()) for line in told.splitlines()]
    for line in (f"candidate {ID['middle']}", "what it is plain 8x1 relu, trades beta 4", "status feasible",
                 "fidelity rung 2 (full): 12 epochs on 100.0 % of the images, the genome's own attack",
                 f"trained from the checkpoint of {ID['cheap']}", "evaluations 2", "width 8",
                 "seed 1234567890123456789",
                 "robust 49.0 % (95 % interval 46.8–51.2 %, n = 2,000)",
                 "each attack alone fgsm 59.0 %, pgd_ce 52.0 %, pgd_margin 49.0 %",
                 "audit warn; steps: more steps break another 0.4 % of the images",
                 "cost 100,000 FLOPs an image, 10,000 parameters",
                 f"training key {RECORDS['middle']['training_key']}"):
        assert line in lines
    relatives = lines[lines.index("relatives") + 2:]
    assert [line.split(ID[name])[0].strip() for line, name in zip(relatives, ("cheap", "twice"), strict=True)] == [
        "parent", "same genome"]


def test_children_unknown_parents_and_reasons(journal: Path, capsys) -> None:
    cheap = _run(capsys, "show", ID["cheap"])
    assert f"child, promoted  {ID['middle']}" in cheap and "trained from         scratch" in cheap
    assert "latency " not in cheap
    assert "weights of ffffffffffff, which is not in this archive" in _run(capsys, "show", ID["large"])
    broken = _run(capsys, "show", ID["broken"])
    assert "reason               out of memory in epoch [1].\n" in broken and "no relatives: no other" in broken
    assert "violation            0.125 away from feasible" in _run(capsys, "show", ID["worse"])


def test_candidates_side_by_side(journal: Path, capsys) -> None:
    told = _run(capsys, "compare", *(ID[name] for name in ("middle", "near", "large", "broken", "worse")))
    lines = told.splitlines()
    assert lines[0].split() == [ID[name] for name in ("middle", "near", "large", "broken", "worse")]
    assert next(line for line in lines if line.startswith("width")).split() == ["width", "8", "12", "16", "20", "16"]
    assert not any(line.startswith("depth") for line in lines)
    sentences = lines[-8:]
    assert sentences == [
        f"{ID['broken']} is infeasible and was never measured: out of memory in epoch [1].",
        f"{ID['worse']} is infeasible: the audit failed.",
        f"{ID['middle']} and {ID['near']} are ties: their 95 % intervals of clean and of robust accuracy overlap; "
        f"{ID['middle']} is better in FLOPs (100 k against 1.3 M).",
        f"{ID['middle']} is better in FLOPs (100 k against 3.3 M), {ID['large']} is better in clean accuracy (95.0 % "
        "against 89.0 %) and robust accuracy (70.0 % against 49.0 %).",
        f"{ID['middle']} is better in robust accuracy (49.0 % against 30.0 %) and FLOPs (100 k against 4 M), "
        f"{ID['worse']} is better in clean accuracy (90.0 % against 89.0 %, inside the noise).",
        f"{ID['near']} is better in FLOPs (1.3 M against 3.3 M), {ID['large']} is better in clean accuracy (95.0 % "
        "against 90.5 %) and robust accuracy (70.0 % against 51.0 %).",
        f"{ID['near']} dominates {ID['worse']}: better in clean accuracy (90.5 % against 90.0 %, inside the noise), "
        "robust accuracy (51.0 % against 30.0 %) and FLOPs (1.3 M against 4 M).",
        f"{ID['large']} dominates {ID['worse']}: better in clean accuracy (95.0 % against 90.0 %), robust accuracy "
        "(70.0 % against 30.0 %) and FLOPs (3.3 M against 4 M).",
    ]


def test_equal_genomes_and_different_fidelities_are_said(journal: Path, capsys) -> None:
    told = _run(capsys, "compare", ID["cheap"], ID["twice"])
    assert "The genomes are equal.\n" in told
    assert told.endswith("But their fidelities differ (0 and full): with the same training the result may be "
                         "another.\n")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["show", "zz"], "no candidate in artifacts/search/archive.jsonl has an id that begins with 'zz'; near ones are "),
    (["show", ""], "'' is the beginning of several ids in artifacts/search/archive.jsonl: "),
    (["show", ""], " and 3 more; give more digits."),
    (["compare", ID["cheap"], ID["cheap"][:5]],
     f"{ID['cheap']}, {ID['cheap'][:5]} is one candidate; give the ids of at least two."),
    (["list", "--rung", "7"], "--rung is 7; artifacts/search/archive.jsonl holds candidates of the rungs 0, 2."),
    (["list", "--limit", "0"], "--limit is 0; it must be at least 1."),
    (["list", "--archive", "artifacts"],
     "artifacts is not a file; give the archive.jsonl of a search with --archive FILE, or run `parapet search` first."),
    (["verify", "--archive", "none"], "none is not a file"),
])
def test_what_cannot_be_meant_is_one_sentence(journal: Path, capsys, arguments: list[str], sentence: str) -> None:
    assert sentence in _refused(capsys, *arguments)


def test_an_almost_right_id_names_the_right_one(journal: Path, capsys) -> None:
    wrong = "0" if ID["near"][3] != "0" else "1"
    sentence = _refused(capsys, "show", ID["near"][:3] + wrong + ID["near"][4:])
    assert f"near ones are {ID['near']}" in sentence


def test_a_candidate_is_found_by_its_training_key_too(journal: Path, capsys) -> None:
    assert f"candidate {ID['near']}\n" in _run(capsys, "show", RECORDS["near"]["training_key"][:32])


def test_an_archive_in_order_is_counted(journal: Path, capsys) -> None:
    folder = Path(".parapet/candidates") / CHEAP["training_key"][:32]
    folder.mkdir(parents=True)
    sealed.write(folder / "training.json", {"key": CHEAP["training_key"], "digests": {}})
    with journal.open("ab") as stream:
        stream.write(b'{"after":"')
    told = _run(capsys, "verify")
    assert ("artifacts/search/archive.jsonl: the checksum and place of 9 lines; schema, id and genome of each; in "
            ".parapet 1 training.json and 0 model.safetensors of 8 candidates.\n") in told
    assert "note: 10 bytes of a torn last line" in told and told.endswith("all in order.\n")
    sealed.write(folder / "training.json", {"key": "other", "digests": {}})
    assert main(["archive", "verify", "--cache", "elsewhere"]) == 0
    assert main(["archive", "verify"]) == 1
    assert capsys.readouterr().out.endswith("is of another training, other\n1 problem.\n")


def test_lines_that_are_missing_are_noticed_by_what_lies_beside_the_archive(journal: Path, capsys) -> None:
    write_json(journal.parent / "search.json", {"evaluated": 8, "objectives": ["clean_error", "robust_error", "flops"]})
    assert _run(capsys, "verify").endswith("all in order.\n")
    write_json(journal.parent / "state.json", {"lines": 11})
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:7]))
    assert main(["archive", "verify"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "artifacts/search/state.json says that there were 11 lines, and 7 are left",
        "artifacts/search/search.json says that there were 8 candidates, and 7 are left", "2 problems."]


def test_every_problem_is_a_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "archive.jsonl"
    odd: dict[str, Any] = {**record(flops=5), "id": "0123456789ab"}
    archive.append(path, [CHEAP, odd, CHEAP])
    assert main(["archive", "verify", "--archive", str(path), "--cache", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"line 2 (0123456789ab): the id is not the beginning of the training key {odd['training_key'][:12]}...",
        f"line 3 ({CHEAP['id']}): line 1 has the same id and as many looks (1)", "2 problems."]


@pytest.mark.parametrize("action", [["list"], ["show", "a"], ["compare", "a", "b"], ["verify"]])
def test_a_damaged_archive_is_told_and_left_alone(journal: Path, capsys, action: list[str]) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], *lines[2:]])
    journal.write_bytes(damaged)
    assert _refused(capsys, *action) == (
        "artifacts/search/archive.jsonl is damaged in line 2: it does not follow on the line before it, so lines were "
        "taken out, put in or moved; restore the file, or move it away to start a new archive.")
    assert journal.read_bytes() == damaged


def test_a_reader_that_leaves_is_no_error(journal: Path) -> None:
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {sys.executable} -m parapet.cli archive list | true"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_narrow_terminal_cuts_no_id(journal: Path) -> None:
    main_end, other_end = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "parapet.cli", "archive", "list"], stdout=other_end, stderr=other_end,
                          env={**os.environ, "COLUMNS": "60", "TERM": "xterm"}) as process:
        os.close(other_end)
        shown = b""
        try:
            while chunk := os.read(main_end, 4096):
                shown += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(main_end)
    assert process.returncode == 0 and "…" not in shown.decode() and "\x1b[" in shown.decode()
    assert all(identifier in shown.decode() for identifier in ID.values())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_another_encoding_shows_what_it_can(journal: Path, encoding: str) -> None:
    done = subprocess.run([sys.executable, "-m", "parapet.cli", "archive", "list"], capture_output=True, check=False,
                          env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(identifier.encode() in done.stdout for identifier in ID.values())


def test_the_data_set_of_a_front_may_lie_elsewhere_and_has_to_be_its_own(finished: Path, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch,
                                                                         capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "artifacts")
    assert _run(capsys, "verify").endswith("all in order.\n")
    shutil.move("artifacts/dataset", "data_prep")
    assert main(["archive", "verify"]) == 1
    assert ("artifacts/dataset holds no prepared data set (artifacts/dataset/dataset.json is missing); run `parapet "
            "data_prep --out artifacts/dataset`, or give its folder with --dataset.\n1 problem.") in (
        capsys.readouterr().out)
    assert _run(capsys, "verify", "--dataset", "data_prep").endswith("all in order.\n")
    digits.export(Path("data/digits"))
    Path("params.yaml").write_text(json.dumps({"seed": 1}))
    assert main(["data_prep", "--out", "other"]) == 0
    capsys.readouterr()
    assert main(["archive", "verify", "--dataset", "other"]) == 1
    *_, first, second, count = capsys.readouterr().out.splitlines()
    assert first.startswith("other holds other data (fingerprint ") and "than this search began with (" in first
    assert second.startswith("artifacts/front.json was made from other data (fingerprint ")
    assert " than other holds (" in second
    assert count == "2 problems."
    Path("artifacts/front.json").unlink()
    for name in ("metrics.json", "onnx"):
        shutil.move(f"artifacts/{name}", f"{name}.aside")
    assert main(["archive", "verify", "--dataset", "other"]) == 1
    assert "other holds other data (fingerprint " in capsys.readouterr().out


@pytest.mark.parametrize(("given", "sentence"), [
    (["--dataset", "nowhere"], "--dataset nowhere is not a prepared data set: dataset.json is missing; give the"),
    (["--dataset", "x\ny"], "--dataset 'x\\ny' is not a prepared data set"),
    (["--archive", "elsewhere/archive.jsonl", "--dataset", "prepared"],
     "--dataset needs an archive in the folder of a search, and elsewhere is not one; leave it out, or give"),
])
def test_a_data_set_that_cannot_be_looked_at_is_wrong_input(journal: Path, capsys: pytest.CaptureFixture,
                                                            given: list[str], sentence: str) -> None:
    for name in ("elsewhere", "prepared"):
        Path(name).mkdir()
    shutil.copy(journal, "elsewhere/archive.jsonl")
    Path("prepared/dataset.json").write_text("{}")
    assert main(["archive", "verify", *given]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("given", [["archive", "--archive", ""], ["run", "--out", ""], ["promote", "--cache", ""]])
def test_an_empty_path_is_wrong_input(given: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert f"argument {given[1]}: it is empty; give a path, or . for the working directory" in capsys.readouterr().err
