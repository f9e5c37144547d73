"""The networks that attacks are compared on: MNIST, L-inf 0.3, one each of four kinds, trained by Parapet itself."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from parapet.config import DataPrepConfig, ThreatModel, TrainingConfig
from parapet.data import dataset, sources, splits
from parapet.errors import InputError
from parapet.files import write_json
from parapet.genome import Genome
from parapet.models import save
from parapet.training.loop import train

EPS = 0.3
_BODY = {"width": 8, "depth": 2, "activation": "relu", "learning_rate": 0.2, "weight_decay": 5e-4}
# Name: genome and epochs. Undefended nets break at once, so they measure how fast broken images leave a batch; on
# "large", of 3.7 MFLOPs, attacks are timed, and the others are small so that everyone's whole attacks end in minutes.
NETS: dict[str, tuple[Genome, int]] = {
    "undefended": (Genome(**_BODY, loss="standard"), 2),
    "pgd": (Genome(**_BODY, loss="pgd", steps=2, eps_ratio=1.0), 6),
    "trades": (Genome(**_BODY, loss="trades", trades_beta=4.0, steps=2, eps_ratio=1.0), 6),
    "denoiser": (Genome(**_BODY, loss="pgd", steps=2, eps_ratio=1.0, denoiser="mean", denoiser_stage=2), 6),
    "large": (Genome(**{**_BODY, "width": 16}, loss="pgd", steps=2, eps_ratio=1.0), 6),
}
COMPARED, TIMED = ("undefended", "pgd", "trades", "denoiser"), "large"


def published() -> Path:
    """The folder that `PARAPET_DATA` names. Raises InputError where it names none."""
    given = os.environ.get("PARAPET_DATA")
    if not given:
        raise InputError("PARAPET_DATA is not set; it must name a folder with MNIST in torchvision's layout.")
    return Path(given)


def prepare(data: Path, out: Path) -> dataset.Dataset:
    """MNIST in the folder `data` (torchvision's layout), prepared in `out`/dataset; once."""
    folder = out / "dataset"
    if not folder.exists():
        source = sources.load("mnist", data)
        dataset.write(folder, source, splits.split(source, DataPrepConfig(validation_share=0.02), seed=0))
    return dataset.Dataset.open(folder)


def train_net(name: str, data: dataset.Dataset, out: Path, *, device: str = "cpu", seed: int = 0) -> Path:
    """Train the net `name` unless `out`/`name`.safetensors is there; how it went is written beside it."""
    path = out / f"{name}.safetensors"
    if path.exists():
        return path
    genome, epochs = NETS[name]
    trained = train(
        genome, data.split("train", device=device), data.split("validation", device=device), classes=len(data.classes),
        mean=torch.tensor(data.mean), std=torch.tensor(data.std), threat=ThreatModel(eps=EPS), seed=seed, device=device,
        config=TrainingConfig(epochs=epochs, batch_size=128, validate_every=1, validation_steps=10),
        checkpoint_path=out / f"{name}.checkpoint",
        progress=lambda epoch, of, metrics: print(f"{name}: epoch {epoch}/{of}", {
            key: round(value, 3) for key, value in metrics.items()}, flush=True))
    save(trained.network, path)
    write_json(out / f"{name}.json", {"genome": genome.to_dict(), "epochs": epochs, "seed": seed, "eps": EPS,
                                      "seconds": trained.seconds, "curves": trained.curves})
    return path
