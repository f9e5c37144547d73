"""params.yaml: defaults, strictness, and the sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parapet.config import Params, SearchConfig, ThreatModel, load, parse, subset, to_dict
from parapet.errors import InputError


def _load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load(path)


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, "") == Params()


def test_the_repository_s_own_params_are_valid() -> None:
    assert load(Path(__file__).parent.parent / "params.yaml").data.name == "digits"


def test_a_fraction_is_a_number(tmp_path: Path) -> None:
    assert _load(tmp_path, "threat: {eps: 8/255}").threat.eps == pytest.approx(8 / 255, abs=1e-12)


def test_auto_and_null_mean_none(tmp_path: Path) -> None:
    assert _load(tmp_path, "search: {workers: auto}").search.workers is None
    assert _load(tmp_path, "search: {workers: null}").search.workers is None


def test_whole_floats_are_integers_as_they_come_back_from_kubeflow() -> None:
    assert parse(SearchConfig, {"population": 12.0}).population == 12


def test_params_survive_json() -> None:
    params = parse(Params, {"search": {"space": {"width": [4, 8]}}, "threat": {"eps": 0.1}})
    assert parse(Params, json.loads(json.dumps(to_dict(params)))) == params


def test_subset_keeps_only_the_named_sections() -> None:
    assert set(subset(Params(), ("seed", "threat"))) == {"seed", "threat"}


@pytest.mark.parametrize(("text", "sentence"), [
    ("serach: {}", "serach is not a known key; did you mean search?"),
    ("search: {populatoin: 4}", "search.populatoin is not a known key; did you mean search.population?"),
    ("search: {population: 1}", "search.population is 1; allowed is from 2 to 1000."),
    ("search: {population: many}", "search.population is 'many', and it must be a whole number."),
    ("search: {population: 2.5}", "search.population is 2.5, and it must be a whole number."),
    ("search: {population: .inf}", "search.population is inf, and it must be a whole number."),
    ("search: {population: true}", "search.population is True, and it must be a whole number."),
    ("threat: {eps: 8}", "threat.eps is 8, but pixels lie in [0, 1], so eps must lie in (0, 1] for linf; "
                         "did you mean 8/255 (0.0314)?"),
    ("threat: {eps: 0}", "threat.eps is 0, and a radius must be above 0"),
    ("threat: {norm: l1}", "threat.norm is 'l1'. Allowed: linf, l2."),
    ("data: {name: minst}", "data.name is 'minst'; did you mean mnist? Allowed: digits, mnist,"),
    ("data: mnist", "data is 'mnist', and it must be a mapping of keys to values."),
    ("- 1", "the top level is [1], and it must be a mapping of keys to values."),
    ("search: {objectives: [flops]}", "it must name clean_error, robust_error and at least one cost"),
    ("search: {reference: [1, 1]}", "search.reference has 2 numbers; it needs three"),
    ("search: {ideal: [2, 0, 3]}", "must be below search.reference"),
    ("seed: 1" + "0" * 400, "cannot be read as plain YAML: at line 1, column 7: a number has 401 characters, and at "
                            "most 100 are read; correct"),
    ("seed: 1\ndata: {name: mnist}\nseed: 2", "params.yaml cannot be read as plain YAML: at line 3, column 1: the key "
                                              "seed is given twice in one mapping; correct it there."),
    ("search: {space: {eps_ratio: [1, .nan]}}", "search.space.eps_ratio lists nan, and a choice is a text "
                                                 "or a number."),
    ("search: {space: {width: [[4]]}}", "search.space.width lists [4], and a choice is a text or a number."),
    ("search: {space: {width: 4}}", "search.space is {'width': 4}, and it must map names to lists of choices."),
    ("device: " + "x" * 5000, "a text has 5,000 characters, and at most 4,096 are read; correct it there."),
    ("device: [" + "x, " * 5000 + "]", "device is [" + "'x', " * 15 + "'..., and it must be text."),
    ("x" * 500 + ": 1", f"params.yaml: '{'x' * 76}... is not a known key. The keys of the top level are: seed, d"),
    ("attack_evaluation: {batch_size: 1000000000000}", "batch_size is 1000000000000; allowed is from 1 to 65536."),
    ("training: {eps_ramp: 1.0000001}", "training.eps_ramp is 1.0000001; allowed is from 0 to 1."),
    ("attack_evaluation: {pgd_steps: 12}", "attack_evaluation.pgd_steps is 12, and suite is rapid, which does not use "
     "it; write suite: pgd, or leave pgd_steps out."),
    ("attack_evaluation: {suite: pgd, rapid_queries: 0}", "attack_evaluation.rapid_queries is 0, and suite is pgd, "
     "which does not use it; write suite: rapid, or leave rapid_queries out."),
    ("promotion: {lock_seconds: 1e308}", "lock_seconds is 1e+308, and it must be a number below 1e+300."),
    ("threat: {eps: 1e-300}", "threat.eps is 1e-300, less than float32 pixels can tell apart; it must be at least"),
    ("seed: 1180591620717411303424", "seed is 1180591620717411303424; allowed is from 0 to 2147483647."),
    ("seed: {a: 1", "params.yaml cannot be read as plain YAML: at line 1, column"),
])
def test_each_mistake_has_its_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        _load(tmp_path, text)
    assert sentence in str(caught.value)
    assert str(tmp_path / "params.yaml") in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give a parameter file with --params FILE"):
        load(tmp_path / "none.yaml")


def test_an_l2_radius_beyond_the_pixel_cube_is_refused() -> None:
    with pytest.raises(InputError, match="no two images of 1x8x8 pixels are further apart than 8 in l2"):
        ThreatModel(norm="l2", eps=9).check_image(1, 8, 8)


def test_a_key_is_read_by_its_former_name_and_the_new_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="parapet"):
        assert parse(Params, {"search": {"looks": 3}}) == parse(Params, {"search": {"evaluations": 3}})
    assert caplog.messages == ["search.looks is now called search.evaluations; the old name is still read"]
    with pytest.raises(InputError, match=r"^search\.looks is the former name of search\.evaluations, and both are "
                                         r"given; leave search\.looks out\.$"):
        parse(Params, {"search": {"looks": 3, "evaluations": 3}})
