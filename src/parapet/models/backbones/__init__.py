"""Backbones: functions of (genome, image shape, classes) that give a `Body`, listed in `parapet.catalogue.networks`."""

from parapet.models.backbones.blocks import NormalisedConvolution
from parapet.models.backbones.body import Backbone, Body

__all__ = ["Backbone", "Body", "NormalisedConvolution"]
