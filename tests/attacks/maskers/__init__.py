"""Ways to look robust without being so, by kind; `registry.MASKERS` lists them with how their true accuracy is found.

Most take a network and return a callable that hides its adversarial images from attacks.
"""

from tests.attacks.maskers.base import Masker, Model, Networks
from tests.attacks.maskers.deployment import (
    WhenFrozen,
    batch_dependent,
    framed,
    framed_in_grey,
    in_a_bulk_job,
    in_a_large_batch,
    in_few_bits,
    in_inference_mode,
    in_medium_batches,
    in_steps_of,
    of_grey_pixels,
    on_the_float16_grid,
    on_the_grid,
    one_at_a_time,
    under_examination,
)
from tests.attacks.maskers.gradients import (
    bit_depth_without_bpda,
    gradient_far_from_data,
    gradient_killed,
    gradient_nan,
    gradient_noise,
    gradient_replaced,
    gradient_sparse,
    gradient_turned,
    gradient_underflow,
    no_graph,
    shattered,
    sign_quantised,
    squashed_input,
    thermometer,
    with_gradient,
)
from tests.attacks.maskers.loaders import dying, from_file, honest, in_this_file, sleeping, unlicensed
from tests.attacks.maskers.logits import (
    clipped_logits,
    logits_times_1000,
    one_hot,
    one_hot_through,
    probabilities,
    rounded_logits,
)
from tests.attacks.maskers.memory import CleanLooking, Detector, Halves, InAFile, Memo, Plausible, Tired
from tests.attacks.maskers.randomness import Noisy, hashed_noise
from tests.attacks.maskers.registry import MASKERS, built

__all__ = [
    "MASKERS", "CleanLooking", "Detector", "Halves", "InAFile", "Masker", "Memo", "Model", "Networks", "Noisy",
    "Plausible", "Tired", "WhenFrozen", "batch_dependent", "bit_depth_without_bpda", "built", "clipped_logits",
    "dying", "framed", "framed_in_grey", "from_file", "gradient_far_from_data", "gradient_killed", "gradient_nan",
    "gradient_noise", "gradient_replaced", "gradient_sparse", "gradient_turned", "gradient_underflow",
    "hashed_noise", "honest", "in_a_bulk_job", "in_a_large_batch", "in_few_bits", "in_inference_mode",
    "in_medium_batches", "in_steps_of", "in_this_file", "logits_times_1000", "no_graph", "of_grey_pixels",
    "on_the_float16_grid", "on_the_grid", "one_at_a_time", "one_hot", "one_hot_through", "probabilities",
    "rounded_logits", "shattered", "sign_quantised", "sleeping", "squashed_input", "thermometer",
    "under_examination", "unlicensed", "with_gradient",
]
