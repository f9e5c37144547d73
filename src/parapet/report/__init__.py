"""The report: one HTML page, model cards, rows for `dvc plots` and `dvc metrics`, and a picture for the README.

Everything here is a pure function of front.json, the evaluation records and the archive; nothing is measured here.
"""
