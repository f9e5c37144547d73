"""The audit's benchmark measures what it tells: real maskers and nets, records that are kept, verdicts as defined."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit import data, depths, report
from benchmarks.audit.__main__ import QUICK, parser, run
from parapet.errors import InputError
from tests.attacks.maskers import MASKERS


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nets")


def _options(nets: Path, out: Path, *given: str) -> Namespace:
    return parser().parse_args([*given, "--nets", str(nets), "--json", str(out / "audit.json")])


@pytest.mark.slow
def test_the_quick_part_is_measured_and_kept(nets: Path, tmp_path: Path) -> None:
    options = _options(nets, tmp_path, "--quick", "--images", "60")
    records = {record["name"]: record for record in run(options)}
    assert set(records) == set(QUICK)
    for name in QUICK[:3]:
        assert records[name]["clean"] > 0.85 and records[name]["truth"] < 0.1
        assert records[name]["verdict"] == "fail" and not report.escapes(records[name])
    for name in QUICK[3:]:
        assert records[name]["verdict"] != "fail" and report.near(records[name])
    assert records["pgd_silu_02"]["truth"] > 0.4 and records["undefended_02"]["truth"] < 0.1
    # The second run finds all of it.
    assert {record["name"]: record for record in run(options)} == records
    assert {one["name"]: one for one in json.loads((tmp_path / "audit.json").read_text())["records"]} == records


def test_what_the_suite_refuses_is_told_with_its_sentence(nets: Path, tmp_path: Path) -> None:
    records = run(_options(nets, tmp_path, "--only", "probabilities,batch_dependent,one_class", "--images", "30"))
    assert [record["verdict"] for record in records] == ["refused"] * 3
    assert all(record["shown"] is None and not report.escapes(record) and not report.near(record)
               for record in records)
    for record, said in zip(records, ("returns probabilities", "depends on its batch", "has 1 class")):
        assert said in record["said"]


def test_published_data_that_are_not_there_are_left_out_with_a_sentence(nets: Path, tmp_path: Path, capsys,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    assert run(_options(nets, tmp_path, "--only", "cifar10_pgd")) == []
    said = " ".join(capsys.readouterr().out.split())
    assert "cifar10_pgd is left out: PARAPET_DATA is not set; it must name a folder with cifar10" in said


def test_an_unknown_name_is_an_error_that_names_those_that_there_are(nets: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--only names nobody; allowed: gradient_killed, "):
        run(_options(nets, tmp_path, "--only", "nobody"))


@pytest.mark.parametrize("name", data.MADE)
def test_data_that_are_made_have_every_class_in_every_split(name: str, nets: Path) -> None:
    prepared = data.prepared(name, nets)
    classes = {"two classes": 2, "hundred classes": 100}.get(name, 10)
    for split in ("train", "validation", "test"):
        assert len(prepared.split(split).all()[1].unique()) == len(prepared.classes) == classes
    assert prepared.split("test").image_shape == {"hundred classes": (1, 8, 16), "coloured digits": (3, 8, 8)}.get(
        name, (1, 8, 8))


def _record(**given: Any) -> dict[str, Any]:
    return {"name": "one", "kind": "memory", "norm": "linf", "eps": 0.2, "clean": 0.9, "truth": 0.1, "suite_alone": 0.5,
            "shown": 0.5, "verdict": "pass", "failed": [], "warned": [], "said": "", "seconds": 1.0, **given}


@pytest.mark.parametrize(("given", "escapes", "near"), [
    ({}, True, False), ({"verdict": "warn"}, True, False), ({"verdict": "fail"}, False, False),
    ({"shown": 0.2}, False, False), ({"shown": 0.21}, True, False), ({"shown": 0.15}, False, True),
    ({"shown": 0.0}, False, True), ({"verdict": "refused", "shown": None, "suite_alone": None}, False, False),
])
def test_who_escapes_and_whose_number_is_near(given: dict[str, Any], escapes: bool, near: bool) -> None:
    assert (report.escapes(_record(**given)), report.near(_record(**given))) == (escapes, near)


def test_the_summary_counts_escapes_and_honest_nets_that_fail() -> None:
    records = [_record(), _record(name="two", verdict="fail", failed=["copy"]), _record(name="three", shown=0.15),
               _record(name="four", kind="honest", truth=0.5, verdict="fail", failed=["order"])]
    said = " ".join(report.summary(records))
    assert "1 of 3 maskers escape by more than 10 points (to reach: 0): one." in said
    assert "1 of the 3 maskers with a number are shown within 5 points" in said
    assert "1 of 1 honest nets fail (to reach: 0): four; 0 are warned of; 0 are shown more than 10" in said
    assert said.endswith("points too high, 1 within 5 points.")
    drawn = report.table(records, "title")
    assert [str(cell) for cell in drawn.columns[8].cells] == ["[bold red]ESCAPES[/]", "fail", "pass", "fail"]


def test_the_quick_part_holds_three_maskers_and_two_honest_nets() -> None:
    assert sum(name in MASKERS for name in QUICK) == 3 and len(QUICK) == 5


def test_depths_are_judged_by_ratios_of_pairs() -> None:
    """The machine was three times slower in the second round: every ratio is the same in both."""
    before = {"candidate": [1.0, 3.0], "audit": [4.0, 12.0], "front": [10.0, 30.0]}
    now = {"candidate": [1.1, 3.3], "audit": [4.0, 12.0], "front": [11.5, 34.5], "deep": [11.0, 33.0]}
    drawn = depths.table({"net": (before, now), "other": ({}, {**now, "deep": [13.0, 39.0]})}, 100)
    columns = [[str(cell) for cell in column.cells] for column in drawn.columns]
    assert columns[1] == ["candidate", "front", "deep audit", "deep audit"]
    assert columns[4][:2] == ["1.10", "1.15"] and columns[5][2:] == ["2.75", "3.25"]
    assert columns[6] == ["met", "at most 1.1", "met", "at most 3"]


@pytest.mark.slow
def test_this_code_beside_itself_takes_as_long(nets: Path, capsys) -> None:
    options = Namespace(before=Path(__file__).parents[2], images=20, rounds=1, nets=nets)
    depths.run(options)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("robust", "undefended", "candidate", "front", "deep audit"))


def test_depths_say_what_rounds_and_images_there_may_be(nets: Path) -> None:
    for rounds, count in ((0, 20), (1, 0), (1, 100_000)):
        with pytest.raises(InputError, match="there must be at least one round, and 1 to 359 images"):
            depths.run(Namespace(before=None, images=count, rounds=rounds, nets=nets))


def test_a_checkout_that_is_none_is_named(nets: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} could not be measured: "):
        depths.measure(tmp_path, nets / "robust.safetensors", nets, 10)
