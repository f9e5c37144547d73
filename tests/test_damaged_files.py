"""Every file of the artifacts, damaged in every way, before every verb that reads it.

What follows is what follows without the damage, or one sentence with exit 1 or 2: never a traceback, and never another
front.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parapet.cli import main
from parapet.disk import sealed
from parapet.disk.files import read_json
from tests.damage import KINDS, damaged, files, forge, of_another_run
from tests.finished_search import SETTINGS, members

SAMPLE = 24
# Quick ones, in this process. The others start workers, render the page or attack.
READERS = {
    "select": ["select", "--json", "knee"],
    "list": ["archive", "list", "--front", "--json", "--archive", "artifacts/search/archive.jsonl"],
    "front": ["front", "--out", "artifacts"],
}
SLOW = {
    "report": ["report", "--out", "artifacts", "--cache", "artifacts/.parapet"],
    "full_evaluation": ["full_evaluation", "--dataset", "artifacts/dataset", "--search", "artifacts/search", "--out",
                        "artifacts/evaluation", "--cache", "artifacts/.parapet"],
    # A bar that nobody clears: the registry stays as it is, and the reasons are the numbers.
    "promote": ["promote", "--select", "knee", "--out", "artifacts"],
    "verify": ["archive", "verify", "--archive", "artifacts/search/archive.jsonl"],
}
LINES = ("archive.jsonl", "front_ids.json", "undefended.json", "search.json", "digests.json")


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with params.yaml, data and artifacts of a finished search."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(finished, folder / "artifacts", ignore=shutil.ignore_patterns("report", "plots"))
    (folder / "params.yaml").write_text(json.dumps({
        **SETTINGS, "tracking": {"enabled": False}, "promotion": {"minimum_robust_accuracy": 1.0, "audit_images": 0}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        yield folder


def _run(capsys: pytest.CaptureFixture, line: list[str]) -> tuple[int, str, str]:
    code = main(line if line[0] == "archive" else [*line, "--params", "params.yaml"])
    told = capsys.readouterr()
    return code, told.out, told.err


def _outcome(verb: str, told: str) -> Any:
    """What must not become another one: what a verb printed, or the numbers in the file that it wrote."""
    if verb == "front":
        return read_json(Path("artifacts/front.json"))
    if verb == "full_evaluation":
        return {path.name: read_json(path)["evaluation"]["outcomes"]
                for path in sorted(Path("artifacts/evaluation").glob("*.json")) if path.name != sealed.DIGESTS}
    if verb == "report":
        return [Path("artifacts/report/pareto/front.csv").read_text(), Path("artifacts/report/index.html").read_text()]
    return told


@pytest.fixture(scope="module")
def undisturbed(here: Path) -> dict[str, tuple[int, Any]]:
    """Exit code and outcome of each verb, filled when it is first asked for."""
    return {}


def _check(verb: str, line: list[str], path: Path, kind: str, place: Path, known: dict[str, tuple[int, Any]],
           capsys: pytest.CaptureFixture) -> None:
    if verb not in known:
        code, told, wrong = _run(capsys, line)
        assert code == {"promote": 3}.get(verb, 0), told + wrong
        known[verb] = code, _outcome(verb, wrong if verb == "promote" else told)
    before = path.read_bytes()
    other = of_another_run(path, place) if kind == "replaced" else None
    if kind == "replaced" and other is None:
        return
    with damaged(path, kind, other):
        same = path.exists() and (path.read_bytes() == before or (path.suffix == ".json" and _equal(path, before)))
        code, told, wrong = _run(capsys, line)
        where = f"{verb} after {path} was {kind}: {code}\n{told[-2000:]}{wrong}"
        assert "Traceback" not in told + wrong, where
        if code == known[verb][0] and verb == "verify":
            assert same or path.parts[-2] in ("report", "plots"), where
        elif code == known[verb][0]:
            assert _outcome(verb, wrong if verb == "promote" else told) == known[verb][1], where
        else:
            assert code in (1, 2), where
            if verb != "verify" or code == 2:
                said = [row for row in wrong.splitlines() if row.strip()]
                assert len(said) == 1 and said[0].startswith("parapet: ") and said[0].endswith("."), where


def _equal(path: Path, before: bytes) -> bool:
    try:
        return json.loads(path.read_bytes()) == json.loads(before)
    except ValueError:
        return False


def _tree(folder: Path) -> list[Path]:
    kept = [path for path in files(folder / "artifacts") if path.parts[0] not in (".parapet", "report", "plots")]
    assert {path.name for path in kept} >= {*LINES, "front.json", "metrics.json", "dataset.json", "training.json",
                                            "model.safetensors", "model.onnx", "export.json"}
    return [Path("artifacts") / path for path in kept]


def test_a_sample(here: Path, undisturbed: dict[str, tuple[int, Any]], tmp_path: Path,
                  capsys: pytest.CaptureFixture) -> None:
    chance = random.Random(5)
    tree = _tree(here)
    important = [path for path in tree if path.name in (*LINES, "front.json")]
    chosen = [(path, "replaced") for path in important]
    chosen += [(chance.choice(tree), chance.choice(list(KINDS))) for _ in range(SAMPLE)]
    for path, kind in chosen:
        for verb, line in READERS.items():
            _check(verb, line, path, kind, tmp_path, undisturbed, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*READERS, "verify"])
@pytest.mark.parametrize("kind", [*KINDS, "replaced"])
def test_every_file_before_the_verbs_that_start_nothing(here: Path, undisturbed: dict[str, tuple[int, Any]], verb: str,
                                                        kind: str, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    for path in _tree(here):
        _check(verb, (READERS | SLOW)[verb], path, kind, tmp_path, undisturbed, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["report", "full_evaluation", "promote"])
@pytest.mark.parametrize("part", range(4))
def test_every_file_before_the_verbs_that_work(here: Path, undisturbed: dict[str, tuple[int, Any]], verb: str,
                                               part: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each file in two ways that are drawn for it, in four parts."""
    for path in _tree(here)[part::4]:
        for kind in random.Random(f"{verb} {path.name}").sample([*KINDS, "replaced"], 2):
            _check(verb, SLOW[verb], path, kind, tmp_path, undisturbed, capsys)


def test_an_evaluation_that_was_edited_makes_no_champion(here: Path, capsys: pytest.CaptureFixture) -> None:
    """Robust accuracy 0.97 in it made a model with 6.1 % champion, and `archive verify` said "all in order"."""
    small, _ = members(Path("artifacts"))
    path = Path("artifacts") / small["evaluation"]
    content = path.read_text()
    number = json.dumps(small["test"]["robust_accuracy"])
    assert f'"robust_accuracy": {number}' in content
    try:
        path.write_text(content.replace(f'"robust_accuracy": {number}', '"robust_accuracy": 0.97'))
        code, _, wrong = _run(capsys, ["promote", "--candidate", small["id"], "--out", "artifacts"])
        assert code == 2 and wrong == (f"parapet: {path} is damaged (its checksum does not fit); run `parapet "
                                       "full_evaluation` again, which takes what is done from its cache.\n")
        code, _, wrong = _run(capsys, READERS["front"])
        assert code == 2 and f"{path} is damaged, or not the file that belongs here" in wrong
        code, told, _ = _run(capsys, SLOW["verify"])
        assert code == 1 and f"{path} is damaged (its checksum does not fit)" in told

        # With a checksum and digests that fit, the outcome of each image still tells.
        path.write_text(content)
        forge(path, lambda result: result["evaluation"].update(robust_accuracy=0.97))
        code, told, _ = _run(capsys, SLOW["verify"])
        right = small["test"]["robust_accuracy"]
        assert code == 1 and f"{path}: robust accuracy is 0.9700, and the outcomes give {right:.4f}" in told
        code, _, wrong = _run(capsys, ["promote", "--candidate", small["id"], "--out", "artifacts"])
        assert code == 2 and wrong == (f"parapet: {path} is not the evaluation that artifacts/front.json was made "
                                       "from; run `parapet front` again.\n")
    finally:
        path.write_text(content)
        forge(path, lambda result: None)
    code, told, _ = _run(capsys, SLOW["verify"])
    assert code == 0 and told.endswith("all in order.\n"), told


def test_front_json_that_was_edited_is_refused(here: Path, capsys: pytest.CaptureFixture) -> None:
    path = Path("artifacts/front.json")
    content = path.read_text()
    front = read_json(path)
    front["candidates"][0]["test"]["robust_accuracy"] = 0.97
    try:
        path.write_text(json.dumps(front, indent=1))
        for line in (READERS["select"], SLOW["report"], SLOW["promote"]):
            code, _, wrong = _run(capsys, line)
            assert code == 2 and wrong == ("parapet: artifacts/front.json is damaged (its checksum does not fit); run "
                                           "`parapet front` again.\n")
        sealed.write(path, front)
        code, told, _ = _run(capsys, SLOW["verify"])
        name = front["candidates"][0]["id"]
        assert code == 1 and (f"artifacts/front.json differs from the evaluation and the record of {name} in: "
                              "test") in told
    finally:
        path.write_text(content)


def test_the_verb_that_a_sentence_names_makes_the_file_again(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "artifacts/front.json").write_text("")
    assert _run(capsys, READERS["select"])[2].endswith("is damaged (it is empty); run `parapet front` again.\n")
    assert _run(capsys, READERS["front"])[0] == 0 and _run(capsys, READERS["select"])[0] == 0
