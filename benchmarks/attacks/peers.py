"""Other people's attacks, run from their published source: nothing of theirs is copied into this repository.

`PARAPET_PEERS` names a folder that holds checkouts under the names below, and, if need be, `site/` with the packages
that they import (`pip install --target $PARAPET_PEERS/site eagerpy GitPython tqdm six requests`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import checkouts
from benchmarks.checkouts import Peer

PEERS = {
    "official": Peer("auto-attack", "github.com/fra31/auto-attack", "a39220048b3c9f2cca9a4d3a54604793c68eca7e"),
    "foolbox": Peer("foolbox", "github.com/bethgelab/foolbox", "2513a9a8675d7017e5266d3b0ed89124cb436ec5"),
    "art": Peer("adversarial-robustness-toolbox", "github.com/Trusted-AI/adversarial-robustness-toolbox",
                "23539e2c06045d78594b6b6da533eed57967e410"),
    "torchattacks": Peer("adversarial-attacks-pytorch", "github.com/Harry24k/adversarial-attacks-pytorch",
                         "23620a694a3660e4f194c3e4d28992bced7785a1"),
}


def find(names: tuple[str, ...] = tuple(PEERS), root: Path | None = None) -> dict[str, str]:
    """Put the peers on the import path; returns the commit of each. Raises InputError where one is missing."""
    peers = {name: PEERS[name] for name in names}
    commits = checkouts.commits(peers, root)
    place = checkouts.root_of(peers, root)
    for folder in (*(checkouts.folder_of(peer, place) for peer in peers.values()), place / "site"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return commits


Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


def official(name: str, norm: str, eps: float, *, queries: int = 5000, steps: int = 100, seed: int = 0) -> Run:
    """One attack of the official AutoAttack ("apgd_ce", "apgd_t", "fab_t", "square"), or "standard"."""
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        from autoattack import AutoAttack

        whole = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=seed, verbose=False,
                           device=images.device, version="standard")
        whole.square.n_queries, whole.apgd.n_iter, whole.apgd_targeted.n_iter, whole.fab.n_iter = (
            queries, steps, steps, steps)
        if name != "standard":
            whole.attacks_to_run = [name.replace("_", "-")]
        return whole.run_standard_evaluation(images, labels, bs=256)
    return run


def foolbox(name: str, eps: float | None = None, **options: Any) -> Run:
    """A Foolbox attack by its class name; without eps a minimum-norm attack."""
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        import foolbox as fb

        wrapped = fb.PyTorchModel(model, bounds=(0, 1), device=images.device)
        _, found, _ = getattr(fb.attacks, name)(**options)(wrapped, images, labels, epsilons=eps)
        return found
    return run


def torchattacks(name: str, **options: Any) -> Run:
    """A torchattacks attack by its class name."""
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        import torchattacks as ta

        return getattr(ta, name)(model, **options)(images, labels)
    return run


def art(name: str, classes: int = 10, **options: Any) -> Run:
    """An ART evasion attack by its class name, through its PyTorch classifier."""
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        device = "gpu" if images.is_cuda else "cpu"
        classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes,
                                       clip_values=(0.0, 1.0), device_type=device)
        attack = getattr(evasion, name)(classifier, verbose=False, **options)
        return torch.from_numpy(attack.generate(images.cpu().numpy(), labels.cpu().numpy())).to(images)
    return run
