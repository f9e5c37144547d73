"""A made-up search for the tracking tests, and the check that MLflow has all of it exactly once."""

import uuid
from pathlib import Path

from parapet.tracking import Outbox
from parapet.tracking.connection import connect

GENOME = {"backbone": "plain", "width": 8, "depth": 1, "activation": "relu", "denoiser": "none",
          "denoiser_stage": 1, "input_filter": "none", "loss": "trades", "clean_share": 0.0, "trades_beta": 4.0,
          "eps_ratio": 1.0, "steps": 3, "learning_rate": 0.2, "weight_decay": 0.0005}
TAGS = {"data_fingerprint": "f" * 64, "git_revision": "0123abc"}
EPOCHS = 4


def name_of(index: int) -> str:
    return f"{index:012x}"


def record(index: int, **changes) -> dict:
    """A line of the archive."""
    return {"schema_version": 1, "id": name_of(index), "training_key": f"t{index}", "evaluation_key": f"e{index}",
            "genome": GENOME, "generation": index // 4, "seed": 100 + index,
            "fidelity": {"epochs": EPOCHS, "data_share": 0.5}, "status": "feasible", "reason": None,
            "validation": {"n": 100, "clean_accuracy": 0.9, "clean_interval": [0.82, 0.95], "robust_accuracy": 0.5,
                           "robust_interval": [0.4, 0.6],
                           "attacks": {"pgd": {"alone": 0.5 + index / 1000, "left": None},
                                       "square": {"alone": None, "left": 0.7}}},
            "audit": {"verdict": "warn", "reasons": ["few images", "weak attack"]}, "flops": 123456, "params": 789,
            "training_seconds": 3.5, "training_flops": 10**12,
            "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "batch": 1, "threads": 1, "machine": "a cpu"},
            **changes}


def curves(index: int) -> list[dict]:
    """Epochs; the last loss is not a number."""
    return [{"epoch": epoch, "time": 1_700_000_000.0 + 100 * index + epoch, "clean_accuracy": epoch / 10,
             "loss": float("nan") if epoch == EPOCHS else 1 / epoch} for epoch in range(1, EPOCHS + 1)]


class Story:
    """A made-up search in an outbox, and the check that MLflow has all of it once."""

    def __init__(self, folder: Path, candidates: int = 3) -> None:
        self.id = f"s{uuid.uuid4().hex[:12]}"
        self.experiment = f"experiment-{self.id}"
        self.folder, self.candidates = folder, candidates
        self.artifact_root = folder / "artifacts"
        self.outbox = Outbox(folder / "outbox")
        self.weights = folder / "model.safetensors"
        self.weights.write_bytes(b"weights")

    def tell(self) -> None:
        """Tell everything, as a search does when it begins or resumes."""
        self.begin()
        for index in range(self.candidates):
            self.candidate(index)
        self.outbox.front(self.id, [name_of(0)])
        self.outbox.finish(self.id, {"hypervolume": 0.25}, {},
                           [{"generation": number, "hypervolume": number / 8} for number in range(3)])

    def begin(self, **changes) -> None:
        dataset = {"name": "digits", "digest": "f" * 64, "source": "data", "images": 1797} | changes
        self.outbox.search(self.id, "a search", {"seed": 1, "search": {"population": 4, "objectives": ["a", "b"]}},
                           TAGS, dataset)

    def candidate(self, index: int, **changes) -> None:
        self.outbox.candidate(self.id, record(index, **changes), curves(index), {"weights": self.weights}, TAGS)

    def children(self, uri: str) -> dict[str, list]:
        """Every run of every candidate, by its id."""
        found: dict[str, list] = {}
        for run in self.runs(uri):
            if "candidate" in run.data.tags:
                found.setdefault(run.data.tags["candidate"], []).append(run)
        return found

    def parents(self, uri: str) -> list:
        return [run for run in self.runs(uri) if "candidate" not in run.data.tags]

    def runs(self, uri: str) -> list:
        client = connect(uri)
        experiment = client.get_experiment_by_name(self.experiment)
        return list(client.search_runs([experiment.experiment_id], max_results=500)) if experiment else []

    def check(self, uri: str) -> None:
        """Everything that `tell` told is there, and nothing is there twice."""
        client = connect(uri)
        parent, = self.parents(uri)
        assert (parent.info.run_name, parent.info.status) == ("a search", "FINISHED")
        assert parent.data.tags["parapet.search"] == self.id
        assert points(client, parent, "generation.hypervolume") == [(0, 0.0), (1, 0.125), (2, 0.25)]
        assert points(client, parent, "hypervolume") == [(0, 0.25)]
        assert len(parent.inputs.dataset_inputs) == 1
        children = self.children(uri)
        assert sorted(children) == [name_of(index) for index in range(self.candidates)]
        for index in range(self.candidates):
            run, = children[name_of(index)]
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert run.info.status == "FINISHED"
            assert run.data.tags["on_front"] == ("true" if index == 0 else "false")
            assert points(client, run, "validation.pgd.alone") == [(0, 0.5 + index / 1000)]
            assert points(client, run, "epoch.clean_accuracy") == [(e, e / 10) for e in range(1, EPOCHS + 1)]
            assert [step for step, _ in points(client, run, "epoch.loss")] == list(range(1, EPOCHS + 1))
            assert [file.path for file in client.list_artifacts(run.info.run_id, "weights")] \
                == ["weights/model.safetensors"]


def points(client, run, name: str) -> list[tuple[int, float]]:
    """(step, value) of every point of a metric, in order of steps."""
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))
