"""Loads models of several kinds: weights of Parapet, programs saved with torch.export, the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from parapet.disk.files import is_endless
from parapet.errors import InputError, is_out_of_memory
from parapet.models.weights import load
from parapet.quoting import name as named
from parapet.quoting import words

# Stands for a batch of any size.
_ANY = 2**31
_KINDS = ("a weights file of Parapet (.safetensors), a program saved with torch.export.save (.pt2), or "
          "package.module:factory, a function without arguments that returns the model")


def load_any(model: str, device: str | torch.device = "cpu", *, trust: bool = False) -> Callable[[Tensor], Tensor]:
    """The model called `model`, from float images (N, C, H, W) in [0, 1] to logits, on `device`.

    `model` is a path to .safetensors or .pt2, or `package.module:factory`, which is imported and called. A .pt2 file
    can run any code while it is read, so it needs `trust`. Raises InputError where there is no such model.
    """
    suffix = Path(model).suffix.lower()
    if suffix == ".safetensors":
        return load(Path(model), device)
    if suffix == ".pt2":
        return _program(Path(model), device, trust)
    if ":" in model and not Path(model).exists():
        return _made(model, device)
    hint = {".pt": "pickled weights can run any code: save the model with torch.export.save",
            ".pth": "pickled weights can run any code: save the model with torch.export.save",
            ".onnx": "an ONNX graph has no gradients: give the torch model that it was made from"}.get(suffix)
    raise InputError(f"--model {named(model)} is of no known kind{f' ({hint})' if hint else ''}; give {_KINDS}.")


class BoundedBatch(nn.Module):
    """Runs a program that was exported for `smallest` to `largest` images on any number: splits or pads the batch."""

    def __init__(self, program: nn.Module, smallest: int, largest: int) -> None:
        super().__init__()
        self.program, self.smallest, self.largest = program, smallest, largest

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        answers = []
        for batch in images.split(self.largest):
            missing = max(0, self.smallest - len(batch))
            full = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch
            answers.append(self.program(full)[:len(batch)])
        return torch.cat(answers)


class Program(nn.Module):
    """An exported program that checks the shape of the images; its error names the right one, torch's does not."""

    def __init__(self, program: nn.Module, shape: tuple[int | None, ...], name: str) -> None:
        super().__init__()
        self.program, self.shape, self.name = program, shape, name

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        if any(size is not None and size != given for size, given in zip(self.shape, images.shape[1:])):
            raise InputError(f"{self.name} was exported for images of shape {_words(self.shape)}, and these have "
                             f"{_words(tuple(images.shape[1:]))}; give data of that shape.")
        logits: Tensor = self.program(images)
        return logits


def _program(path: Path, device: str | torch.device, trust: bool) -> nn.Module:
    if not path.exists():
        raise InputError(f"{path} does not exist; give a program saved with torch.export.save.")
    if is_endless(path):
        raise InputError(f"{path} is a pipe or a device; give a file with a program saved with torch.export.save.")
    if not trust:
        raise InputError(f"{path} can run any code while it is read; say --trust if you know its origin.")
    try:
        exported = torch.export.load(path)
    except Exception as error:  # zip, pickle and torch raise various errors for a damaged file
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path} cannot be read as a program of torch.export ({type(error).__name__}: "
                         f"{words(error) or 'no reason given'}); save it with torch.export.save.") from None
    names = exported.graph_signature.user_inputs
    inputs = [node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].dim() != 4:
        raise InputError(f"{path} takes {len(inputs)} inputs; a model takes one, float images of shape (N, C, H, W).")
    shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape[1:])
    module = exported.module().to(device)
    return Program(BoundedBatch(module, *_bounds(exported, inputs[0].shape[0])), shape, str(path))


def _bounds(exported: torch.export.ExportedProgram, batch: int | torch.SymInt) -> tuple[int, int]:
    """The smallest and the largest batch that the program takes."""
    if isinstance(batch, int):
        return batch, batch
    allowed = exported.range_constraints.get(batch.node.expr)
    if allowed is None:
        return 1, _ANY
    return max(1, int(allowed.lower)), int(min(allowed.upper, _ANY))


def _made(model: str, device: str | torch.device) -> Callable[[Tensor], Tensor]:
    module, _, name = model.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError) as error:
        raise InputError(f"--model {model}: {module} cannot be imported ({words(error)}); give package.module:factory, "
                         "with the package installed or below the working directory.") from None
    except AttributeError:
        raise InputError(f"--model {model}: {module} has no {name}; name a function without arguments that returns the "
                         "model.") from None
    if isinstance(factory, nn.Module):
        return factory.to(device).eval()
    if not callable(factory):
        raise InputError(f"--model {model} is {type(factory).__name__}; name a function without arguments that returns "
                         "the model.")
    try:
        made = factory()
    except Exception as error:  # the user's code may raise anything
        if is_out_of_memory(error):
            raise
        text = words(error) or "no reason given"
        raise InputError(f"--model {model} cannot be called without arguments, or fails when it is "
                         f"({type(error).__name__}: {text}); call it in Python to see where.") from error
    if not callable(made):
        raise InputError(f"--model {model} returned {type(made).__name__}; it has to return a model: a torch.nn.Module "
                         "or a function from images to logits.")
    return made.to(device).eval() if isinstance(made, nn.Module) else made


def _words(shape: tuple[int | None, ...]) -> str:
    return "x".join("any" if size is None else str(size) for size in shape)
