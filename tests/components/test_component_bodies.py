"""The components that are cheap, through their Python functions; the others run in tests/pipelines."""

import importlib
import json
from pathlib import Path

import pytest
from kfp.dsl import Artifact, Dataset, Markdown, Metrics, PipelineTaskFinalStatus

import components
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.steps import candidates as candidates_step
from parapet.steps import outcome
from parapet.store import archive, results
from parapet.tracking.connection import connect
from tests.components.component_sections import sections

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    prepared = Dataset(uri=str(tmp_path_factory.mktemp("prepared") / "dataset"))
    components.data_prep.python_func(**sections("data_prep"), data_root=str(DATA), dataset=prepared)
    return prepared


def ask(dataset, out: Path, generations: int = 2, **more) -> list[dict]:
    """The proposals that the component candidates returns."""
    texts = components.candidates.python_func(**sections("candidates"), ask=more.pop("ask", True), dataset=dataset,
                                              batch=0, generations=generations, archive=Artifact(uri=str(out)), **more)
    return [json.loads(text) for text in texts]


# measure and search stand for steps that a worker and the local search are.
@pytest.mark.parametrize("name", [name for name in components.__all__ if name not in ("measure", "search")])
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


TINY = {"device": "cpu", "search": {"population": 2, "generations": 2, "space": {
    "backbone": ["plain"], "width": [4, 8], "depth": [1], "activation": ["relu"], "denoiser": ["none"], "steps": [1]}},
    "training": {"epochs": 1, "batch_size": 20, "validation_images": 20, "validation_steps": 1},
    "attack_evaluation": {"images": 20, "rapid_steps": 2, "rapid_queries": 5, "audit_images": 10},
    "export": {"latency_warmup": 1, "latency_runs": 10, "latency_seconds": 0.0}}


def test_a_batch_leaves_what_three_tasks_a_candidate_would(tmp_path, dataset):
    asked = sections("candidates", **TINY)
    texts = components.candidates.python_func(**asked, ask=True, dataset=dataset, generations=2, batch=2,
                                              archive=Artifact(uri=str(tmp_path / "first")))
    assert [len(json.loads(text)) for text in texts] == [2, 1]  # two, and the undefended network
    batches = []
    for place, text in enumerate(texts):
        batches.append(Artifact(uri=str(tmp_path / f"batch-{place}")))
        components.measure.python_func(**sections("measure", **TINY), workspace=str(tmp_path / "shared"),
                                       proposals=text, dataset=dataset, measured=batches[-1])
        assert batches[-1].metadata["infeasible"] == []
        for proposal in json.loads(text):
            found = {path.name for path in (Path(batches[-1].path) / proposal["id"]).iterdir()}
            assert {results.TRAINING, results.WEIGHTS, results.ATTACK_EVALUATION, results.EXPORT,
                    results.ONNX} <= found
    following = components.candidates.python_func(
        **asked, ask=False, dataset=dataset, generations=2, batch=2, archive=Artifact(uri=str(tmp_path / "end")),
        previous=Artifact(uri=str(tmp_path / "first")), measured=batches)
    assert following == []
    records = archive.read(tmp_path / "end" / candidates_step.ARCHIVE)
    assert len(records) == 2 and all(record["validation"] for record in records)
    # From the shared folder nothing is trained again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").rglob(results.WEIGHTS)}
    again = Artifact(uri=str(tmp_path / "again"))
    components.measure.python_func(**sections("measure", **TINY), workspace=str(tmp_path / "shared"),
                                   proposals=texts[0], dataset=dataset, measured=again)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").rglob(results.WEIGHTS)}


def test_a_search_goes_on_from_the_archive_of_the_task_before_on_another_machine(tmp_path, dataset):
    def search(name: str, until: int, end: bool, previous: str | None = None) -> Path:
        out = Artifact(uri=str(tmp_path / name))
        components.search.python_func(
            **sections("search", **TINY), workspace="", until=until, end=end, dataset=dataset, archive=out,
            metrics=Metrics(uri=str(tmp_path / f"{name}.json")),
            previous=Artifact(uri=str(tmp_path / previous)) if previous else None)
        return tmp_path / name

    whole = search("whole", 2, True)
    first = search("first", 1, False)
    assert not (first / candidates_step.FRONT_IDS).exists()
    second = search("second", 2, True, "first")
    assert read_json(second / candidates_step.FRONT_IDS) == read_json(whole / candidates_step.FRONT_IDS)
    ids = [[(record["id"], record["validation"]) for record in archive.read(folder / candidates_step.ARCHIVE)]
           for folder in (whole, second)]
    assert ids[0] == ids[1] and len(ids[0]) == 4
    assert read_json(tmp_path / "second.json")["evaluated"] == 4
    with pytest.raises(InputError, match="cannot be gone on from: it has no folder cache"):
        (tmp_path / "empty").mkdir()
        search("third", 2, True, "empty")


def test_an_unrolled_search_goes_on_from_an_earlier_run(tmp_path, dataset):
    proposals = ask(dataset, tmp_path / "first")
    ask(dataset, tmp_path / "end", previous=Artifact(uri=str(tmp_path / "first")), ask=False,
        **told_results(proposals, tmp_path))
    following = ask(dataset, tmp_path / "later", previous=Artifact(uri=str(tmp_path / "end")))
    assert {proposal["generation"] for proposal in following} == {1}
    assert not {proposal["id"] for proposal in following} & {proposal["id"] for proposal in proposals}


def test_the_outcome_is_told_with_what_the_run_came_to(tmp_path):
    front = {"front_size": 3, "evaluated": 8, "best_robust_accuracy": 0.5, "undefended_robust_accuracy": 0.0,
             "hypervolume": 0.25}

    def told(**status) -> str:
        text = Markdown(uri=str(tmp_path / "told.md"))
        components.outcome.python_func(workspace=str(tmp_path), told=text, status=PipelineTaskFinalStatus(
            pipeline_job_resource_name="run", pipeline_task_name="exit-handler-1", **status))
        return Path(text.path).read_text()

    assert told(state="FAILED", error_code=1, error_message="Task training\nfailed") == (
        "# Failed\n\nexit-handler-1: Task training failed\n\nThere is no front: the run ended before it was "
        "assembled.\n")
    outcome.note_front(tmp_path, front)
    outcome.note_promotion(tmp_path, "Refused: the audit failed.")
    assert told(state="SUCCEEDED", error_code=None, error_message=None) == (
        "# Done\n\n3 of 8 candidates are on the front; the most robust keeps 50.0% on test, a network trained without "
        "attacks 0.0%; hypervolume 0.2500.\n\nRefused: the audit failed.\n")


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
