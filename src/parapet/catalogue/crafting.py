"""The attacks of training, and the regularisers that can be added to any loss."""

from __future__ import annotations

from dataclasses import dataclass

from parapet.catalogue.spec import Catalogue


@dataclass(frozen=True)
class Crafting:
    """An attack of training, a word of the gene crafting; the code is in `parapet.training.crafting`.

    iterated: whether the gene steps sets its number of steps; the others have one step.
    borrows: whether it also attacks other networks, which are trained without attacks beforehand.
    """

    name: str
    iterated: bool = False
    borrows: bool = False


CRAFTINGS: Catalogue[Crafting] = Catalogue("a way of crafting", (
    Crafting("pgd", iterated=True),
    Crafting("fgsm"),
    Crafting("n_fgsm"),
    Crafting("ensemble", borrows=True),
))


@dataclass(frozen=True)
class Regulariser:
    """A term beside the loss, with the gene of the same name as its weight.

    function: "module:function" of (model, images, labels, adversarial, *, eps, norm, seeds, noisy, logits).
    versions: the versions of each image, clean or noisy, that it needs in the forward pass.
    differentiated_twice: whether its gradient needs second derivatives, which double the passes.
    attacked: whether it has an effect only where the loss trains on adversarial images.
    """

    name: str
    function: str
    versions: tuple[str, ...] = ()
    differentiated_twice: bool = False
    attacked: bool = False


_MODULE = "parapet.training.regularisers"
REGULARISERS: Catalogue[Regulariser] = Catalogue("a regulariser", (
    Regulariser("input_gradient", f"{_MODULE}:input_gradient", ("clean",), differentiated_twice=True),
    Regulariser("gradient_alignment", f"{_MODULE}:gradient_alignment", ("clean", "noisy"), differentiated_twice=True,
                attacked=True),
    Regulariser("logit_squeezing", f"{_MODULE}:logit_squeezing"),
))
