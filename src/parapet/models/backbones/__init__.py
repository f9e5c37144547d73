"""Backbones: functions of (genome, image shape, classes) that give a `Body`, listed in `parapet.catalogue.networks`."""

from parapet.models.backbones.blocks import NormalisedConvolution
from parapet.models.backbones.body import Body

__all__ = ["Body", "NormalisedConvolution"]
