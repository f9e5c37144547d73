"""The gate's own attack: the rapid suite on the exported graph, on the recorded images, with another seed, and the deep
audit of that graph on some of them.

It checks whether the recorded outcome of each image still holds; the lower of the two accuracies is kept.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parapet.config import Params, parse, to_dict
from parapet.disk.files import digest, file_digest
from parapet.errors import InputError, PromotionRefused, WorkError
from parapet.processes.pool import Task
from parapet.promotion.comparison import Paired, marks, work
from parapet.report import wording
from parapet.store import results
from parapet.store.consistency import problems
from parapet.versions import ATTACK_VERSION, EXPORT_VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from parapet.data.dataset import Dataset
    from parapet.deployment.shipped_graph import ShippedGraph

# The name of the attack in a record, beside those of the suite.
NAME = "rapid_on_graph"
SUITE = "rapid"
# The share of all images that the graph may get wrong though the network got them right (as deployment/parity.py).
_CLEAN_DIFFERENCE = 0.001
# The share of all images that may be ties when clean. A correct graph has hardly any; a graph whose logits all lie
# within the tolerance of parity does not distinguish classes.
_TIES = 0.02
# The share of all images that this attack may break beyond a correct record: after short budgets the rapid suite and
# the deep audit broke up to 1.7 % more on the 13 members of the default run. Nothing is gained by exploiting this
# margin, because the lower number is kept.
_LEFT = 0.02
# The share of the time that the suite takes if an audit follows.
_SUITE_SHARE = 0.2
_ATTACK = "parapet.promotion.reattack:attack"


@dataclass(frozen=True)
class Reattacked:
    """An `evaluation` (evaluation/<id>.json) and the results of the gate's attack.

    `robust`: of all images, how many are robust in the record only, how many under this attack only, and the p-value
    under the hypothesis that this attack breaks no more than 2 % of all images beyond the record. `recorded`,
    `attacked` and `kept`: robust accuracy (share of 1) in the record, under this attack, and under both. `wrong`:
    images that are right in the record and that the graph gets wrong without any attack, without `ties`. `parity`: how
    the graph differs from the network whose gradients were used; None where it does not. `audit`: the verdict of the
    deep audit, and the advice of each check that failed, by its name; None where no audit was configured. The
    `evaluation` has this attack as its last one, the lower numbers, and `gate`: `summary`.
    """

    evaluation: dict[str, Any]
    seed: int
    occasion: str
    robust: Paired
    recorded: float
    attacked: float
    kept: float
    wrong: int
    ties: int
    parity: str | None
    audit: dict[str, Any] | None

    @classmethod
    def of(cls, evaluation: dict[str, Any], found: dict[str, Any]) -> Reattacked:
        """From an evaluation and the result of `attack`. Raises PromotionRefused if they are not of the same images."""
        from parapet.intervals import sign_test, wilson  # they import torch

        record = evaluation["evaluation"]
        if record["n"] != found["evaluation"]["n"]:
            raise PromotionRefused(f"nothing is promoted, because the evaluation of {evaluation['id']} is of "
                                   f"{record['n']:,} test images, and {found['evaluation']['n']:,} were to be attacked "
                                   "(full_evaluation.images); run `parapet full_evaluation` again.")
        stated, fresh = marks(record["outcomes"]), marks(found["evaluation"]["outcomes"])
        tied = np.array([mark == "1" for mark in found["ties"]])
        both, n = stated["robust"] & fresh["robust"], record["n"]
        share, bounds = float(both.mean()), list(wilson(int(both.sum()), n))
        suite = found["evaluation"]["attacks"][SUITE]  # the passes of the audit are not counted
        spent = {**{name: suite[name] for name in ("attacked", "gradient_evaluations", "queries")},
                 "seconds": found["evaluation"]["seconds"]}
        lowered = {**record, "robust_accuracy": share, "robust_interval": bounds,
                   "attacks": {**record["attacks"], NAME: {"alone": None, "left": share, "interval": bounds, **spent,
                                                           "median_distance": None}},
                   "outcomes": {**record["outcomes"], NAME: "".join(map(str, both.astype(int)))},
                   "seconds": record["seconds"] + found["evaluation"]["seconds"]}
        counted = Paired.of(stated["robust"], fresh["robust"])
        robust = replace(counted, p=sign_test(max(0, counted.only_champion - _allowed(n)), counted.only_challenger))
        audited = found["audit"] and found["audit"]["verdict"]
        told = {"seed": found["seed"], "occasion": found["occasion"], "recorded": float(stated["robust"].mean()),
                "attacked": float(fresh["robust"].mean()), "kept": share}
        return cls({**evaluation, "evaluation": lowered, "gate": {
            **told, "n": n, "p": robust.p, "audit": audited}}, robust=robust,
                   wrong=int((stated["clean"] & ~fresh["clean"] & ~tied).sum()), ties=int(tied.sum()),
                   parity=found["parity"], audit=found["audit"], **told)

    def refusals(self, significance: float) -> Iterator[str]:
        """A sentence for each recorded number that the graph does not reach."""
        pairs = self.robust
        if self.parity is not None:
            yield f"the ONNX graph does not do what the network of these weights does ({self.parity})"
        if self.ties > _TIES * pairs.n:
            yield (f"of {pairs.n:,} test images the graph's two highest logits lie within export.tolerance of each "
                   f"other on {self.ties:,} (allowed: {_TIES:.0%}), so that nothing is known of their labels")
        if self.wrong > _CLEAN_DIFFERENCE * pairs.n:
            yield (f"the recorded clean accuracy is not reached: of {pairs.n:,} test images the graph gets "
                   f"{self.wrong:,} wrong that are right in the record, ties left out (allowed: "
                   f"{_CLEAN_DIFFERENCE:.1%})")
        if pairs.p < significance:
            yield (f"the recorded robust accuracy {self.recorded:.3f} is not reached: of {pairs.n:,} test images "
                   f"{round(self.recorded * pairs.n):,} are robust in the record, {pairs.only_champion:,} of which the "
                   f"rapid attack on the graph or its audit breaks (seed {self.seed}), while it does not break "
                   f"{pairs.only_challenger:,} that are broken in the record ({_allowed(pairs.n):,} are "
                   f"allowed; one-sided exact sign test without them, p = {pairs.p:.2g}, below "
                   f"promotion.significance {significance:g})")

        for name, advice in (self.audit or {"failed": {}})["failed"].items():
            yield f"the deep audit of the graph failed ({name}: {advice})"

    def tags(self) -> dict[str, str]:
        """Tags for the version in the registry."""
        return {"gate.attack": f"{SUITE} on the graph", "gate.attack_seed": str(self.seed),
                "gate.attack_occasion": self.occasion or "none", "gate.robust_recorded": str(self.recorded),
                "gate.robust_attacked": str(self.attacked), "gate.robust_kept": str(self.kept),
                "gate.audit": self.audit["verdict"] if self.audit else "none"}

    def summary(self) -> dict[str, Any]:
        """{seed, occasion, recorded, attacked, kept, n, p, audit}."""
        return dict(self.evaluation["gate"])


def reattack(params: Params, evaluation: dict[str, Any], folder: Path, graph: Path, dataset: Path, cache: Path,
             devices: Sequence[str], *, occasion: str = "",
             tell: Callable[[str], None] = lambda text: None) -> Reattacked:
    """Attack `graph`, the exported ONNX file, on the images of `evaluation`, and compare.

    The gradients are those of the network in `folder` (model.safetensors, training.json). The seed follows from
    `params.seed`, both files and `occasion`: another `occasion` gives another attack. The result of an earlier attack
    for the same occasion is taken from `cache`, unless it is damaged, which is reported to `tell`. Raises WorkError
    where the attack fails.
    """
    trained = results.trained(folder, registered=True)
    files = {"weights": file_digest(folder / results.WEIGHTS), "onnx": file_digest(graph)}
    key = _key(params, trained["fingerprint"], files, occasion)
    path = cache / "gate" / key[:32] / f"{trained['id']}.json"
    if results.done(path, key, tell) is None:
        task = Task(trained["id"], _ATTACK, {
            "params": to_dict(params), "candidate": str(folder), "graph": str(graph), "dataset": str(dataset),
            "occasion": occasion, "out": str(path.parent)},
            step="promotion", about=f"candidate {trained['id']}", candidate=trained["id"])
        try:
            work([task], params, devices)
        except InputError as error:
            raise PromotionRefused(f"nothing is promoted, because the graph of candidate {trained['id']} cannot be "
                                   f"attacked: {error}") from error
    if (found := results.done(path, key)) is None:
        raise WorkError(f"{path} was damaged, or the files of candidate {trained['id']} were changed, while it was "
                        "attacked; promote again.")
    if odd := list(problems(found["evaluation"])):
        raise PromotionRefused(f"nothing is promoted, because {path} contradicts itself: {'; '.join(odd)}; remove it, "
                               "and promote again, which attacks again.")
    return Reattacked.of(evaluation, found)


def in_words(summary: dict[str, Any]) -> str:
    """A `Reattacked.summary` as a sentence."""
    return wording.reattacked(summary)


def attack(*, params: dict[str, Any], candidate: str, graph: str, dataset: str, occasion: str, out: str, device: str,
           progress: results.Report = results.ignore) -> dict[str, Any]:
    """The part of `reattack` that runs in a worker process; writes `out`/<id>.json and returns {id}.

    An attack that was killed is resumed. If two run at once, the second one uses the result of the first one.
    """
    from parapet.data.dataset import Dataset  # here and below: the parent process imports this module without torch

    settings, folder = parse(Params, params), Path(candidate)
    trained = results.trained(folder, registered=True)
    data = Dataset.open(Path(dataset))
    results.check_data(data.fingerprint, trained["fingerprint"], Path(dataset))
    files = {"weights": file_digest(folder / results.WEIGHTS), "onnx": file_digest(Path(graph))}
    key, seed = _key(settings, data.fingerprint, files, occasion), _seed(settings, files, occasion)
    path, state = Path(out) / f"{trained['id']}.json", Path(out) / f"{trained['id']}.state"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, even by a kill
        if results.done(path, key) is None:
            found = _attack_graph(settings, folder, Path(graph), data, seed, state, device, progress)
            results.write(path, candidate=trained["id"], key=key, split="test", fingerprint=data.fingerprint,
                          files=files, seed=seed, occasion=occasion, **found)
        shutil.rmtree(state, ignore_errors=True)
    return {"id": trained["id"]}


def _attack_graph(params: Params, folder: Path, graph: Path, data: Dataset, seed: int, state: Path, device: str,
                  progress: results.Report) -> dict[str, Any]:
    """{evaluation: the record of suite and audit, ties: which images are ties when clean (a row of 0 and 1), parity,
    audit: {verdict, failed}}."""
    import torch

    from parapet.attacks import adapted, audited_rows, examine, run_suite
    from parapet.attacks.compositions import named_suite
    from parapet.attacks.evaluation_state import StateRefused
    from parapet.attacks.gradient.fgsm import fgsm
    from parapet.attacks.inputs import answers
    from parapet.deployment.parity import replay, tied_images
    from parapet.deployment.runtime import session
    from parapet.deployment.shipped_graph import ShippedGraph
    from parapet.models import load

    threads, config, threat = params.search.threads, params.full_evaluation, params.threat
    torch.set_num_threads(threads)
    network = load(folder / results.WEIGHTS, device).to(memory_format=torch.channels_last)
    model, running = ShippedGraph(graph, network, threads=threads), session(graph, threads=threads)
    images, labels = data.split("test", device=device, limit=config.images).all()
    suite_share = _SUITE_SHARE if params.promotion.audit_images else 1.0

    def suite() -> tuple[dict[str, Any], Tensor]:
        return run_suite(model, images, labels, norm=threat.norm, eps=threat.eps, suite=named_suite(SUITE),
                         batch_size=config.batch_size, generator=torch.Generator().manual_seed(seed), state=state,
                         progress=lambda name, share: progress(f"attack {name} on the graph", share * suite_share))

    try:
        record, adversarial = suite()
    except StateRefused:  # damaged, or of files that were changed meanwhile
        shutil.rmtree(state)
        record, adversarial = suite()
    audit = None
    if params.promotion.audit_images:
        rows = audited_rows(labels, params.promotion.audit_images, seed)
        record, _, report = examine(model, images, labels, record, adversarial, rows, norm=threat.norm, eps=threat.eps,
                                    seed=seed, deep=True, loader=partial(
                                        _load_graph, folder / results.WEIGHTS, graph, device, threads),
                                    progress=lambda name, share: progress(
                                        f"{name} on the graph", suite_share + (1 - suite_share) * share))
        audit = {"verdict": report["verdict"], "failed": {
            check["id"]: check["advice"] for check in report["checks"] if check["verdict"] == "fail"}}
    tolerance = params.export.tolerance
    ties = "".join(map(str, tied_images(answers(model, images).cpu().numpy(), tolerance).astype(int)))
    # If the graph is not that of this network, the network's gradients do not attack it. Parity is therefore also
    # checked at the points that these gradients lead to, where the outputs of another network differ.
    points = torch.cat([fgsm(adapted(network), *batch, norm=threat.norm, eps=threat.eps) for batch in zip(
        images.split(config.batch_size), labels.split(config.batch_size))])
    parity = next((f"on {kind} images {why}" for kind, batch in (("clean", images), ("attacked", points)) if (
        why := replay(network, running, batch, labels, tolerance=tolerance).why_not()) is not None), None)
    return {"evaluation": record, "ties": ties, "parity": parity, "audit": audit}


def _load_graph(weights: Path, graph: Path, device: str, threads: int) -> ShippedGraph:
    """The graph with its network, for the audit, which loads them again in another process."""
    import torch

    from parapet.deployment.shipped_graph import ShippedGraph
    from parapet.models import load

    return ShippedGraph(graph, load(weights, device).to(memory_format=torch.channels_last), threads=threads)


def _allowed(n: int) -> int:
    """How many of `n` images this attack may break beyond the record."""
    return int(_LEFT * n)


def _seed(params: Params, files: dict[str, str], occasion: str) -> int:
    """The attack's seed, in [0, 2**32); that of the evaluation is `params.seed`."""
    return int(digest(["gate", params.seed, files, occasion])[:8], 16)


def _key(params: Params, fingerprint: str, files: dict[str, str], occasion: str) -> str:
    """SHA-256 of everything that the attack depends on."""
    config = params.full_evaluation
    return digest(["gate", SUITE, ATTACK_VERSION, EXPORT_VERSION, fingerprint, files, to_dict(params.threat),
                   config.images, config.batch_size, params.promotion.audit_images, params.export.tolerance,
                   params.seed, occasion])
