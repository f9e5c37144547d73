"""The steps as Kubeflow components: types here, one call into the library each, nothing installed at run time.

A component's parameters that are named like sections of params.yaml hold such a section as JSON text, because whole
numbers inside a Kubeflow dict become floats. A function's source is copied into the compiled pipeline, so that it sees
nothing of its module but what it imports itself.
"""

from components.attack_evaluation import attack_evaluation
from components.candidates import candidates
from components.data_prep import data_prep
from components.export import export
from components.front import front
from components.full_evaluation import full_evaluation
from components.measure import measure
from components.outcome import outcome
from components.promotion import promotion
from components.report import report
from components.search import search
from components.training import training

__all__ = ["attack_evaluation", "candidates", "data_prep", "export", "front", "full_evaluation", "measure", "outcome",
           "promotion", "report", "search", "training"]
