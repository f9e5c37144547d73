"""What an evaluation has found so far, one file for each attack and batch, so that a killed one goes on.

A folder belongs to one model, one set of images, one threat model and one suite; it is refused for any other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from parapet.attacks.compositions import Attack
from parapet.attacks.inputs import Model
from parapet.errors import InputError
from parapet.files import read_json, replacing, write_json
from parapet.versions import ATTACK_VERSION

_MANIFEST, _LOCK = "evaluation.json", "lock"
_TENSORS = ("rows", "points", "fooled", "distances")
# Logits of the same model on the same images may differ by this share of their spread: threads, another card.
_SAME = 1e-3


@dataclass(frozen=True)
class Part:
    """One attack on one batch: the images `rows` (n,) of all, the points, whether they fool the model, their distance,
    and what that took."""

    rows: Tensor
    points: Tensor
    fooled: Tensor
    distances: Tensor
    queries: int
    gradient_evaluations: int
    seconds: float


class EvaluationState:
    """The folder of one evaluation. Raises InputError if it holds another one, naming what differs, or is in use."""

    def __init__(self, folder: Path, identity: dict[str, Any], logits: Tensor | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _locked(folder)
        self.resumed = (folder / _MANIFEST).exists()
        if self.resumed:
            known = read_json(folder / _MANIFEST)
            differences = _differences(known, json.loads(json.dumps(identity)))
            if not differences and logits is not None and not _agree(folder / "logits.safetensors", logits):
                differences = ["the model, whose answers to the clean images are others"]
            if differences:
                self.close()
                raise InputError(f"{folder} holds the state of another evaluation: it differs in "
                                 f"{'; in '.join(differences)}. Give another folder, or remove this one.")
        else:
            if logits is not None:
                with replacing(folder / "logits.safetensors") as path:
                    save_file({"logits": logits.cpu().float().contiguous()}, path)
            write_json(folder / _MANIFEST, identity)

    def load(self, attack: str, batch: int, rows: Tensor) -> Part | None:
        """What `attack` did to batch number `batch`, the images `rows`; None if that is not known yet."""
        path = self._path(attack, batch)
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as stored:
                tensors = {name: stored.get_tensor(name).to(rows.device) for name in _TENSORS}
                spent = json.loads(stored.metadata()["spent"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return None  # damaged by the disk: made again
        part = Part(**tensors, **spent)
        return part if torch.equal(part.rows, rows) else None

    def save(self, attack: str, batch: int, part: Part) -> None:
        """Keep what `attack` did to a batch."""
        tensors = {name: getattr(part, name).cpu().contiguous() for name in _TENSORS}
        spent = {name: getattr(part, name) for name in ("queries", "gradient_evaluations", "seconds")}
        with replacing(self._path(attack, batch)) as path:
            save_file(tensors, path, {"spent": json.dumps(spent)})

    def close(self) -> None:
        """Let another process use the folder."""
        os.close(self._lock)

    def _path(self, attack: str, batch: int) -> Path:
        return self._folder / attack / f"{batch:06d}.safetensors"


class NoState:
    """An evaluation that is kept nowhere."""

    def load(self, attack: str, batch: int, rows: Tensor) -> None:
        """Nothing is known."""

    def save(self, attack: str, batch: int, part: Part) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is held."""


def open_state(folder: Path | None, identity: dict[str, Any], logits: Tensor | None) -> EvaluationState | NoState:
    """The state in `folder`, or none; `logits` (N, classes) of the clean images, unless the model is random."""
    return NoState() if folder is None else EvaluationState(folder, identity, logits)


def identity(model: Model, images: Tensor, labels: Tensor, norm: str, eps: float, seeds: Tensor, batch_size: int,
             suite: Sequence[Attack]) -> dict[str, Any]:
    """What makes an evaluation itself, as JSON: digests of model, data and seeds, the threat model, every option."""
    return {"attack_version": ATTACK_VERSION, "model": _describe(model),
            "data": {"n": len(images), "digest": _digest(images, labels)}, "norm": norm, "eps": eps,
            "seeds": _digest(seeds), "batch_size": batch_size,
            "attacks": {attack.name: {"function": _describe(attack.function), "survivors_only": attack.survivors_only,
                                      **{name: _describe(value) for name, value in attack.options.items()}}
                        for attack in suite}}


def _describe(value: Any) -> Any:
    """A number, text, name of a function or digest of a network."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if isinstance(value, nn.Module):
        state = {name: tensor for name, tensor in value.state_dict().items() if isinstance(tensor, Tensor)}
        names = hashlib.sha256(f"{value}{sorted(state)}".encode()).hexdigest()
        return f"{type(value).__name__} {_digest(*(state[name] for name in sorted(state)))[:16]}{names[:16]}"
    if isinstance(value, partial):
        return {"function": _describe(value.func), "arguments": _describe(value.args),
                **{name: _describe(item) for name, item in value.keywords.items()}}
    if isinstance(value, Callable):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)


def _differences(known: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What differs, in words."""
    words = {"attack_version": "the version of the attacks", "model": "the model", "data": "the images or labels",
             "norm": "norm", "eps": "eps", "seeds": "the seed", "batch_size": "batch_size"}
    found = []
    for name, word in words.items():
        if known.get(name) != wanted[name]:
            told = isinstance(wanted[name], int | float | str) and name not in ("seeds", "model")
            found.append(f"{word} ({known.get(name)} there, {wanted[name]} here)" if told else word)
    there, here = known.get("attacks", {}), wanted["attacks"]
    for name in dict.fromkeys([*there, *here]):
        if name not in there or name not in here:
            found.append(f"attack {name} (only {'here' if name in here else 'there'})")
        elif there[name] != here[name]:
            options = [f"{key} {there[name].get(key)} there, {here[name].get(key)} here"
                       for key in dict.fromkeys([*there[name], *here[name]])
                       if there[name].get(key) != here[name].get(key)]
            found.append(f"attack {name} ({', '.join(options)})")
    return found or (["the order of the attacks"] if list(there) != list(here) else [])


def _agree(path: Path, logits: Tensor) -> bool:
    with safe_open(path, "pt") as stored:
        known = stored.get_tensor("logits")
    logits = logits.cpu().float()
    if known.shape != logits.shape:
        return False
    return bool((known - logits).abs().max() <= _SAME * known.std().clamp(min=1e-6)) if len(known) else True


def _digest(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _locked(folder: Path) -> int:
    """A lock that the operating system drops with the process."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(f"{folder} is in use by another evaluation; wait for it, or give another folder.") from None
    return handle
