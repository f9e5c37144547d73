"""The parts of a network: backbones, activations, feature denoisers and input filters.

The modules are in `parapet.models`; a defence layer states there how an attack goes through it (`attacked_through`).
"""

from __future__ import annotations

from dataclasses import dataclass

from parapet.catalogue.spec import Catalogue


@dataclass(frozen=True)
class Backbone:
    """A family of networks.

    builder: "module:function" of (genome, image shape, classes) that gives a `parapet.models.backbones.Body`.
    stages: how many stages it has; a denoiser can follow any of them.
    sized: whether the genes width and depth change it; a published network of fixed size has neither.
    inherits_widths: whether a child of another width can start from its weights.
    """

    name: str
    builder: str
    stages: int = 2
    sized: bool = True
    inherits_widths: bool = True


@dataclass(frozen=True)
class Activation:
    """An activation; `builder` is "module:function" without arguments, which gives a module."""

    name: str
    builder: str


@dataclass(frozen=True)
class Layer:
    """A layer against attacks; `builder` is "module:function" of the number of channels.

    It builds a `parapet.models.defence.Defence`, which states how an attack goes through it. The name "none" has no
    builder and stands for a network without such a layer.
    """

    name: str
    builder: str | None


class Denoiser(Layer):
    """A feature denoiser, after a stage of the backbone."""


class InputFilter(Layer):
    """An input filter, before the pixels are normalised."""


_BACKBONES = "parapet.models.backbones"
BACKBONES: Catalogue[Backbone] = Catalogue("a backbone", (
    Backbone("plain", f"{_BACKBONES}.two_stage:plain"),
    Backbone("residual", f"{_BACKBONES}.two_stage:residual"),
    Backbone("separable", f"{_BACKBONES}.two_stage:separable"),
    Backbone("small_cnn", f"{_BACKBONES}.small_cnn:small_cnn", sized=False),
    Backbone("preact_resnet", f"{_BACKBONES}.resnets:preact_resnet", stages=4),
    Backbone("wide_resnet", f"{_BACKBONES}.resnets:wide_resnet", stages=3),
    Backbone("vit", f"{_BACKBONES}.vision_transformer:vit", inherits_widths=False),
))

ACTIVATIONS: Catalogue[Activation] = Catalogue("an activation", (
    Activation("relu", f"{_BACKBONES}.blocks:relu"),
    Activation("silu", "torch.nn:SiLU"),
    Activation("softplus", "torch.nn:Softplus"),
))

_DENOISERS = "parapet.models.denoisers"
DENOISERS: Catalogue[Denoiser] = Catalogue("a denoiser", (
    Denoiser("none", None),
    Denoiser("mean", f"{_DENOISERS}:MeanDenoiser"),
    Denoiser("median", f"{_DENOISERS}:MedianDenoiser"),
    Denoiser("gaussian", f"{_DENOISERS}:GaussianNonLocalDenoiser"),
    Denoiser("dot_product", f"{_DENOISERS}:DotProductNonLocalDenoiser"),
))

_FILTERS = "parapet.models.filters"
FILTERS: Catalogue[InputFilter] = Catalogue("an input filter", (
    InputFilter("none", None),
    InputFilter("bit_depth", f"{_FILTERS}:bit_depth"),
    InputFilter("median", f"{_FILTERS}:median_filter"),
    InputFilter("smoothing", f"{_FILTERS}:LearnedSmoothing"),
))
