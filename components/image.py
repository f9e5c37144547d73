"""The container image of every component, unless `python -m pipelines compile --image` names another."""

IMAGE = "parapet:dev"
