"""Networks built from a genome: images in [0, 1], shape (N, C, H, W), to logits (N, classes).

Normalisation, input filters and denoisers are inside the network, so that every attack passes through them.
"""

from parapet.models.network import Network, build, check_fit
from parapet.models.weights import load, read_metadata, save

__all__ = ["Network", "build", "check_fit", "load", "read_metadata", "save"]
