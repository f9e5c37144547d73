"""Attacks with one signature, the suite that combines them, and the audit that doubts their outcome.

`attack(model, images, labels, *, eps, norm, ..., generator) -> adversarial images`; minimum-norm attacks take no
eps and return `(images, distances)`. The model is any callable from [0, 1] images to logits.
"""

from parapet.attacks.adaptive import Bpda, Eot
from parapet.attacks.apgd import apgd
from parapet.attacks.audit import audit
from parapet.attacks.auto_attack import auto_attack
from parapet.attacks.deepfool import deepfool
from parapet.attacks.fab import fab
from parapet.attacks.fgsm import fgsm
from parapet.attacks.pgd import pgd
from parapet.attacks.square import square
from parapet.attacks.suite import Attack, evaluate, full_suite, run_suite, search_suite

__all__ = ["Attack", "Bpda", "Eot", "apgd", "audit", "auto_attack", "deepfool", "evaluate", "fab", "fgsm", "full_suite",
           "pgd", "run_suite", "search_suite", "square"]
