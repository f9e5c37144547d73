"""The components that are cheap, through their Python functions; the others run in tests/pipelines."""

import importlib
import json
from pathlib import Path

import pytest
from kfp.dsl import Artifact, Dataset

import components
from parapet.errors import InputError
from parapet.files import read_json
from parapet.steps import candidates as candidates_step
from parapet.steps import results
from parapet.tracking.connection import connect
from tests.components.component_sections import sections

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    prepared = Dataset(uri=str(tmp_path_factory.mktemp("prepared") / "dataset"))
    components.data_prep.python_func(**sections("data_prep"), data_root=str(DATA), dataset=prepared)
    return prepared


def ask(dataset, archive: Path, generations: int = 2, **more) -> list[dict]:
    """The proposals that the component candidates returns."""
    texts = components.candidates.python_func(**sections("candidates"), ask=more.pop("ask", True), dataset=dataset,
                                              generations=generations, archive=Artifact(uri=str(archive)), **more)
    return [json.loads(text) for text in texts]


@pytest.mark.parametrize("name", components.__all__)
def test_a_component_takes_at_least_the_sections_that_its_step_reads(name):
    component, step = getattr(components, name), importlib.import_module(f"parapet.steps.{name}")
    assert component.component_spec.name == name.replace("_", "-")
    assert set(step.SECTIONS) <= set(component.component_spec.inputs)


def test_data_prep_leaves_a_data_set_and_says_what_it_is(dataset):
    assert dataset.metadata["train_images"] == 40
    assert read_json(Path(dataset.path) / "dataset.json")["fingerprint"] == dataset.metadata["fingerprint"]


def test_data_prep_takes_the_first_folder_that_holds_the_data_set(tmp_path, dataset):
    again = Dataset(uri=str(tmp_path / "dataset"))
    components.data_prep.python_func(**sections("data_prep"), data_root=f"{tmp_path / 'nothing'}:{DATA}", dataset=again)
    assert again.metadata == dataset.metadata


def test_candidates_proposes_a_generation_and_the_undefended_network(tmp_path, dataset):
    proposals = ask(dataset, tmp_path / "archive")
    assert [proposal.get("undefended", False) for proposal in proposals] == [True, False, False, False]
    assert all(isinstance(proposal["genome"]["width"], int) for proposal in proposals)
    assert read_json(tmp_path / "archive" / candidates_step.PROPOSALS) == proposals


def test_candidates_is_told_the_results_in_any_order_and_asks_for_the_next_generation(tmp_path, dataset):
    proposals = ask(dataset, tmp_path / "first")
    told = told_results(proposals, tmp_path)
    previous = Artifact(uri=str(tmp_path / "first"))
    following = [ask(dataset, tmp_path / name, previous=previous, **results)
                 for name, results in (("a", told), ("b", {key: value[::-1] for key, value in told.items()}))]
    assert following[0] == following[1]
    assert {proposal["generation"] for proposal in following[0]} == {1}
    assert not {proposal["id"] for proposal in following[0]} & {proposal["id"] for proposal in proposals}
    assert ask(dataset, tmp_path / "end", previous=previous, ask=False, **told) == []
    assert len(read_json(tmp_path / "end" / candidates_step.FRONT_IDS)["ids"]) >= 1


def test_each_turn_tracks_the_candidates_that_have_no_run_yet(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = ask(dataset, tmp_path / "first")  # MLflow is not there yet
    told = told_results(first, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    second = ask(dataset, tmp_path / "second", previous=Artifact(uri=str(tmp_path / "first")), **told)
    told = told_results(second, tmp_path)
    assert ask(dataset, tmp_path / "end", previous=Artifact(uri=str(tmp_path / "second")), ask=False, **told) == []
    client = connect(uri)
    runs = client.search_runs([client.get_experiment_by_name("parapet").experiment_id])
    children = {run.data.tags["candidate"]: run for run in runs if "candidate" in run.data.tags}
    assert len(runs) == 1 + len(children)
    assert set(children) == {proposal["id"] for proposal in first + second}
    assert sum(run.data.tags["undefended"] == "true" for run in children.values()) == 1
    on_front = {name for name, run in children.items() if run.data.tags["on_front"] == "true"}
    assert on_front == set(read_json(tmp_path / "end" / candidates_step.FRONT_IDS)["ids"])
    assert children[first[1]["id"]].data.metrics["validation.robust_accuracy"] > 0


def test_candidates_refuses_another_number_of_generations_than_the_pipeline_has(tmp_path, dataset):
    with pytest.raises(InputError, match=r"search\.generations is 2, .* compiled for 5; compile it again"):
        ask(dataset, tmp_path / "archive", generations=5)


def told_results(proposals: list[dict], folder: Path) -> dict[str, list[Artifact]]:
    """What training, attack_evaluation and export would leave of `proposals`: better where wider."""
    told: dict[str, list[Artifact]] = {"trained": [], "attacked": [], "exported": []}
    for proposal in proposals:
        common = {"candidate": proposal["id"], "key": "k"}
        width = proposal["genome"]["width"]
        parts = {
            "trained": (results.TRAINING, {"flops": 1000 * width, "params": width, "training_seconds": 1.0,
                                           "training_flops": 1}),
            "attacked": (results.ATTACK_EVALUATION, {
                "evaluation": {"n": 10, "clean_accuracy": width / 20, "clean_interval": [0.0, 1.0],
                               "robust_accuracy": width / 40, "robust_interval": [0.0, 1.0], "attacks": {}},
                "audit": {"verdict": "pass", "checks": []}}),
            "exported": (results.EXPORT, {"latency_ms": {"p50": 1.0}})}
        for name, (file, values) in parts.items():
            place = folder / name / proposal["id"]
            results.write(place / file, **common, **values)
            told[name].append(Artifact(uri=str(place)))
    return told
