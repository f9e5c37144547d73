"""Other people's training steps, run from their published source: nothing of theirs is copied into this repository.

Neither script can be imported: both read options and fetch data first, one of them has its step in the middle of
`main`. So the statement that does the steps (the function `train` of TRADES' train_trades_mnist.py, the loop over
batches of train_mnist.py) is taken out of the checkout's file as it stands and executed with the names that it uses
bound to the network, the batches and the options of the contest. Their optimisers are those of their scripts. Their
batches lie ready on the device, so that neither waits for its loader.

Both call `.cuda()` whatever the device. Where that is a CPU, `cuda` of tensors and modules is the identity in the
process of the peer, which changes no arithmetic.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import checkouts
from benchmarks.checkouts import Peer
from parapet.config import ThreatModel
from parapet.data.images import Images
from parapet.errors import InputError
from parapet.genome import Genome

Epoch = Callable[[], object]
# A step of PGD is this many radii over the number of steps, as it is for ours.
_REACH = 2.5
PEERS = {
    "TRADES": Peer("TRADES", "github.com/yaodongyu/TRADES", "6e8e11b7c281371c2f027ffadfbaea80361f09de"),
    "fast_adversarial": Peer("fast_adversarial", "github.com/locuslab/fast_adversarial",
                             "54f728755e71857b632882ba6d6cef22f56e2172"),
}


def find(names: tuple[str, ...] = tuple(PEERS), root: Path | None = None) -> dict[str, str]:
    """The commit of each peer's checkout. Raises InputError where one is missing."""
    return checkouts.commits({name: PEERS[name] for name in names}, root)


def _folder(name: str) -> Path:
    return checkouts.folder_of(PEERS[name], checkouts.root_of({name: PEERS[name]}))


class Batches(list):
    """(images, labels) in a list, with the `dataset` that a loader has."""

    def __init__(self, images: Images, batch_size: int) -> None:
        super().__init__(images.batches(batch_size))
        self.dataset = images


def trades(network: nn.Module, images: Images, genome: Genome, batch_size: int, threat: ThreatModel) -> Epoch:
    """The function `train` of TRADES' train_trades_mnist.py with its SGD."""
    folder, device = _folder("TRADES"), images.images.device
    _without_cuda(device)
    sys.path.append(str(folder))
    from trades import trades_loss

    names: dict[str, Any] = {"trades_loss": trades_loss}
    # The peer's own statement, of a checkout that whoever measures has named.
    exec(_statement(folder / "train_trades_mnist.py", _is_train), names)  # nosec B102
    options = argparse.Namespace(epsilon=threat.eps, num_steps=genome.steps, step_size=_size(genome, threat),
                                 beta=genome.trades_beta, log_interval=1_000_000)
    network = network.to(device)
    optimiser = torch.optim.SGD(network.parameters(), lr=genome.learning_rate, momentum=0.9)
    batches = Batches(images, batch_size)

    def epoch() -> None:
        with redirect_stdout(StringIO()):
            names["train"](options, network, device, batches, optimiser, 1)
    return epoch


def fast_adversarial(network: nn.Module, images: Images, genome: Genome, batch_size: int, threat: ThreatModel) -> Epoch:
    """The loop over batches in `main` of MNIST/train_mnist.py with `--attack pgd` and its Adam."""
    device = images.images.device
    _without_cuda(device)
    loop = _statement(_folder("fast_adversarial") / "MNIST" / "train_mnist.py", _is_loop_over_batches)
    network = network.to(device).train()
    names = {"torch": torch, "nn": nn, "F": nn.functional, "np": np, "model": network,
             "criterion": nn.CrossEntropyLoss(),
             "train_loader": Batches(images, batch_size), "epoch": 0, "lr_schedule": lambda _: genome.learning_rate,
             "opt": torch.optim.Adam(network.parameters(), lr=genome.learning_rate),
             "args": argparse.Namespace(attack="pgd", epsilon=threat.eps, alpha=_size(genome, threat),
                                        attack_iters=genome.steps)}

    def epoch() -> None:
        names.update(train_loss=0, train_acc=0, train_n=0)
        exec(loop, names)  # nosec B102 # as above
    return epoch


TRAINERS = {"TRADES": trades, "fast_adversarial": fast_adversarial}


def _size(genome: Genome, threat: ThreatModel) -> float:
    return _REACH * threat.eps / genome.steps


def _is_train(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "train"


def _is_loop_over_batches(node: ast.AST) -> bool:
    return isinstance(node, ast.For) and ast.unparse(node.iter) == "enumerate(train_loader)"


def _statement(path: Path, wanted: Callable[[ast.AST], bool]) -> CodeType:
    """The one statement of the file that is wanted, compiled as it stands there."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if wanted(node)]
    if len(found) != 1:
        raise InputError(f"{path} has {len(found)} statements that train on batches, where the published file has one.")
    return compile(ast.Module([found[0]], []), str(path), "exec")


def _without_cuda(device: torch.device) -> None:
    if device.type != "cpu":
        return

    def same(self: Tensor | nn.Module, *_: object, **__: object) -> Tensor | nn.Module:
        return self
    torch.Tensor.cuda = nn.Module.cuda = same
