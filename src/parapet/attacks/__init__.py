"""Attacks with one signature, the suite that combines them, and the audit that checks their results.

`attack(model, images, labels, *, eps, norm, ..., generator) -> adversarial images`; minimum-norm attacks take no
eps and return `(images, distances)`. The model is any callable from [0, 1] images to logits.
"""

from parapet.attacks.adaptive import Bpda, Eot, adapted
from parapet.attacks.audit import audit, audited_rows, run_audit
from parapet.attacks.auto_attack import auto_attack
from parapet.attacks.black_box.hop_skip_jump import hop_skip_jump
from parapet.attacks.black_box.random_noise import random_noise
from parapet.attacks.black_box.rays import rays
from parapet.attacks.black_box.square import square
from parapet.attacks.black_box.transfer import transfer
from parapet.attacks.compositions import Attack, full_suite, pgd_suite, search_suite
from parapet.attacks.examination import examine
from parapet.attacks.gradient.a3 import a3
from parapet.attacks.gradient.apgd import apgd
from parapet.attacks.gradient.fgsm import fgsm
from parapet.attacks.gradient.mi_fgsm import mi_fgsm
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.minimum_norm.carlini_wagner import carlini_wagner
from parapet.attacks.minimum_norm.deepfool import deepfool
from parapet.attacks.minimum_norm.fab import fab
from parapet.attacks.rapid import rapid
from parapet.attacks.suite import evaluate, run_suite, with_audit

__all__ = ["Attack", "Bpda", "Eot", "a3", "adapted", "apgd", "audit", "audited_rows", "auto_attack", "carlini_wagner",
           "deepfool", "evaluate", "examine", "fab", "fgsm", "full_suite", "hop_skip_jump", "mi_fgsm", "pgd",
           "pgd_suite", "random_noise", "rapid", "rays", "run_audit", "run_suite", "search_suite", "square", "transfer",
           "with_audit"]
