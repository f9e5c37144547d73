"""A candidate whose process dies inside its pod is a result, not a hole in the loop."""

import json
from pathlib import Path

import pytest
from kfp.dsl import Artifact, Dataset, Metrics, Model

import components
from parapet.config import Params
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.search.feasibility import record_of
from parapet.steps import supervised
from parapet.store import results
from parapet.store.records import Proposal
from tests.components.component_sections import sections

PROPOSAL = {"id": "0123456789ab", "training_key": "t", "evaluation_key": "e", "genome": Genome().to_dict(), "seed": 1,
            "generation": 0, "fingerprint": "f", "parent": None, "repeat": 0, "look": 1, "final": False,
            "fidelity": {"rung": 0, "full": True, "epochs": 1, "data_share": 1.0, "crafting": "own"}}


@pytest.fixture
def child(monkeypatch):
    """Names what the children do instead of their step's work."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return lambda name: monkeypatch.setattr(supervised, "_WORK", f"crashing:{name}")


def test_every_step_of_a_candidate_that_is_killed_leaves_an_infeasible_result(tmp_path, child):
    child("die")
    data, trained, attacks, graph = (str(tmp_path / name) for name in ("data", "trained", "attacks", "graph"))
    settings = {"search": {"attempts": 2}}
    components.training.python_func(**sections("training", **settings), locks="", workspace="",
                                    proposal=json.dumps(PROPOSAL),
                                    dataset=Dataset(uri=data), candidate=Model(uri=trained))
    metrics = Metrics(uri=str(tmp_path / "metrics"))
    components.attack_evaluation.python_func(**sections("attack_evaluation", **settings), locks="",
                                             dataset=Dataset(uri=data), candidate=Model(uri=trained),
                                             attacks=Artifact(uri=attacks), metrics=metrics)
    components.export.python_func(**sections("export", **settings), locks="", dataset=Dataset(uri=data),
                                  candidate=Model(uri=trained), attacks=Artifact(uri=attacks), graph=Model(uri=graph))
    parts = [read_json(Path(trained) / results.TRAINING), read_json(Path(attacks) / results.ATTACK_EVALUATION),
             read_json(Path(graph) / results.EXPORT)]
    for step, part in zip(("training", "attack_evaluation", "export"), parts):
        assert part["status"] == "infeasible"
        assert part["reason"] == (
            f"{step} of candidate 0123456789ab died by SIGKILL (the kernel does so where memory runs out), in 2 "
            "attempts, the last with the machine to itself; it said nothing on its standard error")
        assert part["lost"] == "out of memory"
    assert read_json(Path(metrics.path)) == {}
    record = record_of(Proposal.from_json(PROPOSAL), parts, Params())
    assert (record.status, record.reason) == ("infeasible", parts[0]["reason"])


def test_an_error_that_concerns_every_candidate_is_not_the_candidates_fault(tmp_path, child):
    child("refuse")
    with pytest.raises(InputError, match="the data set is gone"):
        supervised.training(Params(device="cpu"), PROPOSAL, tmp_path / "data", tmp_path / "trained")
    assert not (tmp_path / "trained" / results.TRAINING).exists()
