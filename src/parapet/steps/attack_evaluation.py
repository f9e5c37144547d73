"""attack_evaluation: attacks a candidate with the search's suite on validation images; makes the cheap audit checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from parapet.attacks import Attack, audited_rows, examine, pgd_suite, run_suite, search_suite
from parapet.attacks.audit import CHEAP, CHEAP_CHECKS
from parapet.attacks.compositions import named
from parapet.config import AttackEvaluationConfig, Params
from parapet.cores import Cores, FreeCores
from parapet.data.dataset import Dataset
from parapet.disk.files import replacing
from parapet.errors import InputError
from parapet.models import load
from parapet.search.repeated_evaluations import window
from parapet.store import results
from parapet.store.keys import evaluation_key

SECTIONS = ("seed", "device", "data", "threat", "search", "attack_evaluation")
# The number of stored adversarial images; the step `export` checks parity on them.
_KEPT = 256
# The suite's share of the progress; the audit has the rest.
_SUITE_SHARE = 0.6


def suite_of(config: AttackEvaluationConfig) -> list[Attack]:
    """The attacks that are run on every candidate."""
    if config.suite == "pgd":
        suite = pgd_suite(pgd_steps=config.pgd_steps, pgd_restarts=config.pgd_restarts)
    else:
        suite = search_suite(steps=config.rapid_steps, queries=config.rapid_queries)
    return [*suite, *map(named, config.also)]


def run(params: Params, candidate: Path, dataset: Path, out: Path, *, device: str = "cpu", number: int = 1,
        cores: Cores | FreeCores | None = None, progress: results.Report = results.ignore) -> dict[str, Any]:
    """Attack the network in folder `candidate` (written by `training`) and write attack_evaluation.json to `out`, with
    the first adversarial images in adversarial.safetensors.

    `number` counts the evaluations of one training from 1. Each evaluation has its own random numbers, and its own
    images as long as the validation split has enough of them. Returns the content of attack_evaluation.json.
    """
    trained = results.trained(candidate)
    weights = trained["digests"].get(results.WEIGHTS)
    key = evaluation_key(trained["key"], params, "attack_evaluation", number)
    # A result for other weights (the candidate was trained again) is not reused.
    if (result := results.done(out / results.ATTACK_EVALUATION, key)) is not None \
            and result.get("weights", weights) == weights:
        return result
    common = {"candidate": trained["id"], "key": key, "weights": weights}
    if trained["status"] != "done":
        return results.write(out / results.ATTACK_EVALUATION, **common, status="infeasible", reason=trained["reason"])
    torch.set_num_threads(params.search.threads)
    config, threat = params.attack_evaluation, params.threat
    network = load(candidate / results.WEIGHTS, device).to(memory_format=torch.channels_last)
    data = Dataset.open(dataset)
    results.check_data(data.fingerprint, trained["fingerprint"], dataset)
    available = data.images["validation"]
    places = window(number, config.images, available)
    images, labels = data.split("validation", device=device, limit=max(places) + 1).batch(
        torch.tensor(places, device=device))
    seed, turn = params.seed + number - 1, (cores or FreeCores()).shared
    try:
        record, adversarial = run_suite(
            network, images, labels, norm=threat.norm, eps=threat.eps, batch_size=config.batch_size,
            suite=suite_of(config),
            generator=torch.Generator().manual_seed(seed),
            progress=lambda name, share: progress(f"attack {name}", share * _SUITE_SHARE), turn=turn)
        with turn():
            rows = audited_rows(labels, config.audit_images, seed)
            record, adversarial, verdict = examine(
                network, images, labels, record, adversarial, rows, norm=threat.norm, eps=threat.eps, seed=seed,
                checks=CHEAP_CHECKS, limits=CHEAP,
                progress=lambda name, share: progress(name, _SUITE_SHARE + (1 - _SUITE_SHARE) * share))
    except InputError as error:  # for example NaN logits: this candidate is infeasible, and the search continues
        return results.write(out / results.ATTACK_EVALUATION, **common, status="infeasible", reason=str(error))
    with replacing(out / results.ADVERSARIAL) as partial:
        save_file({"adversarial": adversarial[:_KEPT].cpu().contiguous(), "labels": labels[:_KEPT].cpu()}, partial)
    return results.write(out / results.ATTACK_EVALUATION, **common, beside=[results.ADVERSARIAL], split="validation",
                         fingerprint=data.fingerprint, look=number, images=len(places), available=available,
                         genome=network.genome.to_dict(), evaluation=record, audit=verdict)
