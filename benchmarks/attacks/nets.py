"""The networks that attacks are compared on, one or more of each kind, trained by Parapet itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from parapet.config import DataPrepConfig, ThreatModel, TrainingConfig
from parapet.data import dataset, sources, splits
from parapet.disk.files import write_json
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import load, save
from parapet.training import TrainingRun, train

EPS = 0.3
# Of each data set the radius that its nets are trained for, and the share of images that training is watched on.
RADII = {"mnist": EPS, "cifar10": 8 / 255}
_VALIDATION_SHARE = 0.02
_BODY = {"width": 8, "depth": 2, "activation": "relu", "learning_rate": 0.2, "weight_decay": 5e-4}
_ROBUST = {**_BODY, "loss": "pgd", "steps": 2, "eps_ratio": 1.0}
_COLOUR = {"width": 16, "depth": 2, "activation": "silu", "learning_rate": 0.2, "weight_decay": 5e-4,
           "crafting": "n_fgsm"}


@dataclass(frozen=True)
class Net:
    """A net that attacks are compared on: what it is, and for how many epochs it is trained on which data."""

    genome: Genome
    epochs: int
    data: str = "mnist"


# Undefended nets break at once, so they measure how fast broken images leave a batch; on "large", of 3.7 MFLOPs,
# attacks are timed, and the others are small so that everyone's whole attacks end in minutes.
NETS: dict[str, Net] = {
    "undefended": Net(Genome(**_BODY, loss="standard"), 2),
    "pgd": Net(Genome(**_ROBUST), 6),
    "trades": Net(Genome(**{**_ROBUST, "loss": "trades"}, trades_beta=4.0), 6),
    "denoiser": Net(Genome(**_ROBUST, denoiser="mean", denoiser_stage=2), 6),
    "large": Net(Genome(**{**_ROBUST, "width": 16}), 6),
    "mart": Net(Genome(**{**_ROBUST, "loss": "mart"}, trades_beta=4.0), 6),
    "filter": Net(Genome(**_ROBUST, input_filter="bit_depth"), 6),
    # The SmallCNN of TRADES (Zhang et al. 2019), 19.9 MFLOPs.
    "small_cnn": Net(Genome(backbone="small_cnn", loss="trades", trades_beta=1.0, steps=3, learning_rate=0.05), 4),
    "cifar_pgd": Net(Genome(**_COLOUR, loss="pgd"), 6, "cifar10"),
    "cifar_trades": Net(Genome(**{**_COLOUR, "crafting": "pgd"}, loss="trades", trades_beta=6.0, steps=2), 5,
                        "cifar10"),
    # A ResNet-20 (He et al. 2016) with pre-activation, 41 MFLOPs.
    "cifar_resnet20": Net(Genome(**{**_COLOUR, "depth": 3}, backbone="wide_resnet", loss="pgd"), 5, "cifar10"),
}
COMPARED, TIMED = ("undefended", "pgd", "trades", "denoiser"), "large"


def published() -> Path:
    """The folder that `PARAPET_DATA` names. Raises InputError where it names none."""
    given = os.environ.get("PARAPET_DATA")
    if not given:
        raise InputError("PARAPET_DATA is not set; it must name a folder with MNIST in torchvision's layout.")
    return Path(given)


def prepare(data: Path, out: Path, name: str = "mnist") -> dataset.Dataset:
    """The data set `name` from the folder `data` (torchvision's layout), prepared below `out`; once."""
    folder = out / ("dataset" if name == "mnist" else f"dataset-{name}")
    if not folder.exists():
        source = sources.load(name, data)
        dataset.write(folder, source, splits.split(source, DataPrepConfig(validation_share=_VALIDATION_SHARE), seed=0))
    return dataset.Dataset.open(folder)


def trained(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, dataset.Dataset, nn.Module]]:
    """(name, prepared data, network) of every net of `names` whose weights are in `folder`; the others are told of."""
    for name in names:
        if not (folder / f"{name}.safetensors").exists():
            print(f"{name} is not trained yet; run `python -m benchmarks.attacks nets {name}`", flush=True)
            continue
        data = NETS[name].data
        prepared = dataset.Dataset.open(folder / ("dataset" if data == "mnist" else f"dataset-{data}"))
        yield name, prepared, load(folder / f"{name}.safetensors")


def train_net(name: str, data: dataset.Dataset, out: Path, *, device: str = "cpu", seed: int = 0) -> Path:
    """Train the net `name` unless `out`/`name`.safetensors is there; how it went is written beside it."""
    path = out / f"{name}.safetensors"
    if path.exists():
        return path
    net = NETS[name]
    eps = RADII[net.data]
    trained = train(TrainingRun.of(
        net.genome, data, threat=ThreatModel(eps=eps), seed=seed, device=device,
        config=TrainingConfig(epochs=net.epochs, batch_size=128, validate_every=1, validation_steps=10,
                              validation_images=data.images["validation"],
                              augmentation="none" if net.data == "mnist" else "crop_flip"),
        checkpoint=out / f"{name}.checkpoint",
        progress=lambda epoch, of, metrics: print(f"{name}: epoch {epoch}/{of}", {
            key: round(value, 3) for key, value in metrics.items()}, flush=True)))
    save(trained.network, path)
    write_json(out / f"{name}.json", {"genome": net.genome.to_dict(), "epochs": net.epochs, "seed": seed, "eps": eps,
                                      "seconds": trained.seconds, "curves": trained.curves})
    return path
