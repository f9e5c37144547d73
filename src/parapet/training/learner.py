"""Everything that training updates: the network, its training-only head, the optimiser and the averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from parapet.models.network import Network
from parapet.training.averaging import weight_average
from parapet.training.losses import Pieces
from parapet.training.morel import MorelHead
from parapet.training.team import Team
from parapet.training.weight_perturbation import perturbed

MOMENTUM = 0.9
# Groups of named tensors, by what they belong to.
Snapshot = dict[str, dict[str, Tensor]]


@dataclass
class Learner:
    """`head` is MOREL's embedding head, which is dropped after training; `average` is None without an average."""

    network: Network
    head: MorelHead | None
    optimiser: torch.optim.SGD
    average: AveragedModel | None

    @classmethod
    def of(cls, network: Network, head: MorelHead | None, *, learning_rate: float, weight_decay: float,
           decay: float) -> Learner:
        """SGD with Nesterov momentum on network and head; `decay` is of the weights' moving average, 0 for none."""
        parameters = [*network.parameters(), *(head.parameters() if head is not None else ())]
        optimiser = torch.optim.SGD(parameters, lr=learning_rate, momentum=MOMENTUM, nesterov=True,
                                    weight_decay=weight_decay, fused=parameters[0].is_cuda or None)
        return cls(network, head, optimiser, weight_average(network, decay) if decay else None)

    def descend(self, loss_fn: Callable[[], tuple[Tensor, Pieces]], *, rate: float, gamma: float, clip: float,
                team: Team) -> tuple[Tensor, Pieces]:
        """One step of the optimiser on `loss_fn()`, a scalar and its pieces, which are returned detached.

        rate: the learning rate. gamma: of adversarial weight perturbation, 0 for none. clip: the largest norm of the
        gradient, 0 for any.
        """
        with perturbed(self.network, lambda: loss_fn()[0], gamma, average=team.average) if gamma > 0 else nullcontext():
            loss, pieces = loss_fn()
            self.optimiser.zero_grad()
            loss.backward()
        team.average_step(self.parameters, self.network)
        if clip > 0:
            nn.utils.clip_grad_norm_(self.parameters, clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach(), pieces

    def snapshot(self) -> Snapshot:
        """Copies of all weights, averages and momentum."""
        momentum = {str(place): self.optimiser.state[parameter]["momentum_buffer"]
                    for place, parameter in enumerate(self.parameters)
                    if self.optimiser.state.get(parameter, {}).get("momentum_buffer") is not None}
        average = self.average
        groups = {"weights": self.network.state_dict(), "momentum": momentum,
                  "average": average.module.state_dict() if average is not None else {},
                  "head": self.head.state_dict() if self.head is not None else {},
                  "steps": {"average": average.n_averaged - 1 if average is not None else torch.tensor(0)}}
        return {group: {name: value.detach().clone() for name, value in tensors.items()}
                for group, tensors in groups.items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Load a snapshot."""
        self.network.load_state_dict(snapshot["weights"])
        if self.head is not None:
            self.head.load_state_dict(snapshot["head"])
        if self.average is not None:
            self.average.module.load_state_dict(snapshot["average"])
            self.average.n_averaged.copy_(snapshot["steps"]["average"] + 1)
        for place, parameter in enumerate(self.parameters):
            found = snapshot["momentum"].get(str(place))
            if found is None:
                self.optimiser.state[parameter].pop("momentum_buffer", None)
            else:
                # On the parameter's device and in its layout, so that the arithmetic afterwards is the same.
                self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(found)

    @property
    def evaluated(self) -> Network:
        """The network that is validated and kept: the averaged one, where weights are averaged."""
        return self.network if self.average is None else cast(Network, self.average.module)

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimiser updates, of network and head."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
