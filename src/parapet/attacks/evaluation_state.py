"""The results of an unfinished evaluation, one file for each attack and batch, so that it can be resumed.

A folder belongs to one model, one set of images, one threat model and one suite; any other is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.compositions import Attack
from parapet.attacks.inputs import Model
from parapet.disk import sealed, sealed_tensors
from parapet.disk.files import digest, file_digest
from parapet.errors import InputError
from parapet.versions import ATTACK_VERSION

_MANIFEST, _BEHAVIOUR, _LOCK = "evaluation.json", "behaviour.safetensors", "lock"
_TENSORS = ("rows", "points", "fooled", "distances")
# The relative difference that other threads or hardware may make to a model's answers for the same images.
_SAME = 1e-3


@dataclass(frozen=True)
class Part:
    """The result of one attack on one batch: the positions of the images `rows` (n,); `points`, `fooled`, `distances`
    as in `AttackResult`, and the cost."""

    rows: Tensor
    points: Tensor
    fooled: Tensor
    distances: Tensor
    queries: int
    gradient_evaluations: int
    seconds: float


class StateRefused(InputError):
    """The folder holds the state of another evaluation, or is damaged: nothing in it may be used."""


class EvaluationState:
    """The folder of one evaluation.

    `behaviour` are tensors that differ between models: logits of the clean images, and gradients, because two models
    may give the same answers while only one of them masks its gradients. Empty if the model is random. Raises
    StateRefused if the folder belongs to another evaluation (the message names the differences) or is damaged, and
    InputError if another process uses it.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], behaviour: dict[str, Tensor]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _locked(folder)
        try:
            self._begin(identity, behaviour)
        except BaseException:
            self.close()
            raise

    def _begin(self, identity: dict[str, Any], behaviour: dict[str, Tensor]) -> None:
        folder = self._folder
        if (folder / _MANIFEST).exists():
            differences = _differences(_manifest(folder), json.loads(json.dumps(identity)))
            if not differences and (changed := _changed(folder / _BEHAVIOUR, behaviour)):
                differences = [f"the model, whose {changed} for the clean images differ"]
            if differences:
                raise StateRefused(f"{folder} holds the state of another evaluation: it differs in "
                                   f"{'; in '.join(differences)}. Give another folder, or remove this one.")
        else:
            sealed_tensors.save({name: tensor.float() for name, tensor in behaviour.items()}, folder / _BEHAVIOUR, {})
            sealed.write(folder / _MANIFEST, identity)
        # Stored in every part: if the manifest is lost, another evaluation may begin in a folder that has old parts.
        self._own = digest([identity, file_digest(folder / _BEHAVIOUR)])

    def load(self, attack: str, batch: int, rows: Tensor) -> Part | None:
        """The result of `attack` on batch number `batch`, the images `rows`; None if there is none yet."""
        try:
            found, about = sealed_tensors.load(self._path(attack, batch))
        except (FileNotFoundError, sealed.Damaged):
            return None  # a damaged file is computed again
        if about.get("place") != [self._own, attack, batch]:
            return None
        tensors: dict[str, Any] = {name: found[name].to(rows.device) for name in _TENSORS}
        part = Part(**tensors, **about["spent"])
        return part if torch.equal(part.rows, rows) else None

    def save(self, attack: str, batch: int, part: Part) -> None:
        """Store the result of `attack` on a batch."""
        spent = {name: getattr(part, name) for name in ("queries", "gradient_evaluations", "seconds")}
        sealed_tensors.save({name: getattr(part, name) for name in _TENSORS}, self._path(attack, batch),
                     {"place": [self._own, attack, batch], "spent": spent})

    def close(self) -> None:
        """Release the folder for other processes."""
        os.close(self._lock)

    def _path(self, attack: str, batch: int) -> Path:
        return self._folder / attack / f"{batch:06d}.safetensors"


def identity(model: Model, images: Tensor, labels: Tensor, norm: str, eps: float, seeds: Tensor, batch_size: int,
             suite: Sequence[Attack]) -> dict[str, Any]:
    """What identifies an evaluation, as JSON: digests of model, data and seeds, the threat model, and all options."""
    return {"attack_version": ATTACK_VERSION, "model": _describe(model),
            "data": {"n": len(images), "digest": tensor_digest(images, labels)}, "norm": norm, "eps": eps,
            "seeds": tensor_digest(seeds), "batch_size": batch_size,
            "attacks": {attack.name: {"function": _describe(attack.function), "survivors_only": attack.survivors_only,
                                      **{name: _describe(value) for name, value in attack.options.items()}}
                        for attack in suite}}


def _describe(value: Any) -> Any:
    """A JSON value that identifies an option: a number, a text, the name of a function or the digest of a network."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if isinstance(value, nn.Module):
        state = {name: tensor for name, tensor in value.state_dict().items() if isinstance(tensor, Tensor)}
        names = hashlib.sha256(f"{value}{sorted(state)}".encode()).hexdigest()
        return f"{type(value).__name__} {tensor_digest(*(state[name] for name in sorted(state)))[:16]}{names[:16]}"
    if isinstance(value, partial):
        return {"function": _describe(value.func), "arguments": _describe(value.args),
                **{name: _describe(item) for name, item in value.keywords.items()}}
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        code = getattr(value, "__code__", None)
        return name if code is None or name.isidentifier() else f"{name} {_code(code)}"
    return repr(value)


def _differences(known: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The differences between two identities, in words."""
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


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = sealed.look(folder / _MANIFEST)
    except sealed.Damaged as error:
        raise StateRefused(f"{folder / _MANIFEST} is damaged, or from another version of Parapet ({error}); remove "
                           f"{folder} to begin again.") from None
    found.pop(sealed.CHECKSUM)
    return found


def _changed(path: Path, behaviour: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that differs from the stored one, None if none does."""
    try:
        known, _ = sealed_tensors.load(path)
    except (FileNotFoundError, sealed.Damaged):
        raise StateRefused(f"{path} is damaged; remove {path.parent} to begin again.") from None
    if known.keys() != behaviour.keys():
        return "numbers"
    for name, tensor in behaviour.items():
        there, here = known[name], tensor.cpu().float()
        if there.shape != here.shape or float((there - here).norm()) > _SAME * max(float(there.norm()), 1e-30):
            return name
    return None


def _code(code: CodeType) -> str:
    """A digest of the bytecode and constants of a lambda or an inner function.

    All lambdas have the same name. Without this digest an evaluation with an edited loss, `Attack("mine", pgd, {"loss":
    lambda ...})`, would resume from the results of the old loss and report them as its own.
    """
    constants = [_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return hashlib.sha256(f"{code.co_code.hex()}{constants}{code.co_names}".encode()).hexdigest()[:16]


def tensor_digest(*tensors: Tensor) -> str:
    """SHA-256 of the types, shapes and values of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _locked(folder: Path) -> int:
    """A file lock, which the operating system releases when the process ends."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(f"{folder} is in use by another evaluation; wait for it, or give another folder.") from None
    return handle
