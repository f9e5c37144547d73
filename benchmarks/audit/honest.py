"""Honest nets of many kinds: trained as anybody would train them, with nothing that hides how they fall."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.audit.data import prepared
from parapet.attacks import pgd
from parapet.attacks.inputs import Model
from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Dataset
from parapet.genome import Genome
from parapet.models import load, save
from parapet.training import TrainingRun, train

_BODY = {"width": 8, "depth": 2, "activation": "silu", "learning_rate": 0.4, "steps": 2}
_COLOUR = {**_BODY, "learning_rate": 0.2}


@dataclass(frozen=True)
class Honest:
    """A net: what it is (a genome, or the name of one of `PLAIN`), on which data and for which ball it was trained, and
    in which ball it is examined (by default the same)."""

    net: Genome | str
    data: str = "digits"
    norm: str = "linf"
    eps: float = 0.2
    epochs: int = 8
    examined_norm: str | None = None
    examined_eps: float | None = None
    smoothing: float = 0.0


@dataclass(frozen=True)
class Examined:
    """What an honest net is examined with; `loader` can be pickled."""

    loader: Callable[[], Model]
    images: Tensor
    labels: Tensor
    norm: str
    eps: float
    classes: int


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def _gelu() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))


def _average_pooled() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
                         nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def _tanh() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 16, 3, stride=2, padding=1),
                         nn.Tanh(), nn.Flatten(), nn.Linear(256, 10))


def _one_class() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


# Plain torch, trained on PGD of 5 steps without any of our care.
PLAIN: dict[str, Callable[[], nn.Module]] = {"linear": _linear, "gelu": _gelu, "average pooled": _average_pooled,
                                             "tanh": _tanh, "one class": _one_class}
HONEST: dict[str, Honest] = {
    "undefended_005": Honest(Genome(**{**_BODY, "activation": "relu"}, loss="standard"), eps=0.05),
    "undefended_02": Honest(Genome(**_BODY, loss="standard")),
    "pgd_silu_02": Honest(Genome(**_BODY, loss="pgd")),
    "pgd_relu_01": Honest(Genome(**{**_BODY, "activation": "relu"}, loss="pgd"), eps=0.1),
    "pgd_relu_03": Honest(Genome(**{**_BODY, "activation": "relu", "steps": 3}, loss="pgd"), eps=0.3),
    "pgd_softplus_02": Honest(Genome(**{**_BODY, "activation": "softplus"}, loss="pgd")),
    "pgd_separable_01": Honest(Genome(**_BODY, backbone="separable", loss="pgd"), eps=0.1),
    "pgd_residual_02": Honest(Genome(**_BODY, backbone="residual", loss="pgd")),
    "pgd_vit_01": Honest(Genome(**{**_BODY, "width": 16, "learning_rate": 0.1}, backbone="vit", loss="pgd"), eps=0.1,
                         epochs=15),
    "smoothed_labels_02": Honest(Genome(**_BODY, loss="pgd"), smoothing=0.1),
    "trades_silu_02": Honest(Genome(**_BODY, loss="trades", trades_beta=4.0)),
    "trades_01_at_02": Honest(Genome(**_BODY, loss="trades", trades_beta=4.0), eps=0.1, examined_eps=0.2),
    "trades_bit_depth_02": Honest(Genome(**_BODY, loss="trades", trades_beta=6.0, eps_ratio=1.25,
                                         input_filter="bit_depth")),
    "mart_02": Honest(Genome(**_BODY, loss="mart", trades_beta=4.0)),
    "morel_02": Honest(Genome(**_BODY, loss="trades", trades_beta=4.0, morel=0.5)),
    "alp_01": Honest(Genome(**_BODY, loss="alp", pairing=0.5), eps=0.1),
    "median_denoiser_02": Honest(Genome(**_BODY, loss="pgd", denoiser="median")),
    "pgd_l2_1": Honest(Genome(**_BODY, loss="pgd"), norm="l2", eps=1.0),
    "pgd_linf_at_l2_2": Honest(Genome(**_BODY, loss="pgd"), examined_norm="l2", examined_eps=2.0),
    "linear_01": Honest("linear", eps=0.1),
    "gelu_01": Honest("gelu", eps=0.1),
    "average_pooled_02": Honest("average pooled", eps=0.2, epochs=15),
    "tanh_02": Honest("tanh", eps=0.2),
    "one_class": Honest("one class", eps=0.1, epochs=0),
    "two_classes_02": Honest(Genome(**_BODY, loss="pgd"), data="two classes"),
    "hundred_classes_01": Honest(Genome(**{**_BODY, "width": 12}, loss="pgd"), data="hundred classes", eps=0.1,
                                 epochs=6),
    "coloured_digits_01": Honest(Genome(**_COLOUR, loss="pgd"), data="coloured digits", eps=0.1),
    "mnist_pgd_03": Honest(Genome(width=4, depth=1, activation="relu", loss="pgd", steps=2, learning_rate=0.3),
                           data="mnist", eps=0.3, epochs=5),
    "cifar10_pgd": Honest(Genome(width=8, depth=1, activation="silu", loss="pgd", crafting="n_fgsm",
                                 learning_rate=0.2), data="cifar10", eps=8 / 255, epochs=6),
}


def examined(name: str, folder: Path, count: int) -> Examined:
    """The net `name` with `count` test images, trained into `folder` unless it is there.

    Raises InputError where its data are published ones that the folder PARAPET_DATA does not hold.
    """
    net = HONEST[name]
    data = prepared(net.data, folder)
    path, about = folder / f"honest-{name}.safetensors", folder / f"honest-{name}.json"
    if not path.exists() or not about.exists() or json.loads(about.read_text()) != repr(net):
        _train(net, data, path)
        about.write_text(json.dumps(repr(net)))
    images, labels = data.split("test", limit=count).all()
    classes = 1 if net.net == "one class" else len(data.classes)
    return Examined(partial(loaded, name, str(folder)), images, labels.clamp(max=classes - 1),
                    net.examined_norm or net.norm, net.examined_eps or net.eps, classes)


def loaded(name: str, folder: str) -> nn.Module:
    """The net `name` of the folder, in evaluation mode."""
    net, path = HONEST[name].net, Path(folder) / f"honest-{name}.safetensors"
    if isinstance(net, Genome):
        return load(path)
    model = PLAIN[net]()
    model.load_state_dict(load_file(path))
    return model.eval()


def _train(net: Honest, data: Dataset, path: Path) -> None:
    if isinstance(net.net, Genome):
        config = TrainingConfig(epochs=net.epochs, label_smoothing=net.smoothing, validation_images=300)
        threat = ThreatModel(norm=net.norm, eps=net.eps)
        network = train(TrainingRun.of(net.net, data, config=config, threat=threat, seed=1)).network
        save(network, path)
    else:
        save_file(_plainly(PLAIN[net.net], data, net).state_dict(), path)


def _plainly(build: Callable[[], nn.Module], data: Dataset, net: Honest) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    images, labels = data.split("train").all()
    for _ in range(net.epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            points = pgd(model, images[rows], labels[rows], eps=net.eps, norm=net.norm, steps=5, generator=generator)
            optimiser.zero_grad()
            cross_entropy(model(points), labels[rows]).backward()
            optimiser.step()
    return model.eval()
