"""The report: one HTML page, model cards, rows for `dvc plots` and `dvc metrics`, and a picture for the README.

Everything here is a pure function of front.json, the evaluation records and the archive; nothing is measured here.
"""

from parapet.report.card import model_card
from parapet.report.dvc_plots import metrics, plot_tables
from parapet.report.images import AdversarialImages
from parapet.report.page import render
from parapet.report.svg import front_svg

__all__ = ["AdversarialImages", "front_svg", "metrics", "model_card", "plot_tables", "render"]
