"""Backbones: functions of (genome, image shape, classes) that give a `Body`, in one table by the gene's word."""

from parapet.models.backbones.blocks import ACTIVATIONS, NormalisedConvolution
from parapet.models.backbones.body import Backbone, Body
from parapet.models.backbones.resnets import preact_resnet, wide_resnet
from parapet.models.backbones.small_cnn import small_cnn
from parapet.models.backbones.two_stage import plain, residual, separable
from parapet.models.backbones.vision_transformer import vit

BACKBONES: dict[str, Backbone] = {
    "plain": plain, "residual": residual, "separable": separable, "small_cnn": small_cnn,
    "preact_resnet": preact_resnet, "wide_resnet": wide_resnet, "vit": vit,
}

__all__ = ["ACTIVATIONS", "BACKBONES", "Backbone", "Body", "NormalisedConvolution"]
