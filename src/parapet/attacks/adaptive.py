"""Wrappers that let attacks pass non-differentiable layers (BPDA) and random layers (EOT).

Athalye, Carlini, Wagner 2018, "Obfuscated Gradients Give a False Sense of Security". The model is wrapped, not the
attack. A layer declares with its attribute `attacked_through` what it needs: "bpda" for the backward pass
differentiable approximation, "eot" for the expectation over transformations, "gradients" for neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import Model
from parapet.errors import InputError

StandIn = Callable[[nn.Module, Tensor], Tensor]
# Steepness of the tanh of each step of the soft staircase: at 4 the slope lies between 0.15 and 2.1.
_STEEPNESS = 4.0


def declared_layers(model: Model) -> dict[str, list[nn.Module]]:
    """{value of `attacked_through`: the layers of `model` with it}; empty for a plain callable."""
    found: dict[str, list[nn.Module]] = {}
    for module in model.modules() if isinstance(model, nn.Module) else ():
        way = getattr(module, "attacked_through", None)
        if way is not None:
            found.setdefault(way, []).append(module)
    return found


def identity(layer: nn.Module, images: Tensor) -> Tensor:
    """The approximation of a layer whose output is close to its input."""
    return images


def soft_staircase(layer: nn.Module, images: Tensor) -> Tensor:
    """The approximation of rounding to `layer.levels` steps: a tanh for each step, steepest at its edge."""
    levels: Any = getattr(layer, "levels", None)
    if levels is None:
        raise InputError(f"{type(layer).__name__} has no attribute `levels`, so it has no soft staircase; attack it "
                         "through the identity, or give a stand-in of your own.")
    treads = images * levels
    below = torch.floor(treads).detach()
    rise = torch.tanh(_STEEPNESS * (treads - below - 0.5)) / (2 * math.tanh(_STEEPNESS / 2)) + 0.5
    staircase: Tensor = (below + rise) / levels
    return staircase


STAND_INS: dict[str, StandIn] = {"identity": identity, "staircase": soft_staircase}


class Bpda(nn.Module):
    """A model whose `layers` are used in the forward pass, and a differentiable approximation of them in the backward
    pass (BPDA).

    `model`: images (N, C, H, W) to logits, with `layers` inside it; each keeps the shape of its input. `stand_in` is
    the approximation: "identity", "staircase" or a function of (layer, its input). Default of `layers`: those that
    declare "bpda". The layers carry hooks during each call only, so two threads must not call one model at the same
    time. Layers get copies of their input, so that the approximation sees it unchanged even if they work in place.
    Raises InputError for an unknown `stand_in` or if there is no layer to replace.
    """

    def __init__(self, model: Model, stand_in: str | StandIn = "identity",
                 layers: Sequence[nn.Module] | None = None) -> None:
        if isinstance(stand_in, str) and stand_in not in STAND_INS:
            raise InputError(f"stand_in is {stand_in!r}; allowed: {', '.join(STAND_INS)}, or a function of "
                             "(layer, input).")
        super().__init__()
        self.model = model
        self.stand_in = STAND_INS[stand_in] if isinstance(stand_in, str) else stand_in
        self.layers = declared_layers(model).get("bpda", []) if layers is None else list(layers)
        if not self.layers:
            raise InputError("no layer of the model declares attacked_through = \"bpda\"; name the layers to replace "
                             "on the way back with layers=[...].")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        given: list[Tensor] = []

        def copy(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            given.append(inputs[0])
            return inputs[0].clone(), *inputs[1:]

        def replace(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return self._replaced(layer, given.pop(), output)
        hooks = [hook for layer in self.layers for hook in (layer.register_forward_pre_hook(copy),
                                                            layer.register_forward_hook(replace))]
        try:
            return self.model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def _replaced(self, layer: nn.Module, images: Tensor, output: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and images.requires_grad):
            return output
        stand_in = self.stand_in(layer, images)
        return stand_in + (output - stand_in).detach()


class Eot(nn.Module):
    """The mean of a random model's logits over `draws` passes, each with fresh randomness (Athalye et al. 2018).

    Attack and evaluate a random model through this wrapper. Each call seeds torch's global generators from `seed` and
    the number of the call, and restores them afterwards: the same calls in the same order give the same logits. With
    the attribute `evenly` the logits of each draw are divided by their standard deviation first, so that draws with
    small logits have the same weight in an attack.
    """

    def __init__(self, model: Model, draws: int = 20, seed: int = 0) -> None:
        if draws < 1:
            raise InputError(f"draws is {draws}; it must be at least 1 (20 is customary).")
        super().__init__()
        self.model, self.draws, self.seed, self.calls, self.evenly = model, draws, seed, 0, False

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        self.calls += 1
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed((self.seed * 1_000_003 + self.calls) % 2**63)
            return cast(Tensor, sum(self._draw(images) for _ in range(self.draws))) / self.draws

    def _draw(self, images: Tensor) -> Tensor:
        logits = self.model(images.clone())
        if not self.evenly:
            return logits
        return logits / logits.detach().std(1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)


def adapted(model: Model, draws: int = 20) -> Model:
    """The model wrapped in `Eot` and `Bpda` if its layers declare that, else the model itself."""
    wrapped = {type(module) for module in model.modules()} if isinstance(model, nn.Module) else set()
    ways = declared_layers(model)
    if "eot" in ways and Eot not in wrapped:
        model = Eot(model, draws)
    if "bpda" in ways and Bpda not in wrapped:
        model = Bpda(model)
    return model


def staircase(model: Model, draws: int = 20) -> Model | None:
    """The model with soft staircases for the layers that declare "bpda" and have `levels`; None if it has none."""
    ways = declared_layers(model)
    steps = [layer for layer in ways.get("bpda", []) if hasattr(layer, "levels")]
    return Bpda(Eot(model, draws) if "eot" in ways else model, "staircase", steps) if steps else None


def restart_draws(model: Model | None, stream: int) -> None:
    """Restart every `Eot` of the model at stream number `stream`, so that a batch draws the same after a resumption."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, Eot):
            module.calls = stream * 2**20


def is_random(model: Model) -> bool:
    """Whether the model is wrapped in `Eot`; a layer that only declares itself random is not exempt from checks."""
    return isinstance(model, nn.Module) and any(isinstance(module, Eot) for module in model.modules())
