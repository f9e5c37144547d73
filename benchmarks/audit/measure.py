"""What `parapet attack --audit` tells about a model, as one record: number shown, verdict, checks, seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.honest import Examined
from benchmarks.audit.truth import Truth, truth_of_honest, truth_of_masker
from parapet.attacks import examine, run_suite
from parapet.attacks.compositions import named_suite
from parapet.attacks.inputs import Model
from parapet.errors import InputError
from tests.attacks.maskers import MASKERS, built
from tests.attacks.maskers.networks import networks

REFUSED = "refused"


def shown(loader: Callable[[], Model], images: Tensor, labels: Tensor, *, norm: str, eps: float, suite: str,
          seed: int = 0) -> dict[str, Any]:
    """Suite and deep audit of a model as `parapet attack --audit` runs them (`parapet.steps.attack.run`).

    `loader` can be pickled and makes the model. Returns {shown, suite_alone, verdict, failed, warned, settled,
    said}: the number that is shown and the suite's alone, as fractions of 1, the names of the checks, which stages
    broke how many images, and what was said where the suite refused the model.
    """
    model = loader()
    try:
        record, adversarial = run_suite(model, images, labels, norm=norm, eps=eps, suite=named_suite(suite),
                                        generator=torch.Generator().manual_seed(seed))
        found, _, report = examine(model, images, labels, record, adversarial, torch.arange(len(images)), norm=norm,
                                   eps=eps, seed=seed, deep=True, loader=loader)
    except InputError as error:
        return {"shown": None, "suite_alone": None, "verdict": REFUSED, "failed": [], "warned": [], "settled": None,
                "said": str(error)}
    checks = {verdict: [check["id"] for check in report["checks"] if check["verdict"] == verdict]
              for verdict in ("fail", "warn")}
    return {"shown": found["robust_accuracy"], "suite_alone": record["robust_accuracy"], "verdict": report["verdict"],
            "failed": checks["fail"], "warned": checks["warn"], "settled": report["settled"],
            "said": " ".join(check["advice"] for check in report["checks"] if check["verdict"] == report["verdict"])
            if report["verdict"] != "pass" else ""}


def measure_masker(name: str, folder: Path, images: Tensor, labels: Tensor, *, suite: str) -> dict[str, Any]:
    """The record of the masker `name` on digits (N, 1, 8, 8), whose networks lie in `folder`."""
    masker = MASKERS[name]
    truth = truth_of_masker(masker, networks(folder), images, labels)
    return _record(truth, lambda: shown(partial(built, name, str(folder)), masker.given(images).detach(), labels,
                                        norm="linf", eps=masker.eps, suite=suite),
                   name=name, kind=masker.kind, paper=masker.paper, norm="linf", eps=masker.eps)


def measure_honest(name: str, examined: Examined, *, suite: str) -> dict[str, Any]:
    """The record of the honest net `name`."""
    setting = {"norm": examined.norm, "eps": examined.eps}
    if examined.classes < 2:
        truth = Truth(1.0, 1.0)  # there is no other class
    else:
        truth = truth_of_honest(examined.loader(), examined.images, examined.labels, **setting)
    return _record(truth, lambda: shown(examined.loader, examined.images, examined.labels, suite=suite, **setting),
                   name=name, kind="honest", paper="", **setting)


def _record(truth: Truth, ask: Callable[[], dict[str, Any]], **about: Any) -> dict[str, Any]:
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of maskers that draw from the global generator
        found = ask()
    return {**about, "clean": truth.clean, "truth": truth.robust, **found, "seconds": time.perf_counter() - started}
