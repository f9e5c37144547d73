"""Every masker by name: what it is built from, its kind, the paper, and how its truth is found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.attacks.maskers import deployment, gradients, inactive_units, literature, logits, memory, randomness
from tests.attacks.maskers.base import (
    Masker,
    Model,
    Networks,
    alone,
    in_batches_of,
    in_inference_mode,
    in_mixed_precision,
    on_average,
    straight_through,
    together,
    without_gradient,
)
from tests.attacks.maskers.networks import networks

ATHALYE = "Athalye et al. 2018"
CARLINI = "Carlini et al. 2019"
TRAMER = "Tramèr et al. 2020"
Change = Callable[[Tensor], Tensor]
Stack = Callable[[Networks], Model]


def _of_undefended(function: Callable[[Any], Model], kind: str, paper: str, **options: Any) -> Masker:
    """A masker that is made of the undefended network alone."""
    return Masker(lambda nets: function(nets.undefended), kind, paper, **options)


def _of_both(function: Callable[[Any, Any], Model], kind: str = "deployment", paper: str = "our own",
             **options: Any) -> Masker:
    """A masker that is made of the undefended and the robust network."""
    return Masker(lambda nets: function(nets.undefended, nets.robust), kind, paper, **options)


def _of_input(change: Callable[[Networks], Change], paper: str, *, smooth: bool = False) -> Masker:
    """The undefended network behind `change` without its gradient; the stand-in has the gradient of `change` where
    that is `smooth`, else that of the identity."""
    def behind(made: Callable[[Change], Change]) -> Stack:
        def build(nets: Networks) -> Model:
            changed = made(change(nets))
            return lambda images: nets.undefended(changed(images))
        return build
    return Masker(behind(without_gradient), "literature", paper,
                  honest=behind((lambda found: found) if smooth else straight_through))


def _sleeping(nets: Networks, *, seen: bool = False, activation: Change | None = None) -> Model:
    planted = inactive_units.Sleeping(nets.robust, inactive_units.directions(nets.known), seen=seen).eval()
    planted.activation = activation or planted.activation
    return planted


def _sleeping_behind(activation: Change) -> Masker:
    return Masker(partial(_sleeping, activation=activation), "gradients", "Goldwasser et al. 2022",
                  honest=partial(_sleeping, seen=True))


def _in_steps_of(levels: int) -> Masker:
    change = deployment.of_steps(levels)
    return _of_both(partial(deployment.in_steps_of, levels), given=deployment.of_steps(16), met=change)


def _framed_in_grey(nets: Networks) -> Model:
    return deployment.framed_in_grey(deployment.inside(nets.undefended), deployment.inside(nets.robust))


def _framed(nets: Networks) -> Model:
    return deployment.framed(deployment.inside(nets.undefended), deployment.inside(nets.robust))


def _members(nets: Networks) -> list[Model]:
    return [nets.undefended, nets.second, nets.third]


def _decoy(name: str, eps: float) -> Masker:
    return Masker(lambda nets: logits.hard_label_with_decoy(nets.undefended, getattr(nets, name)), "logits",
                  f"our own, after {TRAMER}", eps=eps)


def _averaged(build: Stack) -> Stack:
    """The mean of 10 answers: the expectation over transformations (Athalye et al. 2018)."""
    return lambda nets: partial(_mean, build(nets))


def _mean(model: Model, images: Tensor) -> Tensor:
    return torch.stack([model(images) for _ in range(10)]).mean(0)


def _random(build: Callable[[Callable[[Tensor, int], Tensor]], Stack], paper: str, *, hashed: bool) -> Masker:
    """A model that draws anew each time and says nothing of it, or, `hashed`, from the pixels of the image."""
    stand_in = _averaged(build(randomness.afresh))
    if hashed:
        return Masker(build(randomness.undeclared), "randomness", paper, honest=stand_in, itself=True)
    return Masker(build(randomness.afresh), "randomness", paper, honest=stand_in, asked=on_average)


def _rounded(images: Tensor) -> Tensor:
    return torch.round(images * 7) / 7


def _counted(images: Tensor) -> Tensor:
    return torch.floor(images * 10) / 10


def _behind(change: Change) -> Stack:
    """The undefended network behind `change`, with the gradient of the identity."""
    return lambda nets: lambda images: nets.undefended(straight_through(change)(images))


def _through_a_sigmoid(nets: Networks) -> Model:
    """Pixels of one bit, whose gradient is that of a sigmoid of moderate slope."""
    def model(images: Tensor) -> Tensor:
        soft = torch.sigmoid(8 * (images - 0.5))
        return nets.third(soft + ((images > 0.5).float() - soft).detach())
    return model


def _noisy(draws: object) -> Stack:
    return lambda nets: randomness.Noisy(nets.undefended)


def _resized(draws: Callable[[Tensor, int], Tensor]) -> Stack:
    return lambda nets: randomness.resized(nets.undefended, draws)


def _pruned(draws: Callable[[Tensor, int], Tensor]) -> Stack:
    return lambda nets: randomness.Pruned(nets.undefended, draws)


def _one_of_three(draws: Callable[[Tensor, int], Tensor]) -> Stack:
    return lambda nets: randomness.chosen_among(_members(nets), draws)


_G, _L, _R, _M, _D, _P = "gradients", "logits", "randomness", "memory", "deployment", "literature"
MASKERS: dict[str, Masker] = {
    "gradient_killed": _of_undefended(gradients.gradient_killed, _G, ATHALYE),
    "no_graph": _of_undefended(gradients.no_graph, _G, ATHALYE),
    "gradient_turned": _of_undefended(gradients.gradient_turned, _G, CARLINI),
    "gradient_noise": _of_undefended(gradients.gradient_noise, _G, CARLINI),
    "gradient_replaced": _of_undefended(gradients.gradient_replaced, _G, CARLINI),
    "gradient_nan": _of_undefended(gradients.gradient_nan, _G, CARLINI),
    "gradient_sparse": _of_undefended(gradients.gradient_sparse, _G, CARLINI),
    "gradient_underflow": _of_undefended(gradients.gradient_underflow, _G, CARLINI),
    "gradient_far_from_data": Masker(lambda nets: gradients.gradient_far_from_data(nets.known)(nets.undefended), _G,
                                     CARLINI),
    "gradient_of_another": Masker(lambda nets: gradients.gradient_of_another(nets.undefended, nets.robust), _G,
                                  "our own"),
    "gradient_killed_at_random": _of_undefended(gradients.gradient_killed_at_random, _G, "our own"),
    # The third network keeps the most of its accuracy on pixels of one bit.
    "sign_quantised": Masker(lambda nets: gradients.sign_quantised(nets.third), _G, ATHALYE,
                             honest=_through_a_sigmoid, itself=True),
    "bit_depth_without_bpda": _of_undefended(gradients.bit_depth_without_bpda, _G, ATHALYE,
                                             honest=_behind(_rounded)),
    "thermometer": _of_undefended(gradients.thermometer, _G, "Buckman et al. 2018", honest=_behind(_counted)),
    "shattered": _of_undefended(gradients.shattered, _G, ATHALYE),
    "squashed_input": Masker(lambda nets: gradients.squashed_input(nets.third), _G, ATHALYE,
                             honest=_through_a_sigmoid, itself=True),
    "logits_times_100": _of_undefended(logits.logits_times_100, _L, "Papernot et al. 2016"),
    "logits_times_1000": _of_undefended(logits.logits_times_1000, _L, "Carlini and Wagner 2017"),
    "logits_times_1e30": _of_undefended(logits.logits_times_1e30, _L, "Carlini and Wagner 2017"),
    "rounded_logits": _of_undefended(logits.rounded_logits, _L, CARLINI),
    "clipped_logits": _of_undefended(logits.clipped_around_the_second, _L, CARLINI),
    "one_hot": _of_undefended(logits.one_hot, _L, CARLINI),
    "one_hot_through": _of_undefended(logits.one_hot_through, _L, CARLINI),
    "probabilities": _of_undefended(logits.probabilities, _L, "Croce and Hein 2020"),
    "saturated_logits": _of_undefended(logits.saturated_logits, _L, CARLINI),
    "sigmoid_head": _of_undefended(logits.sigmoid_head, _L, TRAMER),
    "decoy_robust_005": _decoy("robust", 0.05),
    "decoy_robust_01": _decoy("robust", 0.1),
    "decoy_robust_02": _decoy("robust", 0.2),
    "decoy_robust_03": _decoy("robust", 0.3),
    "decoy_undefended_02": _decoy("second", 0.2),
    "decoy_waves_01": _of_undefended(logits.hard_label_with_waves, _L, "our own", eps=0.1),
    "decoy_waves_02": _of_undefended(logits.hard_label_with_waves, _L, "our own"),
    "noise": _random(_noisy, ATHALYE, hashed=False),
    "hashed_noise": _of_undefended(randomness.hashed_noise, _R, ATHALYE, itself=True),
    "resized_at_random": _random(_resized, "Xie et al. 2018", hashed=False),
    "resized_by_hash": _random(_resized, "Xie et al. 2018", hashed=True),
    "pruned_at_random": _random(_pruned, "Dhillon et al. 2018", hashed=False),
    "pruned_by_hash": _random(_pruned, "Dhillon et al. 2018", hashed=True),
    "one_of_three_by_hash": _random(_one_of_three, TRAMER, hashed=True),
    "detector_with_memory": _of_undefended(memory.Detector, _M, "our own"),
    "memo": _of_undefended(memory.Memo, _M, "our own"),
    "halves": _of_undefended(memory.Halves, _M, "our own"),
    # The digits have 17 grey levels; a ball of 0.2 ends between two of them, but on one of the 256 of 8 bits.
    "clean_looking": _of_undefended(partial(memory.CleanLooking, levels=16), _M, "our own"),
    "plausible": _of_undefended(memory.Plausible, _M, "our own"),
    "in_a_file": _of_undefended(memory.InAFile, _M, "our own"),
    "tired": _of_undefended(memory.Tired, _M, "our own"),
    "robust_at_first": _of_both(lambda weak, strong: memory.Changing(strong, weak, 400), _M,
                                asked=memory.after_many_questions),
    "robust_when_asked_often": _of_both(lambda weak, strong: memory.Changing(weak, strong, 20), _M),
    "on_the_grid": _of_both(deployment.on_the_grid, given=deployment.eight_bit, met=deployment.eight_bit),
    "one_at_a_time": _of_both(deployment.one_at_a_time, asked=alone),
    "few_at_a_time": _of_both(deployment.few_at_a_time, asked=alone),
    "in_inference_mode": _of_both(deployment.in_inference_mode, asked=in_inference_mode),
    "in_a_large_batch": _of_both(deployment.in_a_large_batch, asked=in_batches_of(256)),
    "in_medium_batches": _of_both(deployment.in_medium_batches, asked=in_batches_of(20)),
    "in_a_bulk_job": _of_both(deployment.in_a_bulk_job, asked=in_batches_of(1200)),
    "in_few_bits": _of_both(deployment.in_few_bits, asked=in_mixed_precision),
    "on_the_float16_grid": _of_both(deployment.on_the_float16_grid, met=deployment.float16),
    "of_grey_pixels": _of_both(deployment.of_grey_pixels, given=deployment.in_colour, met=deployment.grey,
                               honest=lambda nets: lambda images: nets.undefended(images[:, :1])),
    "framed": Masker(_framed, _D, "our own", honest=lambda nets: deployment.inside(nets.undefended),
                     given=deployment.in_a_frame, met=deployment.frame_of_zeros),
    "framed_in_grey": Masker(_framed_in_grey, _D, "our own", honest=lambda nets: deployment.inside(nets.undefended),
                             given=deployment.in_a_grey_frame, met=deployment.frame_of_grey),
    "in_steps_of_256": _in_steps_of(256),
    "in_steps_of_64": _in_steps_of(64),
    "when_frozen": _of_both(deployment.WhenFrozen),
    "under_examination": _of_both(deployment.under_examination),
    "batch_dependent": _of_undefended(deployment.batch_dependent, _D, CARLINI, honest=lambda nets:
                                      deployment.batch_dependent(nets.undefended)),
    "without_grad_mode": _of_both(deployment.without_grad_mode, asked=together),
    "of_even_sum": _of_both(deployment.of_even_sum, given=deployment.eight_bit, met=deployment.eight_bit_even),
    "sleeping_units": _sleeping_behind(torch.relu),
    "sleeping_clamps": _sleeping_behind(partial(torch.clamp, min=0)),
    "sleeping_gelus": _sleeping_behind(lambda features: functional.gelu(30 * features) / 30),
    "winners": Masker(lambda nets: nets.winners, _P, "Xiao et al. 2020", honest=lambda nets:
                      literature.smoothed(nets.winners), itself=True),
    "jpeg": _of_input(lambda nets: literature.jpeg, "Guo et al. 2018"),
    "median": _of_input(lambda nets: literature.median, "Xu et al. 2018", smooth=True),
    "purified": _of_input(lambda nets: literature.purified(nets.known), "Song et al. 2018, Samangouei et al. 2018",
                          smooth=True),
    "quilted": _of_input(lambda nets: literature.quilted(nets.known), "Guo et al. 2018"),
    "voting": Masker(lambda nets: literature.voting(_members(nets)), _P, TRAMER, honest=lambda nets:
                     literature.together_soft(_members(nets)), itself=True),
    "codes": _of_undefended(literature.codes, _P, "Verma and Swami 2019"),
    "neighbours": Masker(literature.neighbours, _P, "Papernot and McDaniel 2018", honest=lambda nets:
                         literature.neighbours(nets, heat=1.0)),
    "another_answer_far_from_data": Masker(lambda nets: literature.another_answer_far_from_data(
        nets.undefended, nets.robust, nets.known, 0.15), _P, TRAMER),
}


def built(name: str, folder: str) -> Model:
    """A new masker called `name` of the networks in `folder`; `functools.partial` of this can be pickled."""
    return MASKERS[name].build(networks(Path(folder)))
