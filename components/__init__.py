"""The steps as Kubeflow components: each declares its types and makes one call into the library; it installs nothing.

A parameter with the name of a section of params.yaml holds this section as JSON text, because integers inside a
Kubeflow dict become floats. The source of a component's function is copied into the compiled pipeline, so it can use
only names that it imports itself.
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
