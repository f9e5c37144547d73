"""An exponential moving average of the weights: the network that is validated and kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel

from parapet.errors import InputError


def weight_average(network: nn.Module, decay: float) -> AveragedModel:
    """Its update is average <- d * average + (1 - d) * weights, with d the smaller of `decay` and (1 + n) / (10 + n).

    Izmailov et al. 2018 for plain means, Gowal et al. 2020 ("Uncovering the Limits of Adversarial Training", section
    4.3) for the exponential one in adversarial training. n is `n_averaged`, 1 in the first update: the random initial
    weights are soon forgotten. Statistics of batch norm are averaged as well; counters are copied. decay in (0, 1).
    """
    def update(averages: PARAM_LIST, weights: PARAM_LIST, _: Tensor | int) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, weights)
            return
        # From the CPU: the count that torch passes lies on the weights' device, and reading it would synchronise.
        count = int(average.n_averaged)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))

    try:
        average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    except RuntimeError as error:
        if "deepcopy" not in str(error):
            raise
        raise InputError("training.weight_average needs a copy of the network, and copy.deepcopy cannot make one of "
                         "this network (torch.nn.utils.weight_norm is one cause); use torch.nn.utils.parametrizations "
                         "in the plugin's backbone, or set training.weight_average to 0.") from error
    # At 0 torch would replace the initial weights by the first ones instead of averaging the two.
    average.n_averaged += 1
    return average
