"""How training images are attacked, and the regularisers that may join any loss."""

from __future__ import annotations

from dataclasses import dataclass

from parapet.catalogue.spec import Catalogue


@dataclass(frozen=True)
class Crafting:
    """An attack of training, a word of the gene crafting; the attacks themselves are in `parapet.training.crafting`.

    iterated: whether the gene steps sets its number of steps; the others take one.
    borrows: whether it also crafts on other networks, which have to be trained without attacks beforehand.
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
    versions: the versions of each image that it needs in the pass, of clean and noisy.
    differentiated_twice: whether its gradient needs second derivatives, which double the passes.
    attacked: whether it means anything only where the loss trains on adversarial images.
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
