"""The verbs that are harmed: from which stage of the project, and where what they make is looked for."""

from __future__ import annotations

from dataclasses import dataclass

_WEIGHTS = "artifacts/search/candidates/BETTER/model.safetensors"


@dataclass(frozen=True)
class Verb:
    """`words` after `parapet`; BETTER and WORSE stand for candidates.

    It begins in a `stage` of the project. With `said` what it prints is its result; `writes` says whether it has to
    write anything; `children` whether it has worker processes; `registry` whether it needs MLflow.
    """

    name: str
    words: tuple[str, ...]
    stage: str
    said: bool = False
    writes: bool = True
    children: bool = False
    registry: bool = False


VERBS = {verb.name: verb for verb in (
    Verb("check", ("check",), "bare", said=True),
    Verb("data fetch", ("data", "fetch", "digits"), "empty"),
    Verb("data_prep", ("data_prep",), "bare"),
    Verb("search", ("search",), "prepared", children=True),
    Verb("search, tracked", ("search", "--params", "tracked.yaml"), "prepared", children=True, registry=True),
    Verb("full_evaluation", ("full_evaluation",), "searched", children=True),
    # With everything in the cache: what is there is read, and believed only where it holds.
    Verb("search, again", ("search",), "reported", children=True),
    Verb("full_evaluation, again", ("full_evaluation",), "reported", children=True),
    Verb("front", ("front",), "evaluated"),
    Verb("report", ("report",), "assembled"),
    Verb("report, tracked", ("report", "--params", "tracked.yaml"), "assembled", registry=True),
    Verb("run", ("run", "--out", "artifacts", "--cache", ".parapet"), "bare", children=True),
    Verb("select", ("select", "knee"), "assembled", said=True, writes=False),
    Verb("promote", ("promote", "--candidate", "WORSE"), "reported", registry=True),
    Verb("promote, second", ("promote", "--candidate", "BETTER"), "promoted", registry=True),
    Verb("promote --to", ("promote", "--to", "parapet-prod"), "twice", registry=True),
    Verb("rollback", ("rollback",), "twice", registry=True),
    Verb("sync", ("sync", "--params", "tracked.yaml"), "waiting", registry=True),
    Verb("train", ("train", "--recipe", "digits", "--data", "artifacts/dataset", "--out", "runs/digits", "--threads",
                   "1", "--set", "training.epochs=2", "--set", "genome.width=4", "--set", "genome.steps=1"),
         "prepared"),
    Verb("attack", ("attack", "--model", _WEIGHTS, "--data", "artifacts/dataset", "--eps", "0.2", "--attacks",
                    "fgsm,pgd_margin,square", "--images", "60", "--batch-size", "20", "--out", "runs/attack"),
         "searched"),
    Verb("archive verify", ("archive", "verify"), "searched", said=True, writes=False),
    Verb("archive list", ("archive", "list"), "searched", said=True, writes=False),
    Verb("archive show", ("archive", "show", "BETTER"), "searched", said=True, writes=False),
    Verb("archive compare", ("archive", "compare", "BETTER", "WORSE"), "searched", said=True, writes=False),
    Verb("pipelines compile", ("pipelines", "compile", "--out", "build/pipeline.yaml"), "bare"),
)}
# Those that need neither a finished search nor MLflow.
LIGHT = ("check", "data fetch", "data_prep", "train")
